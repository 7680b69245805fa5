//! Runner processes: started in a folder of their own, found again by the lock that they hold.

use std::{
    collections::HashMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::sync::Notify;
use trainyard_api::RunId;

use super::{
    folders::Folders,
    fork_server::{Child, Children, ForkRequest, ForkServer},
};
use crate::{AttemptRef, Condition, Engine, Placement, SubmitError};

/// How long a runner that this server did not start itself may take until it holds its lock.
const START_UP: Duration = Duration::from_secs(3);
/// Lines of a lost runner's own log that are quoted.
const QUOTED: usize = 5;

/// Whether a runner holds the lock of this folder.
pub fn lock_is_held(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join("runner.lock")) else { return false };
    // Shared, so that looking does not keep a runner from taking it for long.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Places runners on this machine.
pub struct LocalEngine {
    folders: Arc<Folders>,
    fork_server: ForkServer,
    children: Children,
    /// When an attempt was first seen without a runner.
    unseen: Mutex<HashMap<AttemptRef, Instant>>,
    ended: Arc<Notify>,
}

impl LocalEngine {
    /// With the fork server `program fork-server`, in folders below `node`.
    pub fn new(program: PathBuf, node: PathBuf) -> Self {
        let (children, ended) = (Children::default(), Arc::default());
        let fork_server = ForkServer::new(program, &node, Arc::clone(&children), Arc::clone(&ended));
        Self { folders: Arc::new(Folders::new(node)), fork_server, children, unseen: Mutex::default(), ended }
    }

    /// Woken whenever a runner that this engine started has ended.
    pub fn ended(&self) -> Arc<Notify> {
        Arc::clone(&self.ended)
    }
}

#[async_trait::async_trait]
impl Engine for LocalEngine {
    async fn submit(&self, placement: &Placement) -> Result<(), SubmitError> {
        let failed = |what: &str, e: std::io::Error| SubmitError(format!("{what}: {e}"));
        let ticket = placement.ticket.clone();
        let folder =
            self.folders.make(&ticket.run).map_err(|e| failed("the run's folder cannot be made", e))?;
        let asked = self.fork_server.ask(&ForkRequest { folder, ticket }).await;
        asked.map_err(|e| failed("the runner cannot be started", e))
    }

    async fn poll(&self, attempts: &[AttemptRef]) -> Vec<Condition> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.retain(|a, _| attempts.contains(a));
        let mut conditions = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            let folder = self.folders.of(&attempt.run);
            conditions.push(match children.get(attempt) {
                Some(Child::Runs(_)) => Condition::Alive,
                Some(Child::Ended(how)) => Condition::Gone(format!("{how}{}", last_words(&folder))),
                None if lock_is_held(&folder) => {
                    unseen.remove(attempt);
                    Condition::Alive
                }
                None => {
                    let since = unseen.entry(attempt.clone()).or_insert_with(Instant::now);
                    if since.elapsed() < START_UP {
                        Condition::Alive
                    } else {
                        Condition::Gone(format!("its process is gone{}", last_words(&folder)))
                    }
                }
            });
        }
        conditions
    }

    async fn nudge(&self, attempt: &AttemptRef) {
        let folder = self.folders.of(&attempt.run);
        // The lock proves that the process id in it is the runner's, and not somebody else's by now.
        if !lock_is_held(&folder) {
            return;
        }
        let text = fs::read_to_string(folder.join("runner.lock")).unwrap_or_default();
        if let Some(pid) = text.trim().parse::<i32>().ok().filter(|p| *p > 1)
            && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM)
        {
            tracing::warn!(%error, run = %attempt.run, "cannot nudge the runner");
        }
    }

    async fn clean(&self, run: &RunId) {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).retain(|a, _| a.run != *run);
        let (folders, of) = (Arc::clone(&self.folders), run.clone());
        let taken = tokio::task::spawn_blocking(move || folders.take_back(&of)).await;
        if let Ok(Err(error)) = taken {
            tracing::warn!(%error, %run, "cannot remove the run's folder on the node");
        }
    }
}

/// The end of a runner's own log, which says why it ended when it could.
fn last_words(folder: &Path) -> String {
    let text = fs::read(folder.join("runner.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    match &lines[lines.len().saturating_sub(QUOTED)..] {
        [] => String::new(),
        tail => format!("; its log ends with: {}", tail.join(" | ")),
    }
}
