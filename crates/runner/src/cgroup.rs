//! A cgroup (version 2) for the program: what is in it cannot leave unnoticed, and dies at once.
//!
//! Only where the kernel and the rights of this user allow; see `tree` for what holds otherwise.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

/// Mount points of the version 2 hierarchy, alone or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// The program's own group.
#[derive(Debug)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the group `name` below the one that this process is in.
    pub(crate) fn make(name: &str) -> Option<Self> {
        let path = path_of(name)?;
        match fs::create_dir(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => {
                tracing::debug!(%error, "no cgroup for the program");
                return None;
            }
        }
        let group = Self { path };
        // Making a folder may be allowed where moving a process is not.
        if group.join_file().is_err() || !group.path.join("cgroup.kill").exists() {
            group.remove();
            return None;
        }
        Some(group)
    }

    /// The group `name`, if an earlier runner of this node made it.
    pub(crate) fn find(name: &str) -> Option<Self> {
        let path = path_of(name)?;
        path.is_dir().then_some(Self { path })
    }

    /// The file to which a process writes `0` to join.
    pub(crate) fn join_file(&self) -> std::io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Processes in the group.
    pub(crate) fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).filter(|p| *p > 0).collect()
    }

    /// Whether anything lives in the group, as the kernel says; `None` where it does not say.
    pub(crate) fn is_populated(&self) -> Option<bool> {
        let text = fs::read_to_string(self.path.join("cgroup.events")).ok()?;
        text.lines().find_map(|l| l.strip_prefix("populated ")).map(|v| v.trim() != "0")
    }

    /// Ends every process in the group, forks in flight included.
    pub(crate) fn kill(&self) {
        if let Err(error) = fs::write(self.path.join("cgroup.kill"), "1") {
            tracing::warn!(%error, "the cgroup cannot be killed");
        }
    }

    /// Removes the empty group. One that still has a zombie in it goes with the next runner.
    pub(crate) fn remove(&self) {
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the cgroup is left behind");
        }
    }
}

fn path_of(name: &str) -> Option<PathBuf> {
    let mount = MOUNTS
        .iter()
        .map(Path::new)
        .find(|m| m.join("cgroup.procs").exists() && !m.join("tasks").exists())?;
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(mount.join(own.trim_start_matches('/')).join(format!("trainyard-{name}")))
}
