//! Notices that a file grows, without asking again and again.

use std::path::Path;

use futures::StreamExt;
use inotify::{EventStream, Inotify, WatchMask};

/// Wakes when a file was written to.
pub(crate) struct Tail {
    /// Absent where the kernel grants no watch: then the caller's own timer is all there is.
    events: Option<EventStream<[u8; 1024]>>,
}

impl Tail {
    pub(crate) fn new(path: &Path) -> Self {
        let watch = || {
            let inotify = Inotify::init()?;
            inotify.watches().add(path, WatchMask::MODIFY)?;
            inotify.into_event_stream([0; 1024])
        };
        let events =
            watch().map_err(|error| tracing::warn!(%error, "the log is looked at once a second")).ok();
        Self { events }
    }

    /// Returns when something was written since the last call.
    pub(crate) async fn grown(&mut self) {
        match &mut self.events {
            Some(events) => {
                if events.next().await.is_none() {
                    self.events = None;
                }
            }
            None => tokio::time::sleep(std::time::Duration::from_secs(1)).await,
        }
    }
}
