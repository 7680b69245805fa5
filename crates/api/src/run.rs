//! Training runs on the wire: what is posted to `/v3/models`, and what comes back.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{DataReference, Metric, RunId, Time, runner::EngineName};

/// Name and version of a framework, with the language it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Framework {
    /// For example `tensorflow`.
    pub name: String,
    /// A version or its beginning; the newest match is taken.
    #[serde(deserialize_with = "text_or_number")]
    pub version: String,
    /// Usually one entry, `python` and its version.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "one_or_many")]
    pub runtimes: Vec<Runtime>,
}

/// A language runtime, such as python 3.11.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Runtime {
    /// `python`.
    pub name: String,
    /// A version or its beginning.
    #[serde(deserialize_with = "text_or_number")]
    pub version: String,
}

/// Who wrote the model. Kept and returned, without meaning for the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Author {
    /// A person's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A mail address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
}

/// The size of machine that a run asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComputeConfiguration {
    /// A name from the server's compute catalogue, such as `k80` or `cpu`.
    #[serde(default)]
    pub name: String,
    /// Number of learners; absent means 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<u32>,
    /// Which engine runs it, where the server has several. A Trainyard field; absent: the one of the compute
    /// configuration, or the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<EngineName>,
}

/// What is executed, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Execution {
    /// A shell command line, run in the unpacked definition.
    #[serde(default)]
    pub command: String,
    /// The size asked for.
    #[serde(default)]
    pub compute_configuration: ComputeConfiguration,
    /// Longest time that the program may run, in seconds. A Trainyard field; 0 or absent: the
    /// server's limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_run_time: Option<u64>,
}

/// What a run executes: name, framework, command, and the stored zip.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ModelDefinition {
    /// Free text; need not be unique.
    #[serde(default)]
    pub name: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Kept, and returned as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<serde_json::Value>,
    /// The framework asked for.
    #[serde(default)]
    pub framework: Framework,
    /// URL of the stored definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition_href: Option<String>,
    /// Command and compute configuration.
    #[serde(default)]
    pub execution: Execution,
}

/// The body of `POST /v3/models`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NewRun {
    /// What to execute.
    pub model_definition: ModelDefinition,
    /// The data bucket.
    pub training_data_reference: DataReference,
    /// The results bucket.
    pub training_results_reference: DataReference,
}

/// Identity of a thing and the times at which it was made and changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Metadata<Id> {
    /// Its id.
    pub guid: Id,
    /// Where it is found.
    pub url: String,
    /// When it was made.
    pub created_at: Time,
    /// When it last changed.
    pub modified_at: Time,
}

/// The five states that users of the v3 API see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Accepted; waits for a place.
    #[default]
    Pending,
    /// From staging in to storing.
    Running,
    /// Ended well; results are in the bucket.
    Completed,
    /// Failed.
    Error,
    /// Canceled by its owner.
    Canceled,
}

impl RunState {
    /// Whether nothing changes any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Pending | Self::Running)
    }

    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Error => "error",
            Self::Canceled => "canceled",
        }
    }
}

/// The finer phase of a run, in the words of the original's engine.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Phase {
    /// Waits for a place.
    #[default]
    Queued,
    /// Has a place; its runner is starting.
    Pending,
    /// Data, definition and environment are being made ready.
    Downloading,
    /// The program runs.
    Processing,
    /// Results and logs are being stored.
    Storing,
    /// Ended well.
    Completed,
    /// Ended badly.
    Failed,
    /// Canceled.
    Halted,
}

impl Phase {
    /// The word used on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Pending => "PENDING",
            Self::Downloading => "DOWNLOADING",
            Self::Processing => "PROCESSING",
            Self::Storing => "STORING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Halted => "HALTED",
        }
    }
}

/// Why a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// A stable code, `TY04xx`.
    pub code: String,
    /// One sentence.
    pub message: String,
    /// Exit status of the program, when it exited by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Name of the signal that ended the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
}

/// `status.error`, where client 1.0.391 looks for the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusError {
    /// One entry per reason, the first one first.
    #[serde(default)]
    pub errors: Vec<Failure>,
}

/// When a run entered a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transition {
    /// The phase entered.
    pub phase: Phase,
    /// The attempt it belongs to, from 1.
    pub attempt: u32,
    /// When.
    pub at: Time,
}

/// `entity.status` of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// One of five.
    pub state: RunState,
    /// `<run id>: ` and what there is to say.
    #[serde(default)]
    pub message: String,
    /// Metrics, oldest first; empty when there are none.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// When the run was accepted.
    pub submitted_at: Time,
    /// When its first attempt had a place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub running_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
    /// When this answer was made.
    pub current_at: Time,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StatusError>,
    /// Trainyard: the finer phase.
    #[serde(default)]
    pub phase: Phase,
    /// Trainyard: the attempt that counts, from 1.
    #[serde(default)]
    pub attempt: u32,
    /// Trainyard: whether a cancel is under way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub canceling: bool,
    /// Trainyard: what a waiting run waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// Trainyard: when each phase began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<Transition>,
    /// Trainyard: the last lines of the log, for a run that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_log_lines: Vec<String>,
    /// Trainyard: the environment that was chosen, such as `tensorflow 2.21.0, python 3.11`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Trainyard: how far each learner is, of a run under way that has several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<LearnerStatus>,
}

/// How far one of several learners is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LearnerStatus {
    /// Its number, from 1.
    pub number: u32,
    /// The finer phase.
    pub phase: Phase,
    /// It is done, and has stored what it wrote.
    pub stored: bool,
    /// Where the others reach it, once it has staged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// `entity` of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunEntity {
    /// As it was submitted.
    pub model_definition: ModelDefinition,
    /// As it was submitted, with `location` beside `source`.
    pub training_data_reference: DataReference,
    /// As it was submitted, with `location` beside `target`.
    pub training_results_reference: DataReference,
    /// How it stands.
    pub status: Status,
}

/// A run, as `GET /v3/models/{id}` answers it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Identity.
    pub metadata: Metadata<RunId>,
    /// Content.
    pub entity: RunEntity,
}

/// One operation of a JSON Patch (RFC 6902); a cancel is one `replace` of `/status/state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PatchOp {
    /// `replace`.
    pub op: String,
    /// A JSON pointer.
    pub path: String,
    /// The new value.
    #[serde(default)]
    pub value: serde_json::Value,
}

/// Versions stand as text in the documentation and as numbers in many public manifests.
fn text_or_number<'de, D: serde::Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    match serde_json::Value::deserialize(d)? {
        serde_json::Value::String(s) => Ok(s),
        serde_json::Value::Number(n) => Ok(n.to_string()),
        other => Err(serde::de::Error::custom(format!("a version is text or a number, not {other}"))),
    }
}

/// `runtimes` was a list until February 2018, and a mapping from then on.
fn one_or_many<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<Runtime>, D::Error> {
    let value = serde_json::Value::deserialize(d)?;
    let list = match value {
        serde_json::Value::Null => Vec::new(),
        serde_json::Value::Array(list) => list,
        one => vec![one],
    };
    list.into_iter().map(|v| serde_json::from_value(v).map_err(serde::de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framework_takes_every_public_form() {
        let list: Framework = serde_json::from_str(
            r#"{"name":"tensorflow","version":1.5,"runtimes":[{"name":"python","version":"3.5"}]}"#,
        )
        .unwrap();
        let map: Framework = serde_json::from_str(
            r#"{"name":"tensorflow","version":"1.5","runtimes":{"name":"python","version":3.5}}"#,
        )
        .unwrap();
        assert_eq!(list, map);
    }
}
