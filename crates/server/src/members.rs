//! Runners that find nothing in a shared folder: they prove with munge that they are this server's user's, and fetch the
//! program from it. What trial jobs found is kept for whoever asks, in memory.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Semaphore;
use trainyard_api::{Code, Finding, runner::MUNGE};
use trainyard_engine::slurm::{Sent, account};

use crate::problem::{Answer, Refusal};

/// Credentials that are decoded at once. Each is a process.
const AT_ONCE: usize = 8;
/// Programs that are handed out at once: who asks need not say who he is.
const PROGRAMS: usize = 64;
/// Trials that are kept.
const TRIALS: usize = 16;

/// See the module.
pub(crate) struct Members {
    /// This server's id.
    pub(crate) id: String,
    /// What jobs are sent.
    pub(crate) sent: Sent,
    decoding: Semaphore,
    /// Programs that are on their way to nodes.
    pub(crate) handing: Arc<Semaphore>,
    trials: Mutex<VecDeque<(String, Vec<Finding>)>>,
}

impl Members {
    pub(crate) fn new(id: &str, sent: Sent) -> Self {
        Self {
            id: id.to_owned(),
            sent,
            decoding: Semaphore::new(AT_ONCE),
            handing: Arc::new(Semaphore::new(PROGRAMS)),
            trials: Mutex::default(),
        }
    }

    /// Where munge listens, on nodes as here.
    pub(crate) fn munge(&self) -> PathBuf {
        self.sent.munge_socket.clone().unwrap_or_else(|| PathBuf::from("/run/munge"))
    }

    /// As whom jobs of this owner run.
    pub(crate) async fn user_of(&self, owner: &str) -> Option<u32> {
        if !self.sent.as_owners {
            return Some(nix::unistd::geteuid().as_raw());
        }
        let owner = owner.to_owned();
        let found = tokio::task::spawn_blocking(move || account(&owner)).await;
        found.ok()?.ok().map(|a| a.uid)
    }

    /// Whether `shown` is a credential of this user with this text in it, for the first time. An error: nobody can
    /// tell now.
    pub(crate) async fn proves(&self, shown: &str, user: u32, text: &str) -> Answer<bool> {
        if !shown.starts_with(MUNGE) {
            return Ok(false);
        }
        let turn = self.decoding.acquire().await;
        let decoded = trainyard_munge::decode(self.sent.munge_socket.as_deref(), shown).await;
        drop(turn);
        match decoded {
            Ok(decoded) => Ok(decoded.uid == user && decoded.text == text),
            Err(error @ trainyard_munge::Error::Refused(_)) => {
                tracing::debug!(%error, "a credential of munge is refused");
                Ok(false)
            }
            Err(error) => {
                tracing::warn!(%error, "who a runner is cannot be told now");
                Err(Refusal::new(Code::Busy, format!("who asks cannot be told now: {error}")))
            }
        }
    }

    fn trials(&self) -> MutexGuard<'_, VecDeque<(String, Vec<Finding>)>> {
        self.trials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what a trial found.
    pub(crate) fn keep(&self, name: String, found: Vec<Finding>) {
        let mut trials = self.trials();
        trials.truncate(TRIALS - 1);
        trials.push_front((name, found));
    }

    /// What the trial of this name found, once.
    pub(crate) fn take(&self, name: &str) -> Option<Vec<Finding>> {
        let mut trials = self.trials();
        let at = trials.iter().position(|(n, _)| n == name)?;
        trials.remove(at).map(|(_, found)| found)
    }
}
