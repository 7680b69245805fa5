//! What runner and server say to each other about one attempt.
//!
//! The runner claims its work order with the attempt's token, then reports events, each with a
//! sequence number, and log bytes, each with an offset. Both may be sent again after a broken
//! connection: the server keeps what is new and says how far it is.

use serde::{Deserialize, Serialize};

use utoipa::ToSchema;

use crate::{Connection, Failure, Metric, RunId, Secret, Time};

/// Header of answers to runners that names the server.
pub const SERVER_HEADER: &str = "x-trainyard-server";

/// Header of requests of runners that says which learner of several the runner is; absent: the first.
pub const LEARNER_HEADER: &str = "x-trainyard-learner";

/// Name of what a runner puts into its run's folder when the results exist only there: the engine, which
/// otherwise uses the folder again, then moves it to [`KEPT_FOLDER`].
pub const KEEP_MARK: &str = "keep";
/// Folder, in the node's, of runs whose results could be stored nowhere.
pub const KEPT_FOLDER: &str = "kept";
/// Name of the file in a run's folder that its runner holds a lock on, and writes its process id into.
pub const LOCK: &str = "runner.lock";
/// Name of the program's output in its run's folder.
pub const OUTPUT: &str = "training-log.txt";

/// Where a runner finds its server, and who it is. It reaches the runner by a way that only its
/// user can read, and stays in its memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ticket {
    /// Base URL of the server, as the node reaches it.
    pub server: String,
    /// Which server it is, as its answers to runners say in [`SERVER_HEADER`]: another one may have its
    /// address by now.
    #[serde(default)]
    pub server_id: String,
    /// A file on the node in which a server that starts anew says where it is then: JSON with a
    /// `runner_url`. Looked at while the server does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address_file: Option<String>,
    /// The run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Proof that this is the runner of that attempt.
    pub token: Secret,
    /// The node's folder: cache, environments, checkpoints.
    pub node: String,
    /// Whether programs are kept apart from the server and from each other, where the node can.
    #[serde(default)]
    pub isolate: bool,
    /// Folders of the server and its user on this node that are closed to programs.
    #[serde(default)]
    pub closed: Vec<String>,
    /// Folders of the machine, besides temporary ones, that programs may write to.
    #[serde(default)]
    pub writable: Vec<String>,
    /// Files and folders in the closed ones that a mount namespace covers.
    #[serde(default)]
    pub hide: Vec<String>,
    /// Who placed the runner.
    #[serde(default)]
    pub engine: EngineName,
    /// Which learner of the attempt it is, from 1.
    #[serde(default = "one")]
    pub learner: u32,
}

fn one() -> u32 {
    1
}

/// Who places runners.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// This machine.
    #[default]
    Local,
    /// A Slurm cluster.
    Slurm,
}

impl EngineName {
    /// The engine of this name.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "local" => Some(Self::Local),
            "slurm" => Some(Self::Slurm),
            _ => None,
        }
    }
}

/// How a job is asked for of an engine that has jobs: in Slurm's words. What is absent is left to the
/// cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobOptions {
    /// `--partition`: one, or several with commas between.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    /// `--account`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// `--qos`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub qos: Option<String>,
    /// `--gres`; absent: `gpu:N` for a demand of N GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gres: Option<String>,
    /// `--constraint`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// `--time`, as `sbatch` takes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Further options, each one word that begins with `--`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl JobOptions {
    /// These options, and where they are silent those of `general`, whose further ones come first.
    #[must_use]
    pub fn over(&self, general: &Self) -> Self {
        let either = |own: &Option<String>, other: &Option<String>| own.clone().or_else(|| other.clone());
        Self {
            partition: either(&self.partition, &general.partition),
            account: either(&self.account, &general.account),
            qos: either(&self.qos, &general.qos),
            gres: either(&self.gres, &general.gres),
            constraint: either(&self.constraint, &general.constraint),
            time: either(&self.time, &general.time),
            options: general.options.iter().chain(&self.options).cloned().collect(),
        }
    }
}

/// What a job is that finds nothing in a shared folder: its script carries this, and nothing of it is secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SentJob {
    /// munge's socket on the node, where it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub munge_socket: Option<String>,
    /// The number of the user that the server runs as, who reads its credentials.
    pub reader: u32,
    /// What it is to do.
    pub work: SentWork,
}

/// What such a job is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SentWork {
    /// An attempt. The ticket has no token: the runner proves with munge whose job it is.
    Run(Box<Ticket>),
    /// Looks around, and tells the server, under this name.
    Trial(String, Probe),
}

/// How a credential of munge begins.
pub const MUNGE: &str = "MUNGE:";

/// What stands in the credential of a runner that boards.
pub fn boarding_text(server_id: &str, run: &RunId, job: u32) -> String {
    format!("trainyard board {server_id} {run} {job}")
}

/// What stands in the credential of whoever tells or asks what a trial found.
pub fn trial_text(server_id: &str, name: &str) -> String {
    format!("trainyard trial {server_id} {name}")
}

/// What a node is to look at, for `trainyard doctor`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// URL under which it should reach the server; absent: none runs.
    pub server: Option<String>,
    /// The server's id, as in [`Ticket`].
    pub server_id: String,
    /// The node's folder.
    pub node: String,
    /// What containers it should be able to start: each image once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<Container>,
}

/// What a runner says that an engine's own queue has started, with the pass of its job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boarding {
    /// How often the job was started anew before.
    pub restarts: u32,
    /// The engine's id of the job.
    pub id: String,
    /// The node's name.
    pub node: String,
    /// Ids of the GPUs that the engine gave it.
    pub gpus: Vec<String>,
    /// Which learner of the attempt it is, from 1.
    #[serde(default = "one")]
    pub learner: u32,
}

/// The server's answer: what this start of the job works with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Boarded {
    /// The ticket of the attempt.
    pub ticket: Ticket,
    /// The name of its folder, among those of runs on the node.
    pub folder: String,
    /// How many learners the attempt has.
    #[serde(default = "one")]
    pub learners: u32,
}

impl Boarded {
    /// The name of the folder of a learner that began with `attempt` of `run`.
    pub fn folder_name(run: &RunId, attempt: u32, learner: u32) -> String {
        if learner == 1 { format!("{run}.{attempt}") } else { format!("{run}.{attempt}.{learner}") }
    }
}

/// Where the learners of an attempt reach each other, once all have staged in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Team {
    /// Addresses, the first learner's first.
    pub addresses: Vec<String>,
    /// A port that was free at the first learner.
    pub port: u16,
}

/// Why an attempt was placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// To run the program.
    Train,
    /// To store what a lost runner left behind on its node; the program is not started again.
    Salvage,
}

/// A bucket and the way to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Store {
    /// Endpoint and keys.
    pub connection: Connection,
    /// The bucket's name.
    pub bucket: String,
}

/// The zip of a definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// SHA-256 of the zip, in hexadecimal.
    pub sha256: String,
    /// Its size in bytes.
    pub size: u64,
}

/// The environment that the program runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentSpec {
    /// What people read: `tensorflow 2.21.0, python 3.11`.
    pub label: String,
    /// Python version prefix; empty: any.
    pub python: String,
    /// Pinned requirements; empty: the machine's own python, unchanged.
    pub packages: Vec<String>,
    /// A container with all that in it, in place of packages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
}

/// A container that the program runs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// What runs it.
    pub runtime: ContainerRuntime,
    /// The image, in the runtime's own words: a file, a folder, or where it is fetched from.
    pub image: String,
    /// Further options of the runtime, each one word.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

/// What runs a container on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerRuntime {
    /// `apptainer exec`.
    Apptainer,
    /// `srun --container-image`, with NVIDIA's plugin for Slurm.
    Pyxis,
}

/// What a run needs of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Demand {
    /// CPU cores.
    pub cpus: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// GPUs.
    pub gpus: u32,
}

/// What the run may use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Allotment {
    /// CPU cores.
    pub cpus: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Ids of the GPUs, for `CUDA_VISIBLE_DEVICES`.
    pub gpus: Vec<String>,
    /// The GPUs are pretended: counted, but not there.
    #[serde(default)]
    pub pretended: bool,
}

/// Everything that a runner needs to do its work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkOrder {
    /// The run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Train, or store what is left.
    pub purpose: Purpose,
    /// The shell command line.
    pub command: String,
    /// The definition's zip.
    pub definition: Package,
    /// The environment to make or reuse.
    pub environment: EnvironmentSpec,
    /// Where the data is.
    pub data: Store,
    /// Where results go.
    pub results: Store,
    /// What the run may use.
    pub allotment: Allotment,
    /// Longest run time in seconds; 0: no limit.
    pub max_run_time: u64,
    /// Seconds between TERM and KILL.
    pub grace: u64,
    /// Which learner this is, from 1.
    #[serde(default = "one")]
    pub learner: u32,
    /// How many learners there are.
    #[serde(default = "one")]
    pub learners: u32,
    /// The runner is to ask what to do all the time, because nobody nudges it.
    #[serde(default)]
    pub listen: bool,
    /// A cancel came before the runner did.
    pub canceled: bool,
    /// Bytes of the log of the attempt before this one that the server has.
    #[serde(default)]
    pub earlier_log: u64,
    /// The same of its metrics.
    #[serde(default)]
    pub earlier_metrics: u64,
    /// Why there was an attempt before this one, in words for the log; absent where its log is not gone on
    /// with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<String>,
}

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how", content = "value")]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// What happened in an attempt, as its runner tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum RunnerEvent {
    /// One of several learners has staged in, and waits for the others.
    Ready {
        /// Where the others reach it.
        address: String,
        /// A port there that was free.
        port: u16,
    },
    /// The program was started.
    Started,
    /// The program ended, and nothing of it is left.
    Exited {
        /// How.
        exit: Exit,
        /// Why it failed, where that does not say it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Failure>,
    },
    /// All is stored that could be; the attempt is over.
    Finished {
        /// Why it failed; absent when all went well.
        failure: Option<Failure>,
    },
}

/// One reported event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// Counts from 1 within the attempt.
    pub seq: u64,
    /// When it happened, by the node's clock.
    pub at: Time,
    /// What happened.
    #[serde(flatten)]
    pub event: RunnerEvent,
}

/// A metric on its way: a line of JSON in what a runner delivers and a server keeps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// The point.
    pub metric: Metric,
    /// The file that it was read from, below the folder of logs.
    pub source: String,
    /// The byte of that file behind it: whoever goes on reading begins there.
    pub end: u64,
}

/// The server's answer to a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// Events up to this sequence number are journaled.
    pub seq: u64,
    /// Bytes of this attempt's log that the server has.
    pub log: u64,
    /// Bytes of this attempt's metrics that the server has.
    #[serde(default)]
    pub metrics: u64,
    /// The owner asked for a cancel.
    pub cancel: bool,
    /// Why this learner is to end its program, although nobody canceled the run: another one failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
}
