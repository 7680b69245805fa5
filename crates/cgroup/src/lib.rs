//! A cgroup (version 2) for the program: what is in it cannot leave unnoticed, and dies at once.
//!
//! Only where the kernel and the rights of this user allow. Groups lie below the one that their runner is in,
//! which is the server's; a runner that is killed leaves its own behind.

use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
};

/// Mount points of the version 2 hierarchy, alone or beside version 1.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// How names of groups begin.
const PREFIX: &str = "trainyard-";

/// The program's own group.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes the group `name` below the one that this process is in.
    pub fn make(name: &str) -> Option<Self> {
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
    pub fn find(name: &str) -> Option<Self> {
        let path = path_of(name)?;
        path.is_dir().then_some(Self { path })
    }

    /// The file to which a process writes `0` to join.
    pub fn join_file(&self) -> std::io::Result<File> {
        OpenOptions::new().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Processes in the group.
    pub fn members(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|l| l.parse().ok()).filter(|p| *p > 0).collect()
    }

    /// Whether anything lives in the group, as the kernel says; `None` where it does not say.
    pub fn is_populated(&self) -> Option<bool> {
        let text = fs::read_to_string(self.path.join("cgroup.events")).ok()?;
        text.lines().find_map(|l| l.strip_prefix("populated ")).map(|v| v.trim() != "0")
    }

    /// Ends every process in the group, forks in flight included.
    pub fn kill(&self) {
        if let Err(error) = fs::write(self.path.join("cgroup.kill"), "1") {
            tracing::warn!(%error, "the cgroup cannot be killed");
        }
    }

    /// Removes the group. One that is not empty stays, also where all that is in it is a zombie: whoever cleans
    /// the node up tries again.
    pub fn remove(&self) {
        match fs::remove_dir(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                tracing::debug!(error = %e, path = %self.path.display(), "the cgroup is left behind");
            }
            _ => {}
        }
    }
}

/// The name of the group of a run. Several servers may be in one group: `server` is the id of the run's own.
pub fn name_of(server: &str, run: &str) -> String {
    format!("{}{run}", of_server(server))
}

/// What the names of a server's groups begin with.
fn of_server(server: &str) -> String {
    format!("{}-", &server[..server.len().min(8)])
}

/// Runs of a server of which there are groups below this process's own.
pub fn runs_of(server: &str) -> Vec<String> {
    let Some(own) = own() else { return Vec::new() };
    let entries = fs::read_dir(own).into_iter().flatten().flatten();
    let of = |e: fs::DirEntry| {
        let name = e.file_name();
        let name = name.to_str()?.strip_prefix(PREFIX)?.strip_prefix(&of_server(server))?;
        Some(name.to_owned())
    };
    entries.filter_map(of).collect()
}

fn path_of(name: &str) -> Option<PathBuf> {
    Some(own()?.join(format!("{PREFIX}{name}")))
}

/// The group that this process is in.
fn own() -> Option<PathBuf> {
    let mount = MOUNTS
        .iter()
        .map(Path::new)
        .find(|m| m.join("cgroup.procs").exists() && !m.join("tasks").exists())?;
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = text.lines().find_map(|l| l.strip_prefix("0::"))?;
    Some(mount.join(own.trim_start_matches('/')))
}
