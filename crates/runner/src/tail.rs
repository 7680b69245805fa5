//! Notices that a file grows, without asking again and again and without slowing the writer down.
//!
//! A watch costs its file's writer a notification per write. So it is set only while nothing is
//! written, and is gone with the first write: dense output is looked at by the caller's own clock.

use std::path::{Path, PathBuf};

use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};

/// Wakes when a file was written to.
pub(crate) struct Tail {
    path: PathBuf,
    /// Absent where the kernel grants no watch: then the caller's own timer is all there is.
    events: Option<EventStream<[u8; 1024]>>,
    /// A watch is set.
    armed: bool,
}

impl Tail {
    pub(crate) fn new(path: &Path) -> Self {
        let events = Inotify::init()
            .and_then(|inotify| inotify.into_event_stream([0; 1024]))
            .map_err(|error| tracing::warn!(%error, "the log is looked at once a second"));
        Self { path: path.to_owned(), events: events.ok(), armed: false }
    }

    /// Returns when the file has more bytes than `seen`. Safe to drop and to call again.
    pub(crate) async fn grown(&mut self, seen: u64) {
        while size(&self.path) <= seen {
            if !self.arm() {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                continue;
            }
            // What was written before the watch was set wakes nobody: look once more.
            if size(&self.path) > seen {
                return;
            }
            let Some(events) = &mut self.events else { continue };
            match events.next().await {
                Some(Ok(event)) => self.armed &= !event.mask.contains(inotify::EventMask::IGNORED),
                _ => self.events = None,
            }
        }
    }

    /// Sets the watch, unless it is set; `false` where there can be none.
    fn arm(&mut self) -> bool {
        let Some(events) = &self.events else { return false };
        if !self.armed {
            let mask = WatchMask::MODIFY | WatchMask::ONESHOT;
            match events.watches().add(&self.path, mask) {
                Ok(_) => self.armed = true,
                Err(error) => {
                    tracing::warn!(%error, "the log is looked at once a second");
                    self.events = None;
                }
            }
        }
        self.armed
    }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, time::Duration};

    use super::*;

    #[tokio::test]
    async fn every_growth_is_noticed_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = File::create(&path).unwrap();
        let mut tail = Tail::new(&path);
        for n in 0..50u64 {
            let quiet = tokio::time::timeout(Duration::from_millis(1), tail.grown(n)).await;
            assert!(quiet.is_err(), "byte {n} was noticed before it was written");
            let writer = async { file.write_all(b"x").unwrap() };
            tokio::time::timeout(Duration::from_secs(10), async { tokio::join!(tail.grown(n), writer) })
                .await
                .unwrap_or_else(|_| panic!("byte {n} was not noticed"));
        }
    }
}
