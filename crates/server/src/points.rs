//! Metrics of a run, as runners delivered them: a point of JSON a line.

use trainyard_api::{Metric, runner::Point};
use trainyard_store::Record;

use crate::{logs::RunLog, state::App};

/// Points that the details of a run show: the newest. All of them are in the monitor and in the bucket.
const SHOWN: usize = 10_000;
/// Bytes that are read at once: more than the longest line that a runner writes, of 256 names of 256
/// characters that take six each.
const CHUNK: usize = 1 << 20;

/// The newest points, oldest first.
pub(crate) fn newest(app: &App, record: &Record) -> Vec<Metric> {
    if record.run.attempt == 0 {
        return Vec::new();
    }
    let log = app.metrics.of(&record.id);
    let mut points = Vec::new();
    if log.size() == 0 {
        if record.run.is_ended() {
            app.metrics.close(&record.id);
        }
        return points;
    }
    let mut offset = log.last_lines(SHOWN);
    loop {
        let (chunk, next) = read(&log, offset);
        if next == offset {
            break;
        }
        points.extend(chunk.into_iter().map(|(metric, _)| metric));
        offset = next;
    }
    if record.run.is_ended() {
        app.metrics.close(&record.id);
    }
    points
}

/// Points from `offset` on, each with the offset behind it; and the offset behind all of them, which is
/// the same as `offset` where there are none.
pub(crate) fn read(log: &RunLog, offset: u64) -> (Vec<(Metric, u64)>, u64) {
    let bytes = log.read(offset, CHUNK);
    let mut end = offset;
    let mut points = Vec::new();
    for line in bytes.split_inclusive(|b| *b == b'\n').filter(|l| l.ends_with(b"\n")) {
        end += line.len() as u64;
        if let Ok(point) = serde_json::from_slice::<Point>(line) {
            points.push((point.metric, end));
        }
    }
    if end == offset && bytes.len() == CHUNK {
        // No runner writes such a line: it is passed over.
        end += bytes.len() as u64;
    }
    (points, end)
}
