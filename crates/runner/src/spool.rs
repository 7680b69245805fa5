//! Events on disk until the server has them: a line of JSON each, flushed before it is sent.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
};

use trainyard_api::runner::Reported;

use crate::Error;

/// The spool of one attempt.
pub(crate) struct Spool {
    file: File,
}

impl Spool {
    /// Begins the spool anew for an attempt.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new().create(true).write(true).truncate(true).open(path);
        Ok(Self { file: file.map_err(|e| Error::file(path, e))? })
    }

    /// Keeps an event. An exit is worth a flush to the disk: it cannot be found out again.
    pub(crate) fn keep(&mut self, event: &Reported, flush: bool) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        if flush { self.file.sync_data() } else { Ok(()) }
    }
}

/// The events that an earlier attempt kept. A torn last line is none.
pub(crate) fn read(path: &Path) -> Vec<Reported> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    BufReader::new(file).lines().map_while(Result::ok).map_while(|l| serde_json::from_str(&l).ok()).collect()
}

#[cfg(test)]
mod tests {
    use trainyard_api::{Time, runner::RunnerEvent};

    use super::*;

    #[test]
    fn a_torn_line_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut spool = Spool::create(&path).unwrap();
        let event = Reported { seq: 1, at: Time(5), event: RunnerEvent::Started };
        spool.keep(&event, true).unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"seq\":2,\"a").unwrap();
        assert_eq!(read(&path), [event]);
    }
}
