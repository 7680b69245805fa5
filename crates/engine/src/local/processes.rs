//! Runner processes: started in a folder of their own, found again by the lock that they hold.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use tokio::sync::Notify;
use trainyard_api::{RunId, runner::KEEP_MARK};
use trainyard_cgroup::Cgroup;

use super::{
    adopted::Adopted,
    folders::Folders,
    fork_server::{Child, Children, ForkRequest, ForkServer},
    locks::{holder, lock_is_held},
};
use crate::{
    AttemptRef, Condition, Engine, Left, Placement, Remains, SubmitError, Watched, last_words::last_words,
};

/// How long a runner that this server has decided to start may take until it is asked for.
const START_UP: Duration = Duration::from_secs(3);
/// A lock that nobody holds is looked at once more: a runner that waits for another's has it a moment later.
const SECOND_LOOK: Duration = Duration::from_millis(250);
/// First and longest pause between looks at whether a runner has left its folder.
const LEAVING: Duration = Duration::from_millis(10);
const LEAVING_LATE: Duration = Duration::from_secs(1);
/// How long a runner that has just begun is waited for until it says which process it is.
const NAMES_ITSELF: Duration = Duration::from_secs(1);

/// Places runners on this machine.
pub struct LocalEngine {
    folders: Arc<Folders>,
    fork_server: ForkServer,
    children: Children,
    adopted: Adopted,
    /// When an attempt was first seen without a runner.
    unseen: Mutex<HashMap<AttemptRef, Instant>>,
    ended: Arc<Notify>,
    /// Id of the server, which control groups are called by.
    server: String,
}

impl LocalEngine {
    /// Of the server of this id, with the fork server `program fork-server`, in folders below `node`.
    pub fn new(program: PathBuf, node: PathBuf, server: String) -> Self {
        let (children, ended) = (Children::default(), Arc::default());
        let fork_server = ForkServer::new(program, &node, Arc::clone(&children), Arc::clone(&ended));
        Self {
            folders: Arc::new(Folders::new(node)),
            fork_server,
            children,
            adopted: Adopted::default(),
            unseen: Mutex::default(),
            ended,
            server,
        }
    }

    /// Has somebody look again after a while.
    fn look_again(&self, after: Duration) {
        let ended = Arc::clone(&self.ended);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            ended.notify_one();
        });
    }

    /// Woken whenever a runner on this machine has ended, and when there may be something else to see.
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
        for Watched { at: attempt, adopted, claimed, .. } in attempts {
            let folder = self.folders.of(&attempt.run);
            let child = children.get(attempt);
            conditions.push(match child {
                Some(Child::Runs(_)) => Condition::Alive,
                Some(Child::Ended(how)) => gone(how, &folder),
                Some(Child::Orphaned) | None if lock_is_held(&folder) => {
                    unseen.remove(attempt);
                    self.adopted.watch(attempt, &folder, &self.ended);
                    Condition::Alive
                }
                Some(Child::Orphaned) | None => {
                    // A lock is taken before its runner is forked: where it was asked for, nobody is to come.
                    let patience = if *adopted || child.is_some() { SECOND_LOOK } else { START_UP };
                    let since = unseen.get(attempt).copied();
                    if since.is_some_and(|since| since.elapsed() >= patience) {
                        if *adopted && child.is_none() && !claimed {
                            // The server before this one was ended before it had one started, or it ended with that
                            // server, having done nothing.
                            Condition::Missing
                        } else {
                            gone("its process is gone", &folder)
                        }
                    } else {
                        if since.is_none() {
                            unseen.insert(attempt.clone(), Instant::now());
                            self.look_again(patience);
                        }
                        Condition::Alive
                    }
                }
            });
        }
        conditions
    }

    async fn stop(&self, attempt: &AttemptRef) {
        let folder = self.folders.of(&attempt.run);
        let begun = Instant::now();
        // The lock proves that the process id in it is the runner's, and not somebody else's by now.
        while lock_is_held(&folder) {
            if let Some(pid) = holder(&folder) {
                if let Err(error) = kill(pid, Signal::SIGTERM) {
                    tracing::warn!(%error, run = %attempt.run, "cannot nudge the runner");
                }
                return;
            }
            if begun.elapsed() > NAMES_ITSELF {
                return;
            }
            tokio::time::sleep(LEAVING).await;
        }
    }

    fn explain(&self, _: &AttemptRef) -> Option<String> {
        None
    }

    async fn clean(&self, run: &RunId, left: Left) {
        let folder = self.folders.of(run);
        let mut pause = LEAVING;
        while lock_is_held(&folder) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LEAVING_LATE);
        }
        if left.keep
            && let Err(error) = fs::create_dir(folder.join(KEEP_MARK))
        {
            tracing::debug!(%error, %run, "nothing is there to keep");
        }
        self.children.lock().unwrap_or_else(PoisonError::into_inner).retain(|a, _| a.run != *run);
        let (folders, of) = (Arc::clone(&self.folders), run.clone());
        let group = trainyard_cgroup::name_of(&self.server, run.as_str());
        let taken = tokio::task::spawn_blocking(move || {
            if let Some(group) = Cgroup::find(&group) {
                group.remove();
            }
            folders.take_back(&of)
        });
        if let Ok(Err(error)) = taken.await {
            tracing::warn!(%error, %run, "cannot remove the run's folder on the node");
        }
    }

    async fn left(&self) -> Vec<Remains> {
        let (folders, server) = (Arc::clone(&self.folders), self.server.clone());
        let found = tokio::task::spawn_blocking(move || {
            let mut runs = folders.of_runs();
            runs.retain(|run| !lock_is_held(&folders.of(run)));
            runs.extend(trainyard_cgroup::runs_of(&server).iter().filter_map(|run| run.parse().ok()));
            runs.sort_unstable();
            runs.dedup();
            runs.into_iter().map(|run| Remains { run, is_ours: true }).collect()
        });
        found.await.unwrap_or_default()
    }
}
