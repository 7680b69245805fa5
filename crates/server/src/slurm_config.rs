//! `[engine.slurm]` of the configuration: how a cluster's jobs are asked for, what its nodes share with the server, and
//! what programs run in there.

use std::path::PathBuf;

use serde::Deserialize;
use trainyard_api::runner::JobOptions;
use trainyard_engine::slurm::{RestSettings, USER};
use trainyard_environment::Images;

/// `[engine.slurm]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlurmConfig {
    /// A folder that this server and the nodes share, under the same path. It is made for this user alone. Absent: there is
    /// none, nodes fetch this program from the server, and runners prove with munge whose they are.
    #[serde(default)]
    pub shared: Option<PathBuf>,
    /// munge's socket here and on the nodes, where it is not the usual one.
    #[serde(default)]
    pub munge_socket: Option<PathBuf>,
    /// Jobs run as the owners of their runs, users of this machine and of the cluster by the same names. For a server of
    /// root, without `shared`.
    #[serde(default)]
    pub as_owners: bool,
    /// Folder of caches, environments and running attempts on each node, `%u` for the job's user; absent: `node` in
    /// `shared`.
    #[serde(default)]
    pub node: Option<PathBuf>,
    /// URL under which nodes reach this server, when it is not the address that it listens on.
    pub server_url: Option<String>,
    /// Options of every job.
    #[serde(default)]
    pub job: JobOptions,
    /// Slurm may start a job again whose node failed, or that had to make room for another.
    #[serde(default = "yes")]
    pub requeue: bool,
    /// Seconds before its time limit at which a job's program is stopped, besides `grace`: its results are
    /// stored meanwhile.
    #[serde(default = "store_seconds")]
    pub store_seconds: u64,
    /// Seconds that a runner may be silent whose job Slurm has forgotten, until its run is given up.
    #[serde(default = "lost_after")]
    pub lost_after: u64,
    /// slurmrestd, by which Slurm is asked; absent: by its commands.
    #[serde(default)]
    pub rest: Option<RestSettings>,
    /// Containers that programs run in.
    #[serde(default)]
    pub container: Option<Images>,
}

fn yes() -> bool {
    true
}

fn store_seconds() -> u64 {
    300
}

fn lost_after() -> u64 {
    600
}

impl SlurmConfig {
    /// What cannot be used of it, in words.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.shared.is_none() && (self.node.is_none() || self.rest.is_some()) {
            return Err(
                "[engine.slurm] names neither a folder that is shared, nor what goes without: write `shared`, or `node`, a \
                 folder of each node, without [engine.slurm.rest]"
                    .to_owned(),
            );
        }
        let node = self.node().display().to_string();
        if self.as_owners && (self.shared.is_some() || !node.contains(USER)) {
            return Err(format!(
                "[engine.slurm] as_owners: each user has a folder of his own on the nodes: write `node` with {USER} for the \
                 user's name, and no `shared`"
            ));
        }
        if !self.as_owners && node.contains(USER) {
            return Err(format!(
                "[engine.slurm] node: {USER} is for jobs of several users: write `as_owners = true`"
            ));
        }
        for (key, path) in [
            ("shared", self.shared.as_ref()),
            ("node", self.node.as_ref()),
            ("munge_socket", self.munge_socket.as_ref()),
            ("rest.token_file", self.rest.as_ref().map(|r| &r.token_file)),
        ] {
            if let Some(path) = path.filter(|p| !p.is_absolute()) {
                return Err(format!("[engine.slurm] {key}: {} is not an absolute path", path.display()));
            }
        }
        let Some(images) = &self.container else { return Ok(()) };
        images.check().map_err(|why| format!("[engine.slurm.container] {why}"))?;
        // Lists of mounts have no way to write them.
        if node.contains([':', ',']) {
            return Err(format!(
                "[engine.slurm] node: containers cannot mount a folder with `:` or `,`: {node}"
            ));
        }
        Ok(())
    }

    /// Folder of caches, environments and running attempts on each node.
    pub(crate) fn node(&self) -> PathBuf {
        self.node.clone().unwrap_or_else(|| self.shared.clone().unwrap_or_default().join("node"))
    }
}
