//! What can end an attempt early: a cancel, a newer attempt, or the node itself.

use std::time::Duration;

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    time::{sleep, timeout},
};
use trainyard_api::runner::EngineName;

use crate::{
    Error,
    others::Others,
    reporter::{Reporter, Told},
};

/// After a TERM the server is asked what it means; a server that does not answer this long means
/// that the node is going down.
const ASK: Duration = Duration::from_secs(5);
/// The same on a cluster, which ends its jobs half a minute after a TERM.
const ASK_ON_CLUSTER: Duration = Duration::from_secs(2);
/// A cluster tells the program and its runner to stop at the same moment: how long apart that may be seen.
const SAME_MOMENT: Duration = Duration::from_millis(500);
/// The same where it is unlikely.
const NO_TIME: Duration = Duration::from_millis(5);

/// The signals that a runner is told with.
pub(crate) struct Signals {
    /// To ask the server what to do, or to stop.
    terminate: Signal,
    /// The end of the engine's time limit is near.
    limit: Signal,
}

impl Signals {
    /// From here on they end no process.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, limit: signal(SignalKind::user_defined2())? })
    }
}

/// Waits for reasons to stop.
pub(crate) struct Stop {
    signals: Signals,
    told: watch::Receiver<Told>,
    others: Others,
    ask: Duration,
    /// TERM came, and nobody has said what it means.
    terminated: bool,
}

impl Stop {
    pub(crate) fn new(reporter: &Reporter, signals: Signals, engine: EngineName, others: Others) -> Self {
        let ask = if engine == EngineName::Local { ASK } else { ASK_ON_CLUSTER };
        Self { signals, told: reporter.told(), others, ask, terminated: false }
    }

    /// Whether the program, which has just ended, was told to stop together with this runner, by the cluster
    /// and not by its owner. One that ended well was so most likely not, and is not waited for as long.
    pub(crate) async fn is_node_stopped(&mut self, well: bool) -> bool {
        let moment = if well { NO_TIME } else { SAME_MOMENT };
        let told = self.terminated || timeout(moment, self.signals.terminate.recv()).await.is_ok();
        told && *self.told.borrow() == Told::Work
    }

    /// Returns when there is a reason to stop: [`Error::Canceled`], [`Error::Ended`], [`Error::Fenced`],
    /// [`Error::TimeLimit`], [`Error::Others`] or [`Error::NodeStopped`]. Safe to drop and to call again.
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
                _ = self.signals.limit.recv() => return Error::TimeLimit,
                failed = self.others.failed() => return failed,
                _ = self.signals.terminate.recv() => {
                    // Engines nudge with TERM, nodes say good-bye with it: the server knows which.
                    self.terminated = true;
                    reporter.ask();
                    tokio::select! {
                        _ = self.told.changed() => {}
                        () = sleep(self.ask) => return Error::NodeStopped,
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
        Told::End(why) => Some(Error::Ended(why.clone())),
        Told::Leave(why) => Some(Error::Fenced(why.clone())),
    }
}
