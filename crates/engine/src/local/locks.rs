//! The lock on a run's folder: whoever holds it is the run's runner, and is there. It is taken before the runner
//! is forked, so that no moment is left in which a runner that begins looks like one that is gone.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use nix::unistd::Pid;
use trainyard_api::runner::LOCK;

/// Whether a runner holds the lock of this folder.
pub fn lock_is_held(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(LOCK)) else { return false };
    // Shared, so that looking does not keep a runner from taking it for long.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Takes the lock of a folder for a runner that is about to be forked, and inherits it. `None`: an earlier runner
/// has it still, and the new one has to wait.
pub fn take_lock(folder: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => {
            // The number in it is that of an earlier runner, and may be anybody's by now.
            file.set_len(0)?;
            Ok(Some(file))
        }
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// The process that holds the lock; `None` where nobody does, or has not said so yet.
pub(crate) fn holder(folder: &Path) -> Option<Pid> {
    if !lock_is_held(folder) {
        return None;
    }
    let text = fs::read_to_string(folder.join(LOCK)).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_taken_for_a_runner_is_held_and_names_nobody_yet() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LOCK), "1234").unwrap();
        assert_eq!(holder(dir.path()), None);
        let lock = take_lock(dir.path()).unwrap().unwrap();
        assert!(lock_is_held(dir.path()));
        assert_eq!(holder(dir.path()), None, "an earlier runner's number was believed");
        assert!(take_lock(dir.path()).unwrap().is_none());
        fs::write(dir.path().join(LOCK), "1234").unwrap();
        assert_eq!(holder(dir.path()), Some(Pid::from_raw(1234)));
        drop(lock);
        assert_eq!(holder(dir.path()), None);
    }
}
