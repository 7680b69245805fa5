//! The manifest of a training run: its fields, and how they are read.

use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    Problem, Report,
    duration::parse_duration,
    old_forms::OLD_TYPES,
    reader::{Reader, scalar},
    tree::{Node, Value, read_whole},
};

/// A training run: what to execute, on which data, and where the results go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TrainingManifest {
    /// What to execute.
    pub model_definition: ModelDefinition,
    /// Where the data is.
    pub training_data_reference: DataReference,
    /// Where the results go.
    pub training_results_reference: ResultsReference,
}

/// What to execute.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ModelDefinition {
    /// A name for the run; need not be unique.
    pub name: String,
    /// A sentence about it.
    pub description: Option<String>,
    /// Who wrote it.
    pub author: Option<Author>,
    /// The framework it is written for.
    pub framework: Framework,
    /// The command, and the machine it runs on.
    pub execution: Execution,
}

/// Who wrote the model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Author {
    /// A person's name.
    pub name: Option<String>,
    /// A mail address.
    pub email: Option<String>,
}

/// A framework and its version. `trainyard frameworks` lists what there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Framework {
    /// For example `tensorflow` or `pytorch`; `custom` is the machine's own python.
    pub name: String,
    /// A version or its beginning: `"2"` takes the newest 2.
    pub version: String,
    /// The language runtime; python 3 when absent.
    pub runtimes: Vec<Runtime>,
}

/// A language runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Runtime {
    /// `python`.
    pub name: String,
    /// A version or its beginning.
    pub version: String,
}

/// The command, and the machine it runs on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Execution {
    /// A shell command line. It runs in the unpacked code, with `DATA_DIR` and `RESULT_DIR` set.
    pub command: String,
    /// The size of machine.
    pub compute_configuration: Compute,
    /// Longest time that the program may run, in seconds.
    pub max_run_time: Option<u64>,
}

/// A size of machine, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Compute {
    /// For example `cpu` or `k80`.
    pub name: String,
    /// Number of learners; 1 when absent.
    pub nodes: Option<u32>,
    /// `local` or `slurm`; absent: the server chooses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
}

/// An S3 endpoint and keys for it. Values may be `${env:NAME}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Connection {
    /// A credential from your credentials file, in place of the other fields.
    pub name: Option<String>,
    /// The address, with or without a scheme.
    pub endpoint_url: Option<String>,
    /// The public half of the key pair.
    pub access_key_id: Option<String>,
    /// The secret half.
    pub secret_access_key: Option<String>,
}

/// A bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Bucket {
    /// Its name.
    pub bucket: String,
}

/// Where the data is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DataReference {
    /// A label.
    pub name: Option<String>,
    /// Endpoint and keys.
    pub connection: Connection,
    /// The whole bucket is the data set.
    pub source: Bucket,
}

/// Where the results go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResultsReference {
    /// A label.
    pub name: Option<String>,
    /// Endpoint and keys.
    pub connection: Connection,
    /// Results go below the run's id in this bucket.
    pub target: Bucket,
}

/// Parses and checks a manifest. `name` is the file's, for messages; `overrides` are
/// `path.to.key=value` settings that win over the text.
pub fn parse(name: &str, text: &str, overrides: &[String]) -> Result<TrainingManifest, Report> {
    read_whole(name, text, overrides, read)
}

fn read(root: &Node, problems: &mut Vec<Problem>) -> TrainingManifest {
    let mut manifest = TrainingManifest::default();
    let Some(mut top) = Reader::new(root, "", problems) else { return manifest };
    if let Some(reader) = top.required_child("model_definition", problems) {
        manifest.model_definition = model_definition(reader, problems);
    }
    if let Some(reader) = top.required_child("training_data_reference", problems) {
        let (name, connection, bucket) = reference(reader, "source", problems);
        manifest.training_data_reference = DataReference { name, connection, source: bucket };
    }
    if let Some(reader) = top.required_child("training_results_reference", problems) {
        let (name, connection, bucket) = reference(reader, "target", problems);
        manifest.training_results_reference = ResultsReference { name, connection, target: bucket };
    }
    top.finish(problems);
    manifest
}

fn model_definition(mut reader: Reader<'_>, problems: &mut Vec<Problem>) -> ModelDefinition {
    let mut definition = ModelDefinition {
        name: reader.required_text("name", problems),
        description: reader.text("description", problems),
        author: author(&mut reader, problems),
        ..ModelDefinition::default()
    };
    if let Some(framework) = reader.required_child("framework", problems) {
        definition.framework = read_framework(framework, problems);
    }
    // The documentation's text put it here, all its examples under `execution`.
    let outer = reader.child("compute_configuration", problems).map(|r| compute(r, problems));
    if let Some(mut execution) = reader.required_child("execution", problems) {
        definition.execution.command = execution.required_text("command", problems);
        definition.execution.max_run_time = max_run_time(&mut execution, problems);
        let inner = execution.child("compute_configuration", problems).map(|r| compute(r, problems));
        match inner.or(outer) {
            Some(compute) => definition.execution.compute_configuration = compute,
            None => execution.missing("compute_configuration", problems),
        }
        execution.finish(problems);
    }
    reader.finish(problems);
    definition
}

/// A mapping, or in 2017 plain text.
pub(crate) fn author(reader: &mut Reader<'_>, problems: &mut Vec<Problem>) -> Option<Author> {
    let path = reader.at("author");
    let node = reader.get("author")?;
    if let Value::Scalar { text, .. } = &node.value {
        return Some(Author { name: Some(text.clone()), email: None });
    }
    let mut inner = Reader::new(node, &path, problems)?;
    let author = Author { name: inner.text("name", problems), email: inner.text("email", problems) };
    inner.finish(problems);
    Some(author)
}

pub(crate) fn read_framework(mut reader: Reader<'_>, problems: &mut Vec<Problem>) -> Framework {
    let name = reader.required_text("name", problems);
    let path = reader.at("version");
    let mut version = String::new();
    if let Some(node) = reader.require("version", problems)
        && let Some(text) = scalar(node, &path, problems)
    {
        if let Some(plain) = text.strip_suffix("-py2").or(text.strip_suffix("-py3")) {
            let help =
                format!("write `version: \"{plain}\"`, and `runtimes: {{name: python, version: \"3\"}}`");
            problems.push(
                Problem::new(
                    node.span.clone(),
                    "the python version is not part of the version",
                    "a form of 2017",
                )
                .help(help),
            );
        }
        version = text;
    }
    let path = reader.at("runtimes");
    let runtimes = match reader.get("runtimes") {
        None => Vec::new(),
        Some(Node { value: Value::List(list), .. }) => {
            list.iter().filter_map(|node| runtime(node, &path, problems)).collect()
        }
        Some(node) => runtime(node, &path, problems).into_iter().collect(),
    };
    reader.finish(problems);
    Framework { name, version, runtimes }
}

fn runtime(node: &Node, path: &str, problems: &mut Vec<Problem>) -> Option<Runtime> {
    let mut reader = Reader::new(node, path, problems)?;
    let runtime = Runtime {
        name: reader.required_text("name", problems),
        version: reader.required_text("version", problems),
    };
    reader.finish(problems);
    Some(runtime)
}

/// Engines that a run may name.
pub(crate) const ENGINES: [&str; 2] = ["local", "slurm"];

fn compute(mut reader: Reader<'_>, problems: &mut Vec<Problem>) -> Compute {
    let name = reader.required_text("name", problems);
    let nodes = reader.get("nodes").and_then(|node| match &node.value {
        Value::Scalar { text, .. } if text.parse::<u32>().is_ok_and(|n| n > 0) => text.parse().ok(),
        _ => {
            problems.push(Problem::new(node.span.clone(), "`nodes` has to be a whole number from 1", "here"));
            None
        }
    });
    let path = reader.at("engine");
    let engine = reader.get("engine").and_then(|node| {
        let text = scalar(node, &path, problems)?;
        if ENGINES.contains(&text.as_str()) {
            return Some(text);
        }
        let problem = Problem::new(node.span.clone(), format!("there is no engine `{text}`"), "here");
        problems.push(problem.help(format!("there are {}", ENGINES.map(|e| format!("`{e}`")).join(" and "))));
        None
    });
    reader.finish(problems);
    Compute { name, nodes, engine }
}

fn max_run_time(reader: &mut Reader<'_>, problems: &mut Vec<Problem>) -> Option<u64> {
    let path = reader.at("max_run_time");
    let node = reader.get("max_run_time")?;
    let parsed = scalar(node, &path, problems)?;
    let seconds = parse_duration(&parsed);
    if seconds.is_none() {
        let problem = Problem::new(node.span.clone(), "`max_run_time` is not a duration", "here");
        problems.push(problem.help("write seconds, or a number with s, m, h or d: `12h`"));
    }
    seconds
}

fn reference(
    mut reader: Reader<'_>,
    end: &'static str,
    problems: &mut Vec<Problem>,
) -> (Option<String>, Connection, Bucket) {
    let name = reader.text("name", problems);
    let connection = reader
        .required_child("connection", problems)
        .map(|r| read_connection(r, problems))
        .unwrap_or_default();
    let path = reader.at("type");
    let outer = reader.get("type");
    let mut inner = None;
    let mut bucket = Bucket::default();
    if let Some(mut place) = reader.required_child(end, problems) {
        bucket.bucket = place.required_text("bucket", problems);
        if let Some(node) = place.get("bucket")
            && bucket.bucket.contains("${env:")
        {
            let problem = Problem::new(
                node.span.clone(),
                "references are resolved in `connection` values only",
                "here",
            );
            problems.push(problem);
        }
        inner = place.get("type");
        place.finish(problems);
    }
    match outer.or(inner) {
        Some(node) => check_type(node, &path, problems),
        None => reader.missing("type", problems),
    }
    reader.finish(problems);
    (name, connection, bucket)
}

fn check_type(node: &Node, path: &str, problems: &mut Vec<Problem>) {
    let Some(text) = scalar(node, path, problems) else { return };
    if text == "s3" {
        return;
    }
    let problem = Problem::new(
        node.span.clone(),
        format!("`{path}` is `{text}`, and only `s3` is there"),
        "write `s3`",
    );
    problems.push(if OLD_TYPES.contains(&text.as_str()) {
        problem.help("this store type was used before 2018; any S3 endpoint takes its place")
    } else {
        problem
    });
}

fn read_connection(mut reader: Reader<'_>, problems: &mut Vec<Problem>) -> Connection {
    let name = reader.text("name", problems);
    let either = |a: Option<String>, b: Option<String>| a.or(b);
    let connection = Connection {
        name,
        endpoint_url: reader.text("endpoint_url", problems),
        access_key_id: either(
            reader.text("access_key_id", problems),
            reader.text("aws_access_key_id", problems),
        ),
        secret_access_key: either(
            reader.text("secret_access_key", problems),
            reader.text("aws_secret_access_key", problems),
        ),
    };
    if connection.name.is_none() {
        let fields = [
            ("endpoint_url", &connection.endpoint_url),
            ("access_key_id", &connection.access_key_id),
            ("secret_access_key", &connection.secret_access_key),
        ];
        for (key, value) in fields {
            if value.as_ref().is_none_or(|v| v.trim().is_empty()) {
                reader.missing(key, problems);
            }
        }
    }
    reader.finish(problems);
    connection
}
