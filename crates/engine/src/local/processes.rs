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
use trainyard_api::{RunId, runner::KEEP_MARK};

use super::{
    folders::Folders,
    fork_server::{Child, Children, ForkRequest, ForkServer},
};
use crate::{AttemptRef, Condition, Engine, Left, Placement, SubmitError, Watched, last_words::last_words};

/// How long a runner that this server did not start itself may take until it holds its lock.
const START_UP: Duration = Duration::from_secs(3);
/// Pause between looks at whether a runner has left its folder.
const LEAVING: Duration = Duration::from_millis(20);

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

    async fn poll(&self, attempts: &[Watched]) -> Vec<Condition> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.retain(|a, _| attempts.iter().any(|w| w.at == *a));
        let gone = |how: &str, folder: &Path| Condition::Gone {
            message: format!("{how}{}", last_words(&folder.join("runner.log"))),
            code: None,
        };
        let mut conditions = Vec::with_capacity(attempts.len());
        for Watched { at: attempt, .. } in attempts {
            let folder = self.folders.of(&attempt.run);
            conditions.push(match children.get(attempt) {
                Some(Child::Runs(_)) => Condition::Alive,
                Some(Child::Ended(how)) => gone(how, &folder),
                None if lock_is_held(&folder) => {
                    unseen.remove(attempt);
                    Condition::Alive
                }
                None => {
                    let since = unseen.entry(attempt.clone()).or_insert_with(Instant::now);
                    if since.elapsed() < START_UP {
                        Condition::Alive
                    } else {
                        gone("its process is gone", &folder)
                    }
                }
            });
        }
        conditions
    }

    async fn stop(&self, attempt: &AttemptRef) {
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

    fn explain(&self, _: &AttemptRef) -> Option<String> {
        None
    }

    async fn clean(&self, run: &RunId, left: Left) {
        let folder = self.folders.of(run);
        while lock_is_held(&folder) {
            tokio::time::sleep(LEAVING).await;
        }
        if left.keep
            && let Err(error) = fs::create_dir(folder.join(KEEP_MARK))
        {
            tracing::debug!(%error, %run, "nothing is there to keep");
        }
        self.children.lock().unwrap_or_else(PoisonError::into_inner).retain(|a, _| a.run != *run);
        let (folders, of) = (Arc::clone(&self.folders), run.clone());
        let taken = tokio::task::spawn_blocking(move || folders.take_back(&of)).await;
        if let Ok(Err(error)) = taken {
            tracing::warn!(%error, %run, "cannot remove the run's folder on the node");
        }
    }
}
