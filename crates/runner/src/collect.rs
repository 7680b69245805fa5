//! Collects metrics while the program runs: new lines of `evaluation-metrics.txt`, new records of TensorBoard
//! event files. Each point goes into a file of the runner's own, together with where it was read, so that
//! whoever takes over goes on behind it and collects none twice.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use nix::libc;
use tokio::{sync::watch, task::JoinHandle};
use trainyard_api::{Time, runner::Point};
use trainyard_metrics::{Emetrics, Read, TensorBoard, emetrics_line};

use crate::{Error, layout::Layout};

/// The original's file of metrics, in the folder of logs; and in the results, beside the log.
pub(crate) const EMETRICS: &str = "evaluation-metrics.txt";
/// Part of the name of every TensorBoard event file.
const EVENTS: &str = "tfevents";
/// Folder of TensorBoard files that are named by what is below it.
const TENSORBOARD: &str = "tb/";

/// Shortest and longest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Bytes that are read at once.
const CHUNK: usize = 4 << 20;
/// Files that are followed, and folders that they may be deep.
const MOST_FILES: usize = 1000;
const DEEPEST: usize = 8;
/// Bytes of points that are collected of one run: about a million points.
const MOST_BYTES: u64 = 256 << 20;

/// Where points are kept on the node, and how far.
#[derive(Clone)]
pub(crate) struct Points {
    pub(crate) path: PathBuf,
    /// Bytes of whole lines.
    whole: Arc<AtomicU64>,
}

impl Points {
    pub(crate) fn of(layout: &Layout) -> Self {
        Self { path: layout.root.join("metrics.jsonl"), whole: Arc::default() }
    }

    /// Bytes of whole lines.
    pub(crate) fn size(&self) -> u64 {
        self.whole.load(Relaxed)
    }

    /// Writes the points as emetrics lines of run `run` into `file`, where some came from TensorBoard:
    /// otherwise the program has written all of them itself. Returns whether it did.
    pub(crate) fn write_emetrics(&self, run: &str, file: &Path) -> std::io::Result<bool> {
        if self.size() == 0 {
            return Ok(false);
        }
        let mut lines = BufWriter::new(File::create(file)?);
        let mut others = false;
        for line in BufReader::new(File::open(&self.path)?).lines() {
            let Ok(point) = serde_json::from_str::<Point>(&line?) else { continue };
            others |= point.source != EMETRICS;
            writeln!(lines, "{}", emetrics_line(&point.metric, run))?;
        }
        lines.flush()?;
        Ok(others)
    }
}

enum Reader {
    Emetrics(Emetrics),
    TensorBoard(TensorBoard),
}

/// A file that is followed.
struct Source {
    reader: Reader,
    at: u64,
    broken: bool,
}

/// Collects the metrics of one attempt.
pub(crate) struct Collector {
    logs: PathBuf,
    points: Points,
    sources: BTreeMap<String, Source>,
    full: bool,
}

impl Collector {
    /// For an attempt that begins: nothing is collected yet.
    pub(crate) fn new(layout: &Layout, points: Points) -> Result<Self, Error> {
        match fs::remove_file(&points.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&points.path, e)),
            _ => {}
        }
        Ok(Self { logs: layout.logs.clone(), points, sources: BTreeMap::new(), full: false })
    }

    /// Goes on where an earlier runner stopped.
    pub(crate) fn resume(layout: &Layout, points: Points) -> Result<Self, Error> {
        let failed = |e| Error::file(&points.path, e);
        let mut sources = BTreeMap::new();
        let mut whole = 0;
        match File::open(&points.path) {
            Ok(file) => {
                let mut lines = BufReader::new(file);
                let mut line = Vec::new();
                while lines.read_until(b'\n', &mut line).map_err(failed)? > 0 {
                    if line.ends_with(b"\n") {
                        whole += line.len() as u64;
                        if let Ok(point) = serde_json::from_slice::<Point>(&line) {
                            sources.insert(point.source.clone(), source(&point.source, point.end));
                        }
                    }
                    line.clear();
                }
                // A torn line is written again.
                OpenOptions::new()
                    .write(true)
                    .open(&points.path)
                    .and_then(|f| f.set_len(whole))
                    .map_err(failed)?;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        points.whole.store(whole, Relaxed);
        Ok(Self { logs: layout.logs.clone(), points, sources, full: whole >= MOST_BYTES })
    }

    /// Collects what is new; returns whether anything was.
    pub(crate) fn pass(&mut self) -> std::io::Result<bool> {
        let mut any = false;
        let mut names = Vec::new();
        find(&self.logs, "", 0, &mut names);
        for name in names {
            let source = self.sources.entry(name.clone()).or_insert_with(|| source(&name, 0));
            let Some(file) = open(&self.logs.join(&name)) else { continue };
            if file.metadata()?.len() < source.at {
                // Somebody began it anew.
                *source = self::source(&name, 0);
            }
            while !self.full && !source.broken {
                let mut bytes = vec![0; CHUNK.min(file.metadata()?.len().saturating_sub(source.at) as usize)];
                let n = file.read_at(&mut bytes, source.at)?;
                bytes.truncate(n);
                let read = source.read(&name, &bytes);
                if let Some(why) = read.broken {
                    tracing::warn!(name, why, "metrics of this file are no longer collected");
                    source.broken = true;
                }
                let mut text = Vec::new();
                for (metric, end) in read.points {
                    let point = Point { metric, source: name.clone(), end: source.at + end as u64 };
                    serde_json::to_writer(&mut text, &point)?;
                    text.push(b'\n');
                }
                if !text.is_empty() {
                    any = true;
                    append(&self.points, &text)?;
                }
                source.at += read.used as u64;
                if self.points.size() >= MOST_BYTES {
                    tracing::warn!("the run has written more metrics than are collected");
                    self.full = true;
                }
                if read.used == 0 {
                    break;
                }
            }
        }
        Ok(any)
    }

    /// Collects again and again, until told to stop; then once more.
    pub(crate) fn keep_up(mut self, reporter: impl Fn() + Send + 'static) -> Collecting {
        let (stop, mut stopped) = watch::channel(());
        let task = tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let last = tokio::time::timeout(pause, stopped.changed()).await.is_ok();
                // Files are read: not on the thread that watches the program.
                let passed = tokio::task::spawn_blocking(move || {
                    let any = self.pass();
                    (self, any)
                });
                let Ok((collector, any)) = passed.await else { return };
                self = collector;
                pause = match any {
                    Ok(true) => {
                        reporter();
                        FIRST_PAUSE
                    }
                    Ok(false) => (pause * 2).min(LONGEST_PAUSE),
                    Err(error) => {
                        tracing::warn!(%error, "metrics cannot be collected now");
                        LONGEST_PAUSE
                    }
                };
                if last {
                    return;
                }
            }
        });
        Collecting { task, stop }
    }
}

impl Source {
    fn read(&mut self, name: &str, bytes: &[u8]) -> Read {
        match &mut self.reader {
            Reader::Emetrics(reader) => reader.read(bytes, Time::now()),
            Reader::TensorBoard(reader) => reader.read(bytes, group(name), Time::now()),
        }
    }
}

fn source(name: &str, at: u64) -> Source {
    let reader = if name == EMETRICS {
        Reader::Emetrics(Emetrics::default())
    } else {
        Reader::TensorBoard(TensorBoard::default())
    };
    Source { reader, at, broken: false }
}

/// What the points of an event file are called: its folder, below `tb` or the folder of logs.
fn group(name: &str) -> &str {
    let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
    match folder.strip_prefix(TENSORBOARD).unwrap_or(folder) {
        "" => "logs",
        group => group,
    }
}

/// Names of files with metrics, below the folder of logs; links are not followed.
fn find(folder: &Path, below: &str, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let Ok(kind) = entry.file_type() else { continue };
        let path = format!("{below}{name}");
        if kind.is_dir() && depth < DEEPEST {
            find(&entry.path(), &format!("{path}/"), depth + 1, names);
        } else if kind.is_file() && names.len() < MOST_FILES && (path == EMETRICS || name.contains(EVENTS)) {
            names.push(path);
        }
    }
}

/// A file, unless it is something else: to open a pipe would wait for ever.
fn open(path: &Path) -> Option<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|m| m.is_file()).then_some(file)
}

/// Appends whole lines. What was torn by a full disk is cut off again.
fn append(points: &Points, lines: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&points.path)?;
    if let Err(error) = file.write_all(lines) {
        file.set_len(points.size())?;
        return Err(error);
    }
    points.whole.fetch_add(lines.len() as u64, Relaxed);
    Ok(())
}

/// Collects in the background.
pub(crate) struct Collecting {
    task: JoinHandle<()>,
    stop: watch::Sender<()>,
}

impl Collecting {
    /// Collects a last time, and ends.
    pub(crate) async fn stop(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the last metrics were not collected");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u32) -> String {
        format!(
            "{{\"grouplabel\":\"train\",\"etimes\":{{\"iteration\":{{\"type\":2,\"value\":\"{step}\"}}}},\"values\":{{\"loss\":{{\"type\":3,\"value\":\"0.5\"}}}}}}\n"
        )
    }

    fn steps(points: &Points) -> Vec<i64> {
        let text = fs::read_to_string(&points.path).unwrap_or_default();
        text.lines().map(|l| serde_json::from_str::<Point>(l).unwrap().metric.iteration).collect()
    }

    fn yard() -> (tempfile::TempDir, Layout, Points) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.make().unwrap();
        let points = Points::of(&layout);
        (dir, layout, points)
    }

    #[test]
    fn every_point_is_collected_once_also_by_whoever_takes_over() {
        let (_dir, layout, points) = yard();
        let file = layout.logs.join(EMETRICS);
        let mut collector = Collector::new(&layout, points.clone()).unwrap();
        assert!(!collector.pass().unwrap());
        fs::write(&file, line(1) + &line(2) + "{\"half").unwrap();
        assert!(collector.pass().unwrap());
        assert!(!collector.pass().unwrap());
        drop(collector);
        // It was killed in the middle of a line.
        let mut torn = OpenOptions::new().append(true).open(&points.path).unwrap();
        torn.write_all(b"{\"metric\":").unwrap();
        fs::write(&file, line(1) + &line(2) + &line(3)).unwrap();
        let points = Points::of(&layout);
        let mut collector = Collector::resume(&layout, points.clone()).unwrap();
        assert!(collector.pass().unwrap());
        assert_eq!(steps(&points), [1, 2, 3]);
        assert_eq!(points.size(), fs::metadata(&points.path).unwrap().len());
    }

    #[test]
    fn a_file_that_begins_anew_is_read_from_its_start() {
        let (_dir, layout, points) = yard();
        let file = layout.logs.join(EMETRICS);
        let mut collector = Collector::new(&layout, points.clone()).unwrap();
        fs::write(&file, line(1) + &line(2)).unwrap();
        collector.pass().unwrap();
        fs::write(&file, line(7)).unwrap();
        collector.pass().unwrap();
        assert_eq!(steps(&points), [1, 2, 7]);
    }

    #[test]
    fn pipes_and_links_are_left_alone() {
        let (_dir, layout, points) = yard();
        nix::unistd::mkfifo(&layout.logs.join(EMETRICS), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let elsewhere = layout.root.join("elsewhere");
        fs::write(&elsewhere, line(1)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, layout.logs.join("tb/events.out.tfevents.1")).unwrap();
        let mut collector = Collector::new(&layout, points).unwrap();
        assert!(!collector.pass().unwrap());
    }

    #[test]
    fn groups_are_named_by_their_folders() {
        for (name, expected) in [
            ("tb/train/events.out.tfevents.1", "train"),
            ("tb/a/b/events.out.tfevents.1", "a/b"),
            ("validation/events.out.tfevents.1", "validation"),
            ("events.out.tfevents.1", "logs"),
            ("tb/events.out.tfevents.1", "tb"),
        ] {
            assert_eq!(group(name), expected, "{name}");
        }
    }
}
