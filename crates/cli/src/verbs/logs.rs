//! `logs`: the log as the program wrote it.

use regex::Regex;
use trainyard_api::{Code, Problem, Time};
use trainyard_client::{Client, MonitorOptions};
use trainyard_manifest::parse_duration;

use super::follow::interruptible;
use crate::{Error, Output, args::LogsArguments, ids};

/// `logs RUN`.
pub(crate) async fn logs(client: &Client, arguments: &LogsArguments, output: &Output) -> Result<(), Error> {
    let pattern = arguments
        .grep
        .as_deref()
        .map(|text| Regex::new(text).map_err(|e| Error::new(Code::Usage, format!("--grep {text}: {e}"))));
    let pattern = pattern.transpose()?;
    let since = arguments.since.as_deref().map(moment).transpose()?;
    let id = ids::find(client, &arguments.run).await?;
    // The server counts lines from the end; what is left of them by other options is counted here.
    let counted_here = !arguments.follow && (since.is_some() || pattern.is_some());
    let keep = arguments.tail.filter(|_| counted_here);
    let options = MonitorOptions {
        only: Some("log"),
        last: arguments.tail.filter(|_| since.is_none() && !counted_here),
        since,
        no_follow: !arguments.follow,
        learner: arguments.learner,
    };
    let printing = async {
        let mut lines = Lines { pattern, pending: String::new() };
        let mut kept = Kept { most: keep, text: String::new() };
        let mut monitor = client.monitor(&id, options).await?;
        while let Some(frame) = monitor.next().await? {
            if frame.status.log {
                let text = lines.take(&frame.status.message);
                if keep.is_some() { kept.add(&text) } else { output.data(&text)? }
            }
        }
        kept.add(&lines.rest());
        output.data(&kept.text)
    };
    interruptible(&id, printing).await
}

/// Milliseconds since 1970 of a time, or of a span before now.
fn moment(text: &str) -> Result<i64, Error> {
    if let Some(seconds) = parse_duration(text) {
        return Ok(Time::now().0 - i64::try_from(seconds).unwrap_or(0).saturating_mul(1000));
    }
    let time: Result<jiff::Timestamp, _> = text.parse();
    time.map(jiff::Timestamp::as_millisecond).map_err(|_| {
        Problem::new(Code::Usage, format!("--since {text}: neither a time nor a span"))
            .hint("write 2026-05-01T12:00:00Z, or 10m")
            .into()
    })
}

/// The last lines of a text that comes in pieces; all of it where `most` does not say how many.
struct Kept {
    most: Option<usize>,
    text: String,
}

impl Kept {
    fn add(&mut self, piece: &str) {
        self.text.push_str(piece);
        let Some(most) = self.most else { return };
        // The line end at the very end closes the last line.
        let whole = self.text.strip_suffix('\n').unwrap_or(&self.text);
        let mut begins =
            std::iter::once(self.text.len()).chain(whole.rmatch_indices('\n').map(|(at, _)| at + 1));
        if let Some(start) = begins.nth(most) {
            self.text.drain(..start);
        }
    }
}

/// Lines that match, put together from pieces.
struct Lines {
    pattern: Option<Regex>,
    pending: String,
}

impl Lines {
    fn take(&mut self, piece: &str) -> String {
        let Some(pattern) = &self.pattern else { return piece.to_owned() };
        self.pending.push_str(piece);
        let whole = self.pending.rfind('\n').map_or(0, |at| at + 1);
        let lines: String = self.pending.drain(..whole).collect();
        lines.split_inclusive('\n').filter(|l| pattern.is_match(l.trim_end_matches('\n'))).collect()
    }

    fn rest(&mut self) -> String {
        let rest = std::mem::take(&mut self.pending);
        let matches = self.pattern.as_ref().is_some_and(|p| p.is_match(&rest));
        if matches && !rest.is_empty() { format!("{rest}\n") } else { String::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_matched_whole() {
        let mut lines = Lines { pattern: Some(Regex::new("^a.*z$").unwrap()), pending: String::new() };
        assert_eq!(lines.take("ab"), "");
        assert_eq!(lines.take("cz\nno\naz"), "abcz\n");
        assert_eq!(lines.rest(), "az\n");
    }

    #[test]
    fn the_last_lines_of_pieces() {
        for (most, expected) in [
            (None, "a\nbb\nc\n\ndd\n"),
            (Some(0), ""),
            (Some(1), "dd\n"),
            (Some(3), "c\n\ndd\n"),
            (Some(9), "a\nbb\nc\n\ndd\n"),
        ] {
            let mut kept = Kept { most, text: String::new() };
            for piece in ["a\nb", "b\nc\n", "\n", "d", "d\n"] {
                kept.add(piece);
            }
            assert_eq!(kept.text, expected, "{most:?}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(moment("1970-01-01T00:00:01Z").unwrap(), 1000);
        assert!(moment("10m").unwrap() < Time::now().0 - 590_000);
        assert!(moment("yesterday-ish").is_err());
    }
}
