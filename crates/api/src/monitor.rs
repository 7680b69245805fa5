//! Frames of the monitor WebSocket.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Metric, Phase, RunState, Time};

/// `status` of a frame; every field but the times may be missing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FrameStatus {
    /// State of the run when the frame was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<RunState>,
    /// Log lines, each with its line end; or `<run id>: ` and a status message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// At most one metric.
    #[serde(default)]
    pub metrics: Vec<Metric>,
    /// When the run was accepted.
    #[serde(default)]
    pub submitted_at: Time,
    /// When the frame was made.
    #[serde(default)]
    pub current_at: Time,
    /// Trainyard: the finer phase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Trainyard: the frame carries log lines, not a status message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    /// Trainyard: metrics of the run up to the end of this frame, to go on from after a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_seen: Option<u64>,
    /// Trainyard: bytes of the log up to the end of this frame, to go on from after a break.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
}

/// One text frame of `GET /v3/models/{run}/monitor`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Frame {
    /// The only key.
    pub status: FrameStatus,
}
