//! Collects metrics while the program runs: new lines of `evaluation-metrics.txt`, new records of TensorBoard
//! event files. Each point goes into a file of the runner's own, together with where it was read, so that
//! whoever takes over goes on behind it and collects none twice.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{sync::watch, task::JoinHandle};
use trainyard_api::{Time, runner::Point};
use trainyard_breakpoints::break_point;
use trainyard_metrics::{Emetrics, Read, TensorBoard};

use crate::{
    Error,
    layout::Layout,
    points::{EMETRICS, Points, open},
};

/// Part of the name of every TensorBoard event file.
const EVENTS: &str = "tfevents";
/// Folder of TensorBoard files that are named by what is below it.
const TENSORBOARD: &str = "tb/";

/// Shortest and longest pause between two looks.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Tries of the last pass.
const LAST_TRIES: u32 = 20;
/// Bytes that are read at once.
const CHUNK: usize = 4 << 20;
/// Files that are followed at once, and folders that they may be deep.
const MOST_FILES: usize = 1000;
const DEEPEST: usize = 8;
/// Bytes of points that are collected of one run: about a million points.
const MOST_BYTES: u64 = 256 << 20;

#[derive(Clone)]
enum Reader {
    Emetrics(Emetrics),
    TensorBoard(TensorBoard),
}

/// A file that is followed.
#[derive(Clone)]
struct Source {
    reader: Reader,
    at: u64,
    /// Which file it is: another one of the same name is read from its start. Absent: not known yet.
    inode: Option<u64>,
    broken: bool,
}

/// Collects the metrics of one attempt.
pub(crate) struct Collector {
    logs: PathBuf,
    points: Points,
    sources: BTreeMap<String, Source>,
    full: bool,
    /// There are more files than are followed, which has been said.
    many: bool,
}

impl Collector {
    /// For an attempt that begins: nothing is collected yet.
    pub(crate) fn new(layout: &Layout, points: Points) -> Result<Self, Error> {
        match fs::remove_file(&points.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&points.path, e)),
            _ => {}
        }
        Ok(Self { logs: layout.logs.clone(), points, sources: BTreeMap::new(), full: false, many: false })
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
                            points.note_source(&point.source);
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
        points.adopt(whole);
        Ok(Self { logs: layout.logs.clone(), points, sources, full: whole >= MOST_BYTES, many: false })
    }

    /// Collects what is new; returns whether anything was. `last`: nothing is written any more. A file that
    /// cannot be read keeps no other from it; the first error is returned after all were tried.
    pub(crate) fn pass(&mut self, last: bool) -> std::io::Result<bool> {
        let (mut any, mut first) = (false, None);
        let mut names = Vec::new();
        find(&self.logs, "", 0, &mut names);
        if names.len() == MOST_FILES && !self.many {
            self.many = true;
            tracing::warn!(followed = MOST_FILES, "there are more files of metrics than are followed");
        }
        for name in names {
            match self.read_on(&name, last) {
                Ok(new) => any |= new,
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(any), Err)
    }

    /// Collects what is new in one file.
    fn read_on(&mut self, name: &str, last: bool) -> std::io::Result<bool> {
        let Some(file) = open(&self.logs.join(name)) else { return Ok(false) };
        let source = self.sources.entry(name.to_owned()).or_insert_with(|| source(name, 0));
        let metadata = file.metadata()?;
        let replaced = source.inode.is_some_and(|i| i != metadata.ino());
        if replaced || metadata.len() < source.at {
            *source = self::source(name, 0);
        }
        source.inode = Some(metadata.ino());
        let mut any = false;
        while !self.full && !source.broken {
            let mut bytes = vec![0; CHUNK.min(file.metadata()?.len().saturating_sub(source.at) as usize)];
            let n = file.read_at(&mut bytes, source.at)?;
            bytes.truncate(n);
            // Only when its points are kept is a piece read: until then, all of it is tried again.
            let mut next = source.clone();
            let read = next.read(name, &bytes, last);
            let mut text = Vec::new();
            for (metric, end) in read.points {
                let point = Point { metric, source: name.to_owned(), end: source.at + end as u64 };
                serde_json::to_writer(&mut text, &point)?;
                text.push(b'\n');
            }
            if !text.is_empty() {
                self.points.append(&text, last)?;
                break_point("metrics:collected");
                self.points.note_source(name);
                any = true;
            }
            if let Some(why) = read.broken {
                tracing::warn!(name, why, "metrics of this file are no longer collected");
                next.broken = true;
            }
            next.at += read.used as u64;
            *source = next;
            if self.points.size() >= MOST_BYTES {
                tracing::warn!("the run has written more metrics than are collected");
                self.full = true;
            }
            if read.used == 0 {
                break;
            }
        }
        Ok(any)
    }

    /// The last pass: nothing is written any more. What fails is tried again.
    pub(crate) async fn finish(mut self) {
        for _ in 0..LAST_TRIES {
            let passed = tokio::task::spawn_blocking(move || {
                let result = self.pass(true);
                (self, result)
            });
            match passed.await {
                Ok((_, Ok(_))) => return,
                Ok((collector, Err(error))) => {
                    tracing::warn!(%error, "the last metrics cannot be collected now");
                    self = collector;
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
                Err(error) => {
                    tracing::error!(%error, "the last metrics are not collected");
                    return;
                }
            }
        }
        tracing::error!("the last metrics are not collected");
    }

    /// Collects again and again, until told to stop; then once more.
    pub(crate) fn keep_up(mut self, reporter: impl Fn() + Send + 'static) -> Collecting {
        let (stop, mut stopped) = watch::channel(());
        let task = tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            while tokio::time::timeout(pause, stopped.changed()).await.is_err() {
                // Files are read: not on the thread that watches the program.
                let passed = tokio::task::spawn_blocking(move || {
                    let any = self.pass(false);
                    (self, any)
                });
                let (collector, any) = match passed.await {
                    Ok(passed) => passed,
                    Err(error) => {
                        tracing::error!(%error, "metrics are no longer collected");
                        return;
                    }
                };
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
            }
            self.finish().await;
        });
        Collecting { task, stop }
    }
}

impl Source {
    fn read(&mut self, name: &str, bytes: &[u8], last: bool) -> Read {
        match &mut self.reader {
            Reader::Emetrics(reader) if last && bytes.len() < CHUNK => reader.read_last(bytes, Time::now()),
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
    Source { reader, at, inode: None, broken: false }
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
    use std::io::Write;

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
        assert!(!collector.pass(false).unwrap());
        fs::write(&file, line(1) + &line(2) + "{\"half").unwrap();
        assert!(collector.pass(false).unwrap());
        assert!(!collector.pass(false).unwrap());
        drop(collector);
        // It was killed in the middle of a line.
        let mut torn = OpenOptions::new().append(true).open(&points.path).unwrap();
        torn.write_all(b"{\"metric\":").unwrap();
        fs::write(&file, line(1) + &line(2) + &line(3)).unwrap();
        let points = Points::of(&layout);
        let mut collector = Collector::resume(&layout, points.clone()).unwrap();
        assert!(collector.pass(false).unwrap());
        assert_eq!(steps(&points), [1, 2, 3]);
        assert_eq!(points.size(), fs::metadata(&points.path).unwrap().len());
    }

    #[test]
    fn a_file_that_begins_anew_is_read_from_its_start() {
        let (_dir, layout, points) = yard();
        let file = layout.logs.join(EMETRICS);
        let mut collector = Collector::new(&layout, points.clone()).unwrap();
        fs::write(&file, line(1) + &line(2)).unwrap();
        collector.pass(false).unwrap();
        fs::write(&file, line(7)).unwrap();
        collector.pass(false).unwrap();
        // One that takes its place, and is longer.
        let other = layout.logs.join("other");
        fs::write(&other, line(8) + &line(9)).unwrap();
        fs::rename(&other, &file).unwrap();
        collector.pass(false).unwrap();
        assert_eq!(steps(&points), [1, 2, 7, 8, 9]);
    }

    #[test]
    fn what_could_not_be_kept_is_collected_again() {
        let (_dir, layout, points) = yard();
        // The beginning of a line that is too long, and points behind it: the reader is in the middle.
        let long = "x".repeat(CHUNK + 10) + "\n";
        fs::write(layout.logs.join(EMETRICS), line(1) + &long + &line(2)).unwrap();
        let mut collector = Collector::new(&layout, points.clone()).unwrap();
        fs::create_dir(&points.path).unwrap();
        for _ in 0..3 {
            assert!(collector.pass(false).is_err(), "points were kept in a folder");
        }
        fs::remove_dir(&points.path).unwrap();
        assert!(collector.pass(false).unwrap());
        assert_eq!(steps(&points), [1, 2]);
    }

    #[test]
    fn the_last_points_need_no_room() {
        let (_dir, layout, points) = yard();
        let file = layout.logs.join(EMETRICS);
        fs::write(&file, line(1)).unwrap();
        let mut collector = Collector::new(&layout, points.clone()).unwrap();
        collector.pass(false).unwrap();
        let kept = fs::read(&points.path).unwrap();
        // No room: the file is a folder now.
        let aside = layout.root.join("aside");
        fs::rename(&points.path, &aside).unwrap();
        fs::create_dir(&points.path).unwrap();
        fs::write(&file, line(1) + &line(2) + &line(3)).unwrap();
        assert!(collector.pass(true).unwrap());
        assert!(!collector.pass(true).unwrap(), "points were collected twice");
        fs::remove_dir(&points.path).unwrap();
        fs::rename(&aside, &points.path).unwrap();
        let mut all = points.read_at(0, u64::from(u32::MAX)).unwrap();
        assert_eq!(all, kept);
        all.extend(points.read_at(kept.len() as u64, u64::from(u32::MAX)).unwrap());
        assert_eq!(all.len() as u64, points.size());
        let of = |l: &[u8]| serde_json::from_slice::<Point>(l).unwrap().metric.iteration;
        assert_eq!(all.trim_ascii_end().split(|b| *b == b'\n').map(of).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_file_that_cannot_be_kept_up_with_is_finished_at_the_end() {
        let (_dir, layout, points) = yard();
        fs::write(layout.logs.join(EMETRICS), line(1) + line(2).trim_end()).unwrap();
        let mut collector = Collector::new(&layout, points.clone()).unwrap();
        collector.pass(false).unwrap();
        assert_eq!(steps(&points), [1]);
        collector.pass(true).unwrap();
        collector.pass(true).unwrap();
        assert_eq!(steps(&points), [1, 2]);
    }

    #[test]
    fn pipes_and_links_are_left_alone() {
        let (_dir, layout, points) = yard();
        nix::unistd::mkfifo(&layout.logs.join(EMETRICS), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let elsewhere = layout.root.join("elsewhere");
        fs::write(&elsewhere, line(1)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, layout.logs.join("tb/events.out.tfevents.1")).unwrap();
        let mut collector = Collector::new(&layout, points).unwrap();
        assert!(!collector.pass(false).unwrap());
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
