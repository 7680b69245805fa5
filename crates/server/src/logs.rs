//! Logs of runs: one file each, appended to at offsets that the runner names, so that what is
//! sent twice is kept once. Followers are woken by every append and every change of state.
//!
//! `RUN.log` is the log. A run of more than a moment has `RUN.index` beside it, which says when which byte
//! arrived, and one of more than an attempt `RUN.bases`, which says where each begins. Metrics are kept alike,
//! in `RUN.metrics` and `RUN.metrics-bases`. Learners from the second on have logs of their own, of `RUN.2`.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata, OpenOptions},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::UNIX_EPOCH,
};

use tokio::sync::watch;
use trainyard_api::{RunId, Time};
use trainyard_breakpoints::break_point;

/// Bytes that are looked through for the last lines: a log without line ends is no reason to
/// read gigabytes.
const MOST_SCANNED: u64 = 8 << 20;
/// Bytes of one entry of the time index: offset and milliseconds, little endian.
const ENTRY: usize = 16;
/// Milliseconds that an entry stands for: what arrives within them gets no entry of its own.
const MOMENT: i64 = 1000;

/// All logs of one data folder. Clones share them.
#[derive(Clone)]
pub(crate) struct Logs {
    root: PathBuf,
    kind: Kind,
    open: Arc<Mutex<HashMap<RunId, OfRun>>>,
}

/// Open logs of one run, by learners.
type OfRun = Vec<(u32, Arc<RunLog>)>;

/// What is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Log,
    Metrics,
}

/// The log of one run, or its metrics.
pub(crate) struct RunLog {
    files: Files,
    writer: Mutex<Writer>,
    /// Counts changes: appended bytes, changed states.
    pulse: watch::Sender<u64>,
    /// Counts changes of the run's state alone.
    turns: watch::Sender<u64>,
}

struct Files {
    log: PathBuf,
    /// Absent: nobody asks when what arrived.
    index: Option<PathBuf>,
    bases: PathBuf,
}

/// An entry of the time index.
#[derive(Clone, Copy)]
struct Mark {
    offset: u64,
    at: i64,
}

#[derive(Default)]
struct Writer {
    file: Option<File>,
    size: u64,
    /// The newest entry of the time index, and whether it is on disk: the first waits for a second.
    mark: Option<(Mark, bool)>,
    /// Where the log of each attempt begins.
    bases: Vec<(u32, u64)>,
}

impl Logs {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, kind: Kind::Log, open: Arc::default() }
    }

    /// The metrics of runs, beside their logs: a point of JSON a line.
    pub(crate) fn of_metrics(root: PathBuf) -> Self {
        Self { root, kind: Kind::Metrics, open: Arc::default() }
    }

    /// The log of a run.
    pub(crate) fn of(&self, run: &RunId) -> Arc<RunLog> {
        self.of_learner(run, 1)
    }

    /// The log of one of its learners, from 1.
    pub(crate) fn of_learner(&self, run: &RunId, learner: u32) -> Arc<RunLog> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let logs = open.entry(run.clone()).or_default();
        if let Some((_, log)) = logs.iter().find(|(n, _)| *n == learner) {
            return Arc::clone(log);
        }
        let log = Arc::new(RunLog::new(Files::of(&self.root, self.kind, run, learner)));
        logs.push((learner, Arc::clone(&log)));
        log
    }

    /// Closes the files of a run that has ended. Followers keep theirs.
    pub(crate) fn close(&self, run: &RunId) {
        let logs = self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(run);
        for (_, log) in logs.into_iter().flatten() {
            log.turn();
        }
    }

    /// Removes the logs of a run with so many learners.
    pub(crate) fn remove(&self, run: &RunId, learners: u32) {
        self.close(run);
        for learner in 1..=learners {
            let Files { log, index, bases } = Files::of(&self.root, self.kind, run, learner);
            for path in [Some(log), index, Some(bases)].into_iter().flatten() {
                if let Err(error) = fs::remove_file(path)
                    && error.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(%error, %run, "the log cannot be removed");
                }
            }
        }
        // There only where an earlier release made it.
        let _ = fs::remove_dir(self.root.join(run.as_str()));
    }
}

impl Files {
    /// Side by side in one folder; releases before this one had a folder for each run.
    fn of(root: &Path, kind: Kind, run: &RunId, learner: u32) -> Self {
        let folder = root.join(run.as_str());
        let which = if learner > 1 { format!("{learner}.") } else { String::new() };
        let beside = |name: &str| folder.with_extension(format!("{which}{name}"));
        if kind == Kind::Metrics {
            return Self { log: beside("metrics"), index: None, bases: beside("metrics-bases") };
        }
        if folder.is_dir() {
            let file = |name: &str| folder.join(name);
            return Self { log: file("log"), index: Some(file("index")), bases: file("bases") };
        }
        Self { log: beside("log"), index: Some(beside("index")), bases: beside("bases") }
    }
}

impl RunLog {
    fn new(files: Files) -> Self {
        let metadata = fs::metadata(&files.log).ok();
        let size = metadata.as_ref().map_or(0, Metadata::len);
        let bases = fs::read_to_string(&files.bases).unwrap_or_default();
        let base =
            |line: &str| line.split_once(' ').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let bases = bases.lines().filter_map(base).collect();
        let mark = match marks(files.index.as_deref()).pop() {
            Some(last) => Some((last, true)),
            None if size > 0 => Some((Mark { offset: 0, at: metadata.map_or(0, modified) }, false)),
            None => None,
        };
        let writer = Writer { file: None, size, mark, bases };
        Self { files, writer: Mutex::new(writer), pulse: watch::channel(0).0, turns: watch::channel(0).0 }
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
            let mut file = appending(&self.files.bases)?;
            if writer.bases.is_empty() && attempt > 1 && goes_on {
                file.write_all(b"1 0\n")?;
            }
            file.write_all(format!("{attempt} {base}\n").as_bytes())?;
        }
        writer.bases.push((attempt, base));
        Ok(())
    }

    /// Bytes that are here.
    pub(crate) fn size(&self) -> u64 {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).size
    }

    /// Where an attempt's log begins.
    pub(crate) fn begins(&self, attempt: u32) -> u64 {
        base(&self.writer.lock().unwrap_or_else(PoisonError::into_inner), attempt)
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
        if writer.bases.iter().any(|(a, _)| *a > attempt) {
            // It was on its way while another attempt took over: behind that one's base it has no place.
            drop(writer);
            return Ok(self.length(attempt));
        }
        let base = base(&writer, attempt);
        let Some(at) = base.checked_add(offset) else { return Ok(writer.size.saturating_sub(base)) };
        let end = at.saturating_add(bytes.len() as u64);
        if at > writer.size || end <= writer.size {
            return Ok(writer.size.saturating_sub(base));
        }
        let fresh = &bytes[(writer.size - at) as usize..];
        if writer.file.is_none() {
            writer.file = Some(appending(&self.files.log)?);
        }
        if let Some(index) = &self.files.index {
            mark(index, &mut writer, Time::now().0)?;
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
        break_point("log:appended");
        self.wake();
        Ok(size - base)
    }

    /// Wakes followers.
    pub(crate) fn wake(&self) {
        self.pulse.send_modify(|n| *n += 1);
    }

    /// Wakes followers, those of the state alone included.
    pub(crate) fn turn(&self) {
        self.turns.send_modify(|n| *n += 1);
        self.wake();
    }

    /// Woken by changes of the run's state alone.
    pub(crate) fn follow_state(&self) -> watch::Receiver<u64> {
        self.turns.subscribe()
    }

    /// Woken by every change from here on.
    pub(crate) fn follow(&self) -> watch::Receiver<u64> {
        self.pulse.subscribe()
    }

    /// Up to `most` bytes from `offset`.
    pub(crate) fn read(&self, offset: u64, most: usize) -> Vec<u8> {
        read_at(&self.files.log, offset, most)
    }

    /// Where the last `lines` lines begin.
    pub(crate) fn last_lines(&self, lines: usize) -> u64 {
        const STEP: u64 = 64 * 1024;
        let path = &self.files.log;
        let size = fs::metadata(path).map_or(0, |m| m.len());
        if lines == 0 {
            return size;
        }
        let (mut start, mut seen) = (size, 0);
        let stop = size.saturating_sub(MOST_SCANNED);
        while start > stop {
            let from = start.saturating_sub(STEP);
            let chunk = read_at(path, from, (start - from) as usize);
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

    /// Where the log stood at `time`: before the first byte that arrived at it or later, and
    /// before few that came earlier.
    pub(crate) fn since(&self, time: Time) -> u64 {
        let mut marks = marks(self.files.index.as_deref());
        let Ok(metadata) = fs::metadata(&self.files.log) else { return 0 };
        let size = metadata.len();
        if marks.is_empty() {
            marks.push(Mark { offset: 0, at: modified(metadata) });
        }
        let at = marks.partition_point(|m| m.at + MOMENT <= time.0);
        marks.get(at).map_or(size, |m| m.offset)
    }
}

impl Mark {
    fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..].copy_from_slice(&self.at.to_le_bytes());
        bytes
    }
}

/// Notes in the time index that what is appended next arrives at `now`.
fn mark(index: &Path, writer: &mut Writer, now: i64) -> std::io::Result<()> {
    let mark = Mark { offset: writer.size, at: now };
    match writer.mark {
        None => writer.mark = Some((mark, false)),
        Some((last, _)) if now < last.at + MOMENT => {}
        Some((last, on_disk)) => {
            let due = if on_disk { vec![mark] } else { vec![last, mark] };
            let bytes: Vec<u8> = due.into_iter().flat_map(Mark::to_bytes).collect();
            appending(index)?.write_all(&bytes)?;
            writer.mark = Some((mark, true));
        }
    }
    Ok(())
}

/// The entries of a time index, oldest first.
fn marks(index: Option<&Path>) -> Vec<Mark> {
    let bytes = index.and_then(|i| fs::read(i).ok()).unwrap_or_default();
    let number = |e: &[u8]| u64::from_le_bytes(e.try_into().unwrap_or_default());
    let entries = bytes.chunks_exact(ENTRY);
    entries.map(|e| Mark { offset: number(&e[..8]), at: number(&e[8..]) as i64 }).collect()
}

/// When a file was last written to, in milliseconds since 1970.
#[expect(clippy::needless_pass_by_value, reason = "for use in `map_or`")]
fn modified(metadata: Metadata) -> i64 {
    let since = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |d| d.as_millis() as i64)
}

fn appending(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
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
    fn what_is_late_of_an_attempt_that_is_over_is_not_taken() {
        let (_dir, logs, run) = log();
        let log = logs.of(&run);
        log.begin(1, false).unwrap();
        log.append(1, 0, b"first\n").unwrap();
        log.begin(2, false).unwrap();
        assert_eq!(log.append(1, 6, b"late\n").unwrap(), 6);
        assert_eq!(log.append(2, 0, b"second\n").unwrap(), 7);
        assert_eq!(log.read(0, 100), b"first\nsecond\n");
    }

    #[test]
    fn each_learner_has_a_log_of_its_own() {
        let (dir, logs, run) = log();
        for (learner, text) in [(1, "one\n"), (2, "two\n")] {
            logs.of_learner(&run, learner).append(1, 0, text.as_bytes()).unwrap();
        }
        logs.close(&run);
        assert_eq!(logs.of(&run).read(0, 100), b"one\n");
        assert_eq!(logs.of_learner(&run, 2).read(0, 100), b"two\n");
        logs.remove(&run, 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
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

    #[test]
    fn since_a_time_begins_with_what_arrived_then() {
        let (dir, logs, run) = log();
        let log = logs.of(&run);
        let append = |text: &str, at: i64| {
            let mut writer = log.writer.lock().unwrap();
            mark(log.files.index.as_deref().unwrap(), &mut writer, at).unwrap();
            appending(&log.files.log).unwrap().write_all(text.as_bytes()).unwrap();
            writer.size += text.len() as u64;
        };
        append("one\n", 10_000);
        append("two\n", 10_500);
        assert!(!dir.path().join(run.as_str()).with_extension("index").exists(), "a moment needs no index");
        append("three\n", 12_000);
        append("four\n", 20_000);
        for (time, expected) in [(0, 0), (10_400, 0), (11_500, 8), (12_500, 8), (15_000, 14), (30_000, 19)] {
            assert_eq!(log.since(Time(time)), expected, "{time}");
        }
    }

    #[test]
    fn a_log_of_an_earlier_release_is_read_on_and_removed() {
        let (dir, logs, run) = log();
        let folder = dir.path().join(run.as_str());
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("log"), "old\n").unwrap();
        let log = logs.of(&run);
        assert_eq!(log.append(1, 0, b"old\nnew\n").unwrap(), 8);
        assert_eq!(log.read(0, 100), b"old\nnew\n");
        logs.remove(&run, 1);
        assert!(!folder.exists());
    }
}
