//! Emetrics: a line of JSON a point, in `evaluation-metrics.txt`. The format is the original's; its sample
//! writer, `emetrics.py`, is the source, slips included: the time that it writes is malformed.

use jiff::{civil::DateTime, tz::TimeZone};
use serde_json::{Map, Value, json};
use trainyard_api::{Metric, Time};

use crate::{Read, is_time, point};

/// Longest line; longer ones are passed over.
const MOST_LINE: usize = 64 * 1024;
/// Value types: 2 is a whole number and 3 a number; 0 is text and 1 JSON, which are no metrics.
const NUMBERS: [i64; 2] = [2, 3];

/// Reads a file from any line on.
#[derive(Clone, Debug, Default)]
pub struct Emetrics {
    /// In the middle of a line that is too long.
    skipping: bool,
}

impl Emetrics {
    /// Reads whole lines. `now` is the time of points that do not say theirs.
    pub fn read(&mut self, bytes: &[u8], now: Time) -> Read {
        let mut read = Read::default();
        while let Some(length) = bytes[read.used..].iter().position(|b| *b == b'\n') {
            let line = &bytes[read.used..read.used + length];
            read.used += length + 1;
            let skipped = std::mem::take(&mut self.skipping) || line.len() > MOST_LINE;
            if let Some(metric) = parse(line, now).filter(|_| !skipped) {
                read.points.push((metric, read.used));
            }
        }
        if bytes.len() - read.used > MOST_LINE {
            self.skipping = true;
            read.used = bytes.len();
        }
        read
    }

    /// Reads what is left when nothing is written any more: the last line may have no end.
    pub fn read_last(&mut self, bytes: &[u8], now: Time) -> Read {
        let mut read = self.read(bytes, now);
        if read.used < bytes.len() {
            let line = &bytes[read.used..];
            read.used = bytes.len();
            if let Some(metric) = parse(line, now).filter(|_| !self.skipping) {
                read.points.push((metric, read.used));
            }
        }
        read
    }
}

fn parse(line: &[u8], now: Time) -> Option<Metric> {
    let line: Value = serde_json::from_slice(line).ok()?;
    let iteration = number(&line["etimes"]["iteration"]["value"]).unwrap_or(0.0);
    let at = line["meta"]["time"].as_i64().filter(|ms| is_time(*ms)).map(Time);
    let at = at.or_else(|| written_time(line["etimes"]["time_stamp"]["value"].as_str()?)).unwrap_or(now);
    let values = line["values"].as_object()?.iter().filter_map(|(name, value)| {
        let is_number = value["type"].as_i64().is_some_and(|t| NUMBERS.contains(&t));
        let value = if is_number { number(&value["value"]) } else { value.as_f64() };
        Some((name.clone(), value?))
    });
    point(at, iteration as i64, line["grouplabel"].as_str().unwrap_or(""), values)
}

/// A number, or text that is one.
fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str()?.trim().parse().ok())
}

/// `2018-04-20T10:11:12.…`, in UTC; what follows the seconds is not a fraction of one.
fn written_time(text: &str) -> Option<Time> {
    let time: DateTime = text.get(..19)?.parse().ok()?;
    Some(Time(time.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond()))
}

/// The point of run `run` as an emetrics line, without its line end.
pub fn emetrics_line(metric: &Metric, run: &str) -> String {
    let time = metric.timestamp.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond);
    let values: Map<String, Value> = metric
        .values
        .iter()
        .map(|v| (v.name.clone(), json!({ "type": 3, "value": v.value.to_string() })))
        .collect();
    let line = json!({
        "meta": { "training_id": run, "time": time, "rindex": 1 },
        "grouplabel": metric.phase,
        "etimes": {
            "iteration": { "type": 2, "value": metric.iteration.to_string() },
            "time_stamp": { "value": metric.timestamp },
        },
        "values": values,
    });
    line.to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trainyard_api::MetricValue;

    use super::*;

    const LINE: &str = r#"{"meta":{"training_id":"training-1","time":1524211200123,"rindex":1},"grouplabel":"test","etimes":{"iteration":{"type":2,"value":"7"},"time_stamp":{"value":"2018-04-20T08:00:00.1524211200"}},"values":{"accuracy":{"type":3,"value":"0.75"},"note":{"value":"hello"},"count":{"type":2,"value":"12"}}}"#;

    fn read(text: &str) -> Read {
        Emetrics::default().read(text.as_bytes(), Time(5))
    }

    #[test]
    fn a_line_of_the_original_is_a_point() {
        let text = format!("{LINE}\nhalf a li");
        let read = read(&text);
        assert_eq!(read.used, LINE.len() + 1);
        let (metric, end) = &read.points[0];
        assert_eq!(*end, read.used);
        assert_eq!((metric.iteration, metric.phase.as_str()), (7, "test"));
        assert_eq!(metric.timestamp, "2018-04-20T08:00:00.123Z");
        let mut values: Vec<(&str, f64)> = metric.values.iter().map(|v| (v.name.as_str(), v.value)).collect();
        values.sort_by_key(|v| v.0);
        assert_eq!(values, [("accuracy", 0.75), ("count", 12.0)]);
    }

    #[test]
    fn a_last_line_needs_no_end() {
        let mut reader = Emetrics::default();
        assert_eq!(reader.read(LINE.as_bytes(), Time(0)).points.len(), 0);
        let read = reader.read_last(LINE.as_bytes(), Time(0));
        assert_eq!((read.points.len(), read.used), (1, LINE.len()));
        assert_eq!(reader.read_last(b"", Time(0)), Read::default());
    }

    #[test]
    fn times_are_taken_where_they_are() {
        let without_meta = LINE.replace(r#""time":1524211200123,"#, "");
        assert_eq!(read(&format!("{without_meta}\n")).points[0].0.timestamp, "2018-04-20T08:00:00.000Z");
        let without_any = without_meta.replace("2018-04-20T08:00:00.1524211200", "?");
        assert_eq!(read(&format!("{without_any}\n")).points[0].0.timestamp, "1970-01-01T00:00:00.005Z");
        let nanoseconds = LINE.replace("1524211200123", "1524211200123000000");
        assert_eq!(read(&format!("{nanoseconds}\n")).points[0].0.timestamp, "2018-04-20T08:00:00.000Z");
    }

    #[test]
    fn what_is_no_metric_is_passed_over() {
        let long = "x".repeat(MOST_LINE + 1);
        let no_values = r#"{"grouplabel":"a","values":{"x":{"type":3,"value":"nan"}}}"#;
        let text = format!("not json\n{no_values}\n\n{long}\n{LINE}\n");
        assert_eq!(read(&text).points.len(), 1);
        // The long line comes in pieces.
        let mut reader = Emetrics::default();
        let first = reader.read(long.as_bytes(), Time(0));
        assert_eq!((first.used, first.points.len()), (long.len(), 0));
        let rest = reader.read(format!("{LINE}\n{LINE}\n").as_bytes(), Time(0));
        assert_eq!(rest.points.len(), 1, "the rest of a long line is no line of its own");
    }

    proptest! {
        #[test]
        fn a_point_that_is_written_is_read_back(
            iteration in 0i64..1_000_000_000,
            phase in "[a-z]{0,9}",
            values in prop::collection::btree_map("[a-z/_]{1,12}", -1e12f64..1e12, 1..6),
        ) {
            let values = values.into_iter().map(|(name, value)| MetricValue { name, value }).collect();
            let metric = Metric { timestamp: "2026-11-24T10:00:00.123Z".to_owned(), iteration, phase, values };
            let line = emetrics_line(&metric, "training-1") + "\n";
            prop_assert_eq!(&read(&line).points[0].0, &metric);
        }

        #[test]
        fn any_bytes_in_any_pieces_are_read_alike(bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..400), at in 0usize..400) {
            let text = [bytes.as_slice(), b"\n", LINE.as_bytes(), b"\n"].concat();
            let whole = Emetrics::default().read(&text, Time(1));
            let at = at.min(text.len());
            let mut reader = Emetrics::default();
            let first = reader.read(&text[..at], Time(1));
            let second = reader.read(&text[first.used..], Time(1));
            prop_assert_eq!(first.points.len() + second.points.len(), whole.points.len());
            prop_assert_eq!(first.used + second.used, whole.used);
        }
    }
}
