//! Points at which a test ends or stops a process of this program: right behind a commit, before what follows
//! from it is done. Crashes there are the ones that lose things, and by chance they hardly happen.
//!
//! A point is armed by a file of its name in the folder that `TRAINYARD_BREAKPOINTS` names: the first process
//! that comes by takes the file, and does what it says: `kill` or `stop`. Without the feature `armed`, which no
//! release has, a point is nothing.

/// All points, so that a test can choose one. In the order in which a run meets them.
pub const ALL: [&str; 35] = [
    "store:submitted",
    "journal:placed",
    "fork-server:asked",
    "fork-server:forked",
    "runner:locked",
    "journal:claimed",
    "runner:claimed",
    "cache:fetched",
    "runner:staged",
    "spool:starting",
    "runner:spawned",
    "journal:started",
    "log:appended",
    "metrics:collected",
    "ledger:storing",
    "store:part",
    "store:completed",
    "store:put",
    "ledger:stored",
    "spool:exited",
    "journal:exited",
    "store:removed",
    "store:marker",
    "spool:finished",
    "journal:finished",
    "runner:delivered",
    "runner:emptied",
    "journal:lost",
    "store:attempt",
    "journal:cancel",
    "journal:delete",
    "removal:folder",
    "removal:logs",
    "removal:record",
    "s3:committed",
];

/// A point: nothing, unless a test has armed it.
#[cfg(not(feature = "armed"))]
#[inline(always)]
#[expect(clippy::inline_always, reason = "nothing of it is to be left")]
pub fn break_point(_name: &str) {}

/// A point: nothing, unless a test has armed it.
#[cfg(feature = "armed")]
pub fn break_point(name: &str) {
    use nix::{
        sys::signal::{Signal, kill},
        unistd::Pid,
    };
    use std::{path::PathBuf, sync::OnceLock};

    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    assert!(ALL.contains(&name), "the break point {name} is not in the list");
    let folder = FOLDER.get_or_init(|| std::env::var_os("TRAINYARD_BREAKPOINTS").map(PathBuf::from));
    let Some(folder) = folder else { return };
    let armed = folder.join(name);
    // Mostly there is none. What it says is read first: once it is taken, the test removes it.
    let Ok(how) = std::fs::read(&armed) else { return };
    // Whoever moves it has it.
    if std::fs::rename(armed, folder.join(format!("{name}.taken-by-{}", std::process::id()))).is_err() {
        return;
    }
    let signal = if how == b"stop" { Signal::SIGSTOP } else { Signal::SIGKILL };
    // To itself: this thread does not get past this line before it has happened.
    let _ = kill(Pid::this(), signal);
}
