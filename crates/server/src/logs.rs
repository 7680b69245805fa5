//! Logs of runs: one file each, appended to at offsets that the runner names, so that what is
//! sent twice is kept once. Followers are woken by every append and every change of state.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;
use trainyard_api::{RunId, Time};

/// Bytes that are looked through for the last lines: a log without line ends is no reason to
/// read gigabytes.
const MOST_SCANNED: u64 = 8 << 20;
/// Bytes of one entry of the time index: offset and milliseconds, little endian.
const ENTRY: usize = 16;

/// All logs of one data folder. Clones share them.
#[derive(Clone)]
pub(crate) struct Logs {
    root: PathBuf,
    open: Arc<Mutex<HashMap<RunId, Arc<RunLog>>>>,
}

/// The log of one run.
pub(crate) struct RunLog {
    folder: PathBuf,
    writer: Mutex<Writer>,
    /// Counts changes: appended bytes, changed states.
    pulse: watch::Sender<u64>,
}

#[derive(Default)]
struct Writer {
    file: Option<File>,
    index: Option<File>,
    size: u64,
    /// Where the log of each attempt begins.
    bases: Vec<(u32, u64)>,
}

impl Logs {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, open: Arc::default() }
    }

    /// The log of a run.
    pub(crate) fn of(&self, run: &RunId) -> Arc<RunLog> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let log =
            open.entry(run.clone()).or_insert_with(|| Arc::new(RunLog::new(self.root.join(run.as_str()))));
        Arc::clone(log)
    }

    /// Closes the files of a run that has ended. Followers keep theirs.
    pub(crate) fn close(&self, run: &RunId) {
        let log = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
        if let Some(log) = log {
            log.wake();
        }
    }

    /// Removes the log of a run.
    pub(crate) fn remove(&self, run: &RunId) {
        self.close(run);
        let folder = self.root.join(run.as_str());
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, %run, "the log cannot be removed");
        }
    }
}

impl RunLog {
    fn new(folder: PathBuf) -> Self {
        let size = fs::metadata(folder.join("log")).map_or(0, |m| m.len());
        let bases = fs::read_to_string(folder.join("bases")).unwrap_or_default();
        let base =
            |line: &str| line.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let bases = bases.lines().filter_map(base).collect();
        let writer = Writer { size, bases, ..Writer::default() };
        Self { folder, writer: Mutex::new(writer), pulse: watch::channel(0).0 }
    }

    /// Notes where the log of an attempt begins: behind what is there, or for one that goes on
    /// with another's log, where that one's begins.
    pub(crate) fn begin(&self, attempt: u32, goes_on: bool) -> std::io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if writer.bases.iter().any(|(a, _)| *a == attempt) {
            return Ok(());
        }
        let base = if goes_on { writer.bases.last().map_or(0, |(_, b)| *b) } else { writer.size };
        if attempt > 1 || base > 0 {
            fs::create_dir_all(&self.folder)?;
            let mut file = OpenOptions::new().create(true).append(true).open(self.folder.join("bases"))?;
            if writer.bases.is_empty() && attempt > 1 && goes_on {
                file.write_all(b"1 0\n")?;
            }
            file.write_all(format!("{attempt} {base}\n").as_bytes())?;
        }
        writer.bases.push((attempt, base));
        Ok(())
    }

    /// Bytes of an attempt's log that are here.
    pub(crate) fn length(&self, attempt: u32) -> u64 {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let next = writer.bases.iter().find(|(a, b)| *a > attempt && *b > base(&writer, attempt));
        next.map_or(writer.size, |(_, b)| *b).saturating_sub(base(&writer, attempt))
    }

    /// Appends bytes that begin at `offset` of an attempt's log. What is here already is left
    /// out; what would leave a gap is not taken. Returns how many bytes of it are here now.
    pub(crate) fn append(&self, attempt: u32, offset: u64, bytes: &[u8]) -> std::io::Result<u64> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let base = base(&writer, attempt);
        let at = base + offset;
        let end = at + bytes.len() as u64;
        if at > writer.size || end <= writer.size {
            return Ok(writer.size.saturating_sub(base));
        }
        let fresh = &bytes[(writer.size - at) as usize..];
        if writer.file.is_none() {
            fs::create_dir_all(&self.folder)?;
            writer.file = Some(OpenOptions::new().create(true).append(true).open(self.folder.join("log"))?);
            writer.index =
                Some(OpenOptions::new().create(true).append(true).open(self.folder.join("index"))?);
        }
        let mut entry = [0; ENTRY];
        entry[..8].copy_from_slice(&writer.size.to_le_bytes());
        entry[8..].copy_from_slice(&Time::now().0.to_le_bytes());
        if let Some(index) = &mut writer.index {
            index.write_all(&entry)?;
        }
        if let Some(file) = &mut writer.file
            && let Err(error) = file.write_all(fresh)
        {
            // A part may have been written: the file says how much.
            writer.size = file.metadata().map_or(writer.size, |m| m.len());
            return Err(error);
        }
        writer.size += fresh.len() as u64;
        let size = writer.size;
        drop(writer);
        self.wake();
        Ok(size - base)
    }

    /// Wakes followers.
    pub(crate) fn wake(&self) {
        self.pulse.send_modify(|n| *n += 1);
    }

    /// Woken by every change from here on.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }

    /// Up to `most` bytes from `offset`.
    pub(crate) fn read(&self, offset: u64, most: usize) -> Vec<u8> {
        read_at(&self.folder.join("log"), offset, most)
    }

    /// Where the last `lines` lines begin.
    pub(crate) fn last_lines(&self, lines: usize) -> u64 {
        const STEP: u64 = 64 * 1024;
        let path = self.folder.join("log");
        let size = fs::metadata(&path).map_or(0, |m| m.len());
        if lines == 0 {
            return size;
        }
        let (mut start, mut seen) = (size, 0);
        let stop = size.saturating_sub(MOST_SCANNED);
        while start > stop {
            let from = start.saturating_sub(STEP);
            let chunk = read_at(&path, from, (start - from) as usize);
            for (at, _) in chunk.iter().enumerate().rev().filter(|(_, b)| **b == b'\n') {
                let position = from + at as u64;
                // The line end at the very end closes the last line.
                if position + 1 == size {
                    continue;
                }
                seen += 1;
                if seen == lines {
                    return position + 1;
                }
            }
            start = from;
        }
        start
    }

    /// Where the log stood at `time`: the first byte that arrived at it or later.
    pub(crate) fn since(&self, time: Time) -> u64 {
        let index = fs::read(self.folder.join("index")).unwrap_or_default();
        let entries: Vec<(u64, i64)> = index
            .chunks_exact(ENTRY)
            .map(|e| {
                let number =
                    |r: std::ops::Range<usize>| u64::from_le_bytes(e[r].try_into().unwrap_or_default());
                (number(0..8), number(8..16) as i64)
            })
            .collect();
        let at = entries.partition_point(|(_, t)| *t < time.0);
        entries
            .get(at)
            .map_or_else(|| fs::metadata(self.folder.join("log")).map_or(0, |m| m.len()), |(o, _)| *o)
    }
}

fn base(writer: &Writer, attempt: u32) -> u64 {
    writer.bases.iter().find(|(a, _)| *a == attempt).map_or(0, |(_, b)| *b)
}

fn read_at(path: &Path, offset: u64, most: usize) -> Vec<u8> {
    let Ok(file) = File::open(path) else { return Vec::new() };
    let size = file.metadata().map_or(0, |m| m.len());
    let mut bytes = vec![0; most.min(size.saturating_sub(offset) as usize)];
    let n = file.read_at(&mut bytes, offset).unwrap_or(0);
    bytes.truncate(n);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (tempfile::TempDir, Logs, RunId) {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::new(dir.path().to_owned());
        (dir, logs, RunId::random())
    }

    #[test]
    fn what_comes_twice_is_kept_once_and_gaps_are_not_taken() {
        let (_dir, logs, run) = log();
        let log = logs.of(&run);
        log.begin(1, false).unwrap();
        assert_eq!(log.append(1, 0, b"one\n").unwrap(), 4);
        assert_eq!(log.append(1, 0, b"one\ntwo\n").unwrap(), 8);
        assert_eq!(log.append(1, 4, b"two\n").unwrap(), 8);
        assert_eq!(log.append(1, 100, b"far\n").unwrap(), 8);
        logs.close(&run);
        assert_eq!(logs.of(&run).read(0, 100), b"one\ntwo\n");
    }

    #[test]
    fn a_new_attempt_goes_behind_and_a_salvage_goes_on() {
        let (_dir, logs, run) = log();
        let log = logs.of(&run);
        log.begin(1, false).unwrap();
        log.append(1, 0, b"first\n").unwrap();
        log.begin(2, false).unwrap();
        log.append(2, 0, b"second\n").unwrap();
        logs.close(&run);
        let log = logs.of(&run);
        log.begin(3, true).unwrap();
        assert_eq!(log.append(3, 0, b"second\nlast\n").unwrap(), 12);
        assert_eq!(log.read(0, 100), b"first\nsecond\nlast\n");
    }

    #[test]
    fn last_lines() {
        let (_dir, logs, run) = log();
        let log = logs.of(&run);
        log.append(1, 0, b"a\nbb\nccc\n").unwrap();
        assert_eq!(log.last_lines(1), 5);
        assert_eq!(log.last_lines(2), 2);
        assert_eq!(log.last_lines(9), 0);
        assert_eq!(log.last_lines(0), 9);
    }
}
