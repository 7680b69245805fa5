//! What a runner must not forget, on disk until the server has it: a line of JSON each.
//!
//! Reports of events, the moment at which the program was about to be started, and where the
//! attempt's log begins. Whoever comes after a lost runner reads them.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::Path,
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};
use trainyard_api::{
    Time,
    runner::{Exit, Reported, RunnerEvent},
};

use crate::Error;

/// One line. New kinds may be added; a reader passes over what it does not know.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// An event for the server.
    Report(Reported),
    /// The program is about to be started: from here on nobody starts it again.
    Starting(Time),
    /// What the release before this one wrote in place of the next.
    LogBase(u64),
    /// The bytes of the log file and of the file of metrics at which those of the newest attempt begin.
    Bases(u64, u64),
    /// A small log that was never a file, for the results: its name and its text.
    Note(String, String),
}

/// What the lines of a spool come to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Past {
    /// When the program was about to be started; `None`: it never was.
    pub(crate) started: Option<Time>,
    /// Where the newest attempt's log begins.
    pub(crate) log_base: u64,
    /// Where the newest attempt's metrics begin.
    pub(crate) metrics_base: u64,
    /// How the program ended, if its runner saw it.
    pub(crate) exit: Option<Exit>,
    /// Small logs that were never files.
    pub(crate) notes: Vec<(String, String)>,
}

/// The spool of one attempt.
pub(crate) struct Spool {
    file: File,
}

impl Spool {
    /// Begins a spool anew.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let spool = Self::open(path)?;
        // Not by opening: to cut a file that is empty already makes some file systems flush it.
        let cut =
            spool.file.metadata().and_then(|m| if m.len() > 0 { spool.file.set_len(0) } else { Ok(()) });
        cut.map_err(|e| Error::file(path, e))?;
        Ok(spool)
    }

    /// Goes on with the spool at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |e| Error::file(path, e);
        let file = OpenOptions::new().create(true).read(true).append(true).open(path).map_err(failed)?;
        let mut spool = Self { file };
        // What a full disk or a power cut tore off is one line, and what follows another.
        let size = spool.file.metadata().map_err(failed)?.len();
        let mut last = [b'\n'];
        if size > 0 {
            spool.file.read_exact_at(&mut last, size - 1).map_err(failed)?;
        }
        if last != *b"\n" {
            spool.file.write_all(b"\n").map_err(failed)?;
        }
        Ok(spool)
    }

    /// Keeps an event. An exit is worth a flush to the disk: it cannot be found out again.
    pub(crate) fn keep(&mut self, event: &Reported, flush: bool) -> std::io::Result<()> {
        self.write(&Line::Report(event.clone()))?;
        if flush { self.file.sync_data() } else { Ok(()) }
    }

    /// Notes, on disk, that the program is about to be started. `path` is the spool's: its folder
    /// may have come to its name just now.
    pub(crate) fn note_start(&mut self, at: Time, path: &Path) -> std::io::Result<()> {
        self.write(&Line::Starting(at))?;
        self.file.sync_data()?;
        for folder in path.ancestors().skip(1).take(2) {
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }

    /// Keeps a small log for whoever comes after this runner.
    pub(crate) fn note(&mut self, name: &str, text: &str) -> std::io::Result<()> {
        self.write(&Line::Note(name.to_owned(), text.to_owned()))
    }

    /// Notes, on disk, where the newest attempt's log and metrics begin: at once, or not at all.
    pub(crate) fn note_bases(&mut self, log: u64, metrics: u64) -> std::io::Result<()> {
        self.write(&Line::Bases(log, metrics))?;
        self.file.sync_data()
    }

    fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

impl Past {
    /// Reads the spool at `path`. A missing one tells nothing, and a torn line is none. One that
    /// cannot be read is an error: nobody knows whether the program was started.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        let mut past = Self::of_earlier_release(path);
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(past),
            Err(e) => return Err(Error::file(path, e)),
        };
        for line in text.split(|b| *b == b'\n') {
            match serde_json::from_slice(line) {
                Ok(Line::Report(reported)) => past.see(&reported),
                Ok(Line::Starting(at)) => past.started = Some(at),
                Ok(Line::LogBase(base)) => past.log_base = base,
                Ok(Line::Bases(log, metrics)) => (past.log_base, past.metrics_base) = (log, metrics),
                Ok(Line::Note(name, text)) => past.notes.push((name, text)),
                // The release before this one wrote reports alone.
                Err(_) => {
                    if let Ok(reported) = serde_json::from_slice(line) {
                        past.see(&reported);
                    }
                }
            }
        }
        Ok(past)
    }

    fn see(&mut self, reported: &Reported) {
        if let RunnerEvent::Exited { exit, .. } = reported.event {
            self.exit = Some(exit);
        }
    }

    /// What the release before this one kept in files beside the spool.
    fn of_earlier_release(path: &Path) -> Self {
        let started = fs::metadata(path.with_file_name("started")).and_then(|m| m.modified()).ok();
        let since = started.and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        let base = fs::read_to_string(path.with_file_name("log-base")).ok();
        Self {
            started: since.map(|d| Time(i64::try_from(d.as_millis()).unwrap_or(i64::MAX))),
            log_base: base.and_then(|t| t.parse().ok()).unwrap_or(0),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_and_a_torn_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::create(&path).unwrap();
        spool.note_bases(7, 3).unwrap();
        spool.note_start(Time(5), &path).unwrap();
        spool.note("load-data.log", "x").unwrap();
        let exit = Exit::Code(3);
        let event = Reported { seq: 1, at: Time(6), event: RunnerEvent::Exited { exit, why: None } };
        spool.keep(&event, true).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"log_base\":9").unwrap();
        let notes = vec![("load-data.log".to_owned(), "x".to_owned())];
        let mut past = Past { started: Some(Time(5)), log_base: 7, metrics_base: 3, exit: Some(exit), notes };
        assert_eq!(Past::read(&path).unwrap(), past);
        Spool::open(&path).unwrap().note_bases(11, 5).unwrap();
        (past.log_base, past.metrics_base) = (11, 5);
        assert_eq!(Past::read(&path).unwrap(), past, "a line behind a torn one is lost");
        drop(Spool::create(&path).unwrap());
        assert_eq!(Past::read(&path).unwrap(), Past::default());
    }

    #[test]
    fn a_spool_that_cannot_be_read_is_no_reason_to_start_a_program() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Past::read(dir.path()).is_err());
    }

    #[test]
    fn what_an_earlier_release_kept_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool.jsonl");
        fs::write(dir.path().join("started"), "").unwrap();
        fs::write(dir.path().join("log-base"), "17").unwrap();
        fs::write(&path, "{\"seq\":2,\"at\":\"2026-01-01T00:00:00.000Z\",\"event\":\"exited\",\"exit\":{\"how\":\"code\",\"value\":4}}\n").unwrap();
        let past = Past::read(&path).unwrap();
        assert!(past.started.is_some());
        assert_eq!((past.log_base, past.exit), (17, Some(Exit::Code(4))));
    }
}
