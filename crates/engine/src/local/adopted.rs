//! Runners that no fork server of this server tells of, because an earlier one started them: each is watched by a
//! descriptor of its process (`pidfd_open` without blocking, Linux 5.10), which becomes readable when it ends.

use std::{
    collections::HashSet,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustix::process::{PidfdFlags, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::Notify,
};

use super::locks::holder;
use crate::AttemptRef;

/// Those that are watched.
#[derive(Clone, Default)]
pub(crate) struct Adopted(Arc<Mutex<HashSet<AttemptRef>>>);

impl Adopted {
    /// Watches the runner that holds the lock of `folder`, unless it is watched already: `ended` is told when it is
    /// gone. Where it cannot be watched, looks at the lock have to do.
    pub(crate) fn watch(&self, attempt: &AttemptRef, folder: &Path, ended: &Arc<Notify>) {
        if self.all(|all| all.contains(attempt)) {
            return;
        }
        let Some(process) = open(folder) else { return };
        self.all(|all| all.insert(attempt.clone()));
        let (adopted, attempt, ended) = (self.clone(), attempt.clone(), Arc::clone(ended));
        tokio::spawn(async move {
            if let Err(error) = process.readable().await {
                tracing::debug!(%error, run = %attempt.run, "a runner's process cannot be watched");
            }
            adopted.all(|all| all.remove(&attempt));
            ended.notify_one();
        });
    }

    fn all<T>(&self, ask: impl FnOnce(&mut HashSet<AttemptRef>) -> T) -> T {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn open(folder: &Path) -> Option<AsyncFd<OwnedFd>> {
    let pid = holder(folder)?;
    let process = pidfd_open(rustix::process::Pid::from_raw(pid.as_raw())?, PidfdFlags::NONBLOCK).ok()?;
    // Still held: then it was the holder that was opened, and nobody who got its number.
    if holder(folder) != Some(pid) {
        return None;
    }
    // SAFETY: the descriptor has to stay open and the same as long as it is registered. It is an `OwnedFd`, which
    // always names the one that it owns, and closes it only when it is dropped; it moves into the `AsyncFd`, which
    // drops it after having taken it out of the reactor, and gives nobody a way to replace it.
    #[expect(unsafe_code, reason = "tokio takes descriptors that are none of its own kinds by promise")]
    let watched = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    watched.ok()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, time::Duration};

    use trainyard_api::runner::LOCK;

    use super::*;
    use crate::local::take_lock;

    #[tokio::test]
    async fn the_end_of_an_adopted_process_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Command::new("sleep").arg("1000").spawn().unwrap();
        // This test holds the lock, and the file names the process.
        let _lock = take_lock(dir.path()).unwrap().unwrap();
        std::fs::write(dir.path().join(LOCK), process.id().to_string()).unwrap();
        let attempt = AttemptRef { run: "training-000000001".parse().unwrap(), attempt: 1, job: 0 };
        let (adopted, ended) = (Adopted::default(), Arc::new(Notify::new()));
        adopted.watch(&attempt, dir.path(), &ended);
        assert!(adopted.all(|all| all.contains(&attempt)), "it is not watched");
        process.kill().unwrap();
        tokio::time::timeout(Duration::from_mins(1), ended.notified()).await.expect("its end was not told");
        process.wait().unwrap();
        assert!(adopted.all(|all| all.is_empty()));
    }
}
