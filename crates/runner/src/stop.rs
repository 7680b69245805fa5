//! What can end an attempt early: a cancel, a newer attempt, or the node itself.

use std::time::Duration;

use tokio::{signal::unix::Signal, sync::watch, time::sleep};

use crate::{
    Error,
    reporter::{Reporter, Told},
};

/// After a TERM the server is asked what it means; a server that does not answer this long means
/// that the node is going down.
const ASK: Duration = Duration::from_secs(5);

/// Waits for reasons to stop.
pub(crate) struct Stop {
    terminate: Signal,
    told: watch::Receiver<Told>,
}

impl Stop {
    pub(crate) fn new(reporter: &Reporter, terminate: Signal) -> Self {
        Self { terminate, told: reporter.told() }
    }

    /// Returns when there is a reason to stop: [`Error::Canceled`], [`Error::Fenced`] or
    /// [`Error::NodeStopped`]. Safe to drop and to call again.
    pub(crate) async fn reason(&mut self, reporter: &Reporter) -> Error {
        loop {
            if let Some(reason) = reason(&self.told.borrow_and_update()) {
                return reason;
            }
            tokio::select! {
                changed = self.told.changed() => {
                    if changed.is_err() {
                        return Error::Fenced("the reporter stopped".to_owned());
                    }
                }
                _ = self.terminate.recv() => {
                    // Engines nudge with TERM, nodes say good-bye with it: the server knows which.
                    reporter.ask();
                    tokio::select! {
                        _ = self.told.changed() => {}
                        () = sleep(ASK) => return Error::NodeStopped,
                    }
                }
            }
        }
    }
}

fn reason(told: &Told) -> Option<Error> {
    match told {
        Told::Work => None,
        Told::Cancel => Some(Error::Canceled),
        Told::Leave(why) => Some(Error::Fenced(why.clone())),
    }
}
