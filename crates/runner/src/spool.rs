//! What a runner must not forget, on disk until the server has it: a line of JSON each.
//!
//! Reports of events, the moment at which the program was about to be started, and where the
//! attempt's log begins. Whoever comes after a lost runner reads them.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use trainyard_api::{
    Time,
    runner::{Exit, Reported, RunnerEvent},
};

use crate::Error;

/// One line. New kinds may be added; a reader stops at what it does not know.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// An event for the server.
    Report(Reported),
    /// The program is about to be started: from here on nobody starts it again.
    Starting(Time),
    /// The byte of the log file at which the newest attempt's log begins.
    LogBase(u64),
}

/// What the lines of a spool come to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Past {
    /// When the program was about to be started; `None`: it never was.
    pub(crate) started: Option<Time>,
    /// Where the newest attempt's log begins.
    pub(crate) log_base: u64,
    /// How the program ended, if its runner saw it.
    pub(crate) exit: Option<Exit>,
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
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self { file: file.map_err(|e| Error::file(path, e))? })
    }

    /// Keeps an event. An exit is worth a flush to the disk: it cannot be found out again.
    pub(crate) fn keep(&mut self, event: &Reported, flush: bool) -> std::io::Result<()> {
        self.write(&Line::Report(event.clone()))?;
        if flush { self.file.sync_data() } else { Ok(()) }
    }

    /// Notes, on disk, that the program is about to be started.
    pub(crate) fn note_start(&mut self, at: Time) -> std::io::Result<()> {
        self.write(&Line::Starting(at))?;
        self.file.sync_data()
    }

    /// Notes where the newest attempt's log begins.
    pub(crate) fn note_log_base(&mut self, base: u64) -> std::io::Result<()> {
        self.write(&Line::LogBase(base))
    }

    fn write(&mut self, line: &Line) -> std::io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }
}

impl Past {
    /// Reads the spool at `path`. A missing one tells nothing, and a torn last line is none.
    pub(crate) fn read(path: &Path) -> Self {
        let mut past = Self::default();
        let Ok(file) = File::open(path) else { return past };
        let lines = BufReader::new(file).lines().map_while(Result::ok);
        for line in lines.map_while(|l| serde_json::from_str(&l).ok()) {
            match line {
                Line::Report(Reported { event: RunnerEvent::Exited { exit }, .. }) => past.exit = Some(exit),
                Line::Report(_) => {}
                Line::Starting(at) => past.started = Some(at),
                Line::LogBase(base) => past.log_base = base,
            }
        }
        past
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
        spool.note_log_base(7).unwrap();
        spool.note_start(Time(5)).unwrap();
        let exit = Exit::Code(3);
        let event = Reported { seq: 1, at: Time(6), event: RunnerEvent::Exited { exit } };
        spool.keep(&event, true).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"log_base\":9").unwrap();
        let past = Past { started: Some(Time(5)), log_base: 7, exit: Some(exit) };
        assert_eq!(Past::read(&path), past);
        drop(Spool::create(&path).unwrap());
        assert_eq!(Past::read(&path), Past::default());
    }
}
