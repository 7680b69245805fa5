//! Metrics of a run: named numbers at a step.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A point: what a program reported at one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metric {
    /// When, as the program's own clock had it: RFC 3339 with three decimals.
    pub timestamp: String,
    /// Step of the training.
    pub iteration: i64,
    /// Group: `train`, `test`, or the name of a TensorBoard folder.
    pub phase: String,
    /// At least one.
    pub values: Vec<MetricValue>,
}

/// A named number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MetricValue {
    /// Such as `accuracy`.
    pub name: String,
    /// Finite.
    pub value: f64,
}
