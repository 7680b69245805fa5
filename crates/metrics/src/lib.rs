//! Metrics out of what training programs write: emetrics lines and TensorBoard event files.
//!
//! Readers are handed bytes and say how many they have used; nothing here does I/O, and whatever a program
//! writes, nothing here panics or grows without bound.

mod emetrics;
mod proto;
mod tensorboard;

pub use emetrics::{Emetrics, emetrics_line};
pub use tensorboard::TensorBoard;
use trainyard_api::{Metric, MetricValue, Time};

/// Values of one point at most; more are left out.
const MOST_VALUES: usize = 256;
/// Longest name of a value or group, in bytes; the rest is cut off.
const MOST_NAME: usize = 256;

/// What a reader made of some bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// Points, each with the number of bytes behind it, counted from the first one given.
    pub points: Vec<(Metric, usize)>,
    /// Bytes that are used up: the next call begins behind them.
    pub used: usize,
    /// The rest cannot be read, now or later.
    pub broken: Option<&'static str>,
}

/// Whether these are milliseconds since 1970, and not something in other units.
fn is_time(ms: i64) -> bool {
    ms > 0 && jiff::Timestamp::from_millisecond(ms).is_ok()
}

/// A point, unless it has no finite value.
fn point(
    at: Time,
    iteration: i64,
    phase: &str,
    values: impl IntoIterator<Item = (String, f64)>,
) -> Option<Metric> {
    let values: Vec<MetricValue> = values
        .into_iter()
        // JSON has no way to write the others.
        .filter(|(_, value)| value.is_finite())
        .take(MOST_VALUES)
        .map(|(name, value)| MetricValue { name: cut(&name), value })
        .collect();
    let whole = !values.is_empty();
    whole.then(|| Metric { timestamp: at.to_string(), iteration, phase: cut(phase), values })
}

/// The beginning of a name, cut between two characters.
fn cut(name: &str) -> String {
    let end = (0..=MOST_NAME.min(name.len())).rev().find(|at| name.is_char_boundary(*at)).unwrap_or(0);
    name[..end].to_owned()
}
