//! The collected metrics of an attempt: a file of the runner's own, a point per line, and what the disk had
//! no room for at the end. They go to the server from here, and into the results as the original's file.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use nix::libc;
use trainyard_api::runner::Point;
use trainyard_metrics::emetrics_line;

use crate::layout::Layout;

/// The original's file of metrics, in the folder of logs; and in the results, beside the log.
pub(crate) const EMETRICS: &str = "evaluation-metrics.txt";

/// Where points are kept on the node, and how far.
#[derive(Clone)]
pub(crate) struct Points {
    pub(crate) path: PathBuf,
    /// Bytes of whole lines in the file.
    whole: Arc<AtomicU64>,
    /// Whole lines behind those of the file, which the disk had no room for when the program had ended:
    /// its results do not wait for room, and whoever takes over collects them again.
    held: Arc<Mutex<Vec<u8>>>,
    /// Whether some came from TensorBoard: the program has not written those as emetrics.
    others: Arc<AtomicBool>,
}

impl Points {
    pub(crate) fn of(layout: &Layout) -> Self {
        let path = layout.root.join("metrics.jsonl");
        Self { path, whole: Arc::default(), held: Arc::default(), others: Arc::default() }
    }

    /// Bytes of whole lines.
    pub(crate) fn size(&self) -> u64 {
        let held = self.held();
        self.whole.load(Relaxed) + held.len() as u64
    }

    /// Up to `most` bytes from `offset` on.
    pub(crate) fn read_at(&self, offset: u64, most: u64) -> std::io::Result<Vec<u8>> {
        let held = self.held();
        let whole = self.whole.load(Relaxed);
        let Some(behind) = offset.checked_sub(whole) else {
            let mut bytes = vec![0; most.min(whole - offset) as usize];
            let n = File::open(&self.path)?.read_at(&mut bytes, offset)?;
            bytes.truncate(n);
            return Ok(bytes);
        };
        Ok(held.iter().skip(behind as usize).take(most as usize).copied().collect())
    }

    /// The file holds whole lines up to `bytes`, of an earlier runner.
    pub(crate) fn adopt(&self, bytes: u64) {
        self.whole.store(bytes, Relaxed);
    }

    fn held(&self) -> MutexGuard<'_, Vec<u8>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends whole lines. What was torn by a full disk is cut off again; `last`: nobody tries again, and
    /// what finds no room is held.
    pub(crate) fn append(&self, lines: &[u8], last: bool) -> std::io::Result<()> {
        let mut held = self.held();
        if held.is_empty() {
            match self.append_to_file(lines) {
                Err(error) if last => tracing::warn!(%error, "the last metrics are held in memory"),
                other => return other,
            }
        }
        held.extend_from_slice(lines);
        Ok(())
    }

    fn append_to_file(&self, lines: &[u8]) -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.path)?;
        if let Err(error) = file.write_all(lines) {
            file.set_len(self.whole.load(Relaxed))?;
            return Err(error);
        }
        self.whole.fetch_add(lines.len() as u64, Relaxed);
        Ok(())
    }

    /// Whether some are of TensorBoard files.
    pub(crate) fn has_others(&self) -> bool {
        self.others.load(Relaxed)
    }

    /// Writes one file of all metrics of run `run`: what the program has written itself as it is, and what
    /// is in TensorBoard files in the same form behind it. `logs` is the program's folder of logs.
    pub(crate) fn write_emetrics(&self, run: &str, logs: &Path, file: &Path) -> std::io::Result<()> {
        let mut lines = BufWriter::new(File::create(file)?);
        if let Some(mut own) = open(&logs.join(EMETRICS)) {
            let copied = std::io::copy(&mut own, &mut lines)?;
            let mut last = [b'\n'];
            if copied > 0 && own.read_exact_at(&mut last, copied - 1).is_ok() && last != *b"\n" {
                lines.write_all(b"\n")?;
            }
        }
        let held = self.held().clone();
        let kept = File::open(&self.path).map(|f| f.take(self.whole.load(Relaxed)));
        let kept: Box<dyn Read> = match kept {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Box::new(std::io::empty()),
            kept => Box::new(kept?),
        };
        for line in BufReader::new(kept.chain(&*held)).lines() {
            let Ok(point) = serde_json::from_str::<Point>(&line?) else { continue };
            if point.source != EMETRICS {
                writeln!(lines, "{}", emetrics_line(&point.metric, run))?;
            }
        }
        lines.flush()
    }

    pub(crate) fn note_source(&self, source: &str) {
        if source != EMETRICS {
            self.others.store(true, Relaxed);
        }
    }
}

/// Size of the program's own file of metrics.
pub(crate) fn own_size(logs: &Path) -> u64 {
    fs::symlink_metadata(logs.join(EMETRICS)).map_or(0, |m| m.len())
}

/// A file, unless it is something else: to open a pipe would wait for ever.
pub(crate) fn open(path: &Path) -> Option<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    file.metadata().is_ok_and(|m| m.is_file()).then_some(file)
}
