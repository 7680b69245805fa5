//! The command line, as clap reads it.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::nouns::Noun;

/// Runs training code on your own machines, and keeps every result in S3.
#[derive(Debug, Parser)]
#[command(
    name = "trainyard",
    version,
    propagate_version = true,
    max_term_width = 100,
    infer_subcommands = false
)]
pub struct Arguments {
    /// Options of every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every verb.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t, global = true)]
    pub output: Format,
    /// Print ids only, and no talk.
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Address of the server.
    #[arg(long, value_name = "URL", env = "TRAINYARD_SERVER", global = true, hide_env_values = true)]
    pub server: Option<String>,
    /// Called in the original's form.
    #[arg(skip)]
    pub original: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with more columns.
    Wide,
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
    /// Ids only, one a line.
    Name,
}

/// Everything that can be typed.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Verbs that speak to a server, or to nobody.
    #[command(flatten)]
    Verb(Verb),
    /// Run the server.
    Server(ServerArguments),
    /// Make and change users of a server, in its data folder.
    Users(UsersArguments),
    /// Fork a runner for each request on stdin; the local engine calls this.
    #[command(hide = true)]
    ForkServer,
    /// Work off the job of a ticket; an engine's own queue calls this.
    #[command(hide = true)]
    Runner {
        /// The file with the ticket.
        #[arg(long, required_unless_present_any = ["probe", "job"])]
        ticket: Option<PathBuf>,
        /// The file that says what is to be looked at, in place of work.
        #[arg(long, conflicts_with = "ticket")]
        probe: Option<PathBuf>,
        /// What the job is, where no folder is shared: JSON.
        #[arg(long, conflicts_with_all = ["ticket", "probe"])]
        job: Option<String>,
        /// The runner is that of a further learner.
        #[arg(long, conflicts_with = "probe")]
        others: bool,
        /// What starts the runners of the other learners.
        #[arg(last = true, conflicts_with_all = ["others", "probe"])]
        command: Vec<String>,
    },
}

/// Options of `server`.
#[derive(Clone, Debug, Args)]
pub struct ServerArguments {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "TRAINYARD_CONFIG_FILE")]
    pub config: Option<PathBuf>,
    /// Folder in which everything is kept.
    #[arg(long, value_name = "DIR", env = "TRAINYARD_DATA")]
    pub data: Option<PathBuf>,
    /// Address of the API; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Address of the embedded object store; port 0 takes a free one.
    #[arg(long, value_name = "IP:PORT")]
    pub s3_listen: Option<SocketAddr>,
    /// Structured logs as JSON lines.
    #[arg(long)]
    pub log_json: bool,
}

/// Options of `users`.
#[derive(Clone, Debug, Args)]
pub struct UsersArguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: UsersVerb,
    /// Configuration file of the server (TOML).
    #[arg(long, value_name = "FILE", env = "TRAINYARD_CONFIG_FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Data folder of the server.
    #[arg(long, value_name = "DIR", env = "TRAINYARD_DATA", global = true)]
    pub data: Option<PathBuf>,
}

/// What can be done with users.
#[derive(Clone, Debug, Subcommand)]
pub enum UsersVerb {
    /// Make a user; the password is typed, or comes on stdin.
    Add {
        /// Name of the user.
        name: String,
        /// May do what administrators may.
        #[arg(long)]
        admin: bool,
    },
    /// Give a user another password; it is typed, or comes on stdin.
    Password {
        /// Name of the user.
        name: String,
    },
    /// Print a new token for scripts, good until it is revoked; makes the user when there is none.
    Token {
        /// Name of the user.
        name: String,
    },
    /// Make all tokens of a user void: those for scripts, and those of whoever is signed in.
    Revoke {
        /// Name of the user.
        name: String,
    },
    /// Remove a user. Its runs, definitions and models stay.
    Remove {
        /// Name of the user.
        name: String,
    },
    /// List users.
    List,
}

/// Verbs that speak to a server, or to nobody.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Submit a training run: a folder or a zip of code, and a manifest.
    Train(TrainArguments),
    /// List training runs, training definitions, models, or frameworks.
    List {
        /// What to list.
        #[arg(value_enum, default_value = "training-runs")]
        noun: Noun,
        /// How many at most.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// All of them.
        #[arg(long, conflicts_with = "limit")]
        all: bool,
        /// Print again whenever something changes.
        #[arg(short, long)]
        watch: bool,
    },
    /// Show a training run, a training definition, or a model.
    Show {
        /// Which.
        #[command(flatten)]
        one: OneArgument,
        /// Print again whenever something changes, until it ends.
        #[arg(short, long)]
        watch: bool,
    },
    /// Follow a training run: its phases, its log, its metrics.
    Monitor {
        /// `training-runs`, the run, and `logs`, `logs last N` or `metrics`.
        #[arg(num_args = 1..=5, value_name = "training-runs ID [logs [last N]|metrics]", required = true)]
        words: Vec<String>,
    },
    /// Cancel a training run. What it wrote is stored.
    Cancel {
        /// The run.
        #[command(flatten)]
        run: RunArgument,
    },
    /// Have the server keep something: the model of a training run, a training definition, a model.
    Store {
        /// `training-runs ID [MANIFEST]`, `training-definitions ZIP MANIFEST`, or `MODEL.tar.gz MANIFEST`.
        #[arg(num_args = 1..=3, value_name = "training-runs ID|training-definitions ZIP MANIFEST|MODEL.tar.gz MANIFEST", required = true)]
        words: Vec<String>,
        /// Name of the stored model, of a training run.
        #[arg(long)]
        name: Option<String>,
    },
    /// Delete the record of a training run (a live one is canceled first, the bucket stays), a training
    /// definition, or a model.
    Delete {
        /// Which.
        #[command(flatten)]
        one: OneArgument,
    },
    /// Download a stored model.
    Models {
        /// What to do with it.
        #[command(subcommand)]
        verb: ModelsVerb,
    },
    /// Write a manifest to begin with into this folder.
    GenerateManifest {
        /// `training-runs`, `training-definitions` or `store-training-runs`.
        kind: String,
    },
    /// Print the version of this program.
    Version,
    /// Print the log of a training run.
    Logs(LogsArguments),
    /// Wait for a training run to end, and exit as it did.
    Wait {
        /// Id, beginning of one, name, or `last`.
        #[arg(default_value = "last")]
        run: String,
        /// Give up after this time: `90`, `30m`, `12h`.
        #[arg(long)]
        timeout: Option<String>,
    },
    /// Download the results of a training run.
    Download {
        /// Id, beginning of one, name, or `last`.
        #[arg(default_value = "last")]
        run: String,
        /// Folder to download into; made when it is missing.
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
        /// Only what begins with this, such as `model/`.
        #[arg(long, value_name = "PREFIX", default_value = "")]
        only: String,
    },
    /// Submit a training run again, as it was.
    Rerun {
        /// Id, beginning of one, name, or `last`.
        #[arg(default_value = "last")]
        run: String,
        /// Follow it.
        #[arg(short, long)]
        follow: bool,
    },
    /// List frameworks and compute configurations.
    Frameworks,
    /// Check a manifest, without a server.
    Validate {
        /// The manifest.
        manifest: PathBuf,
        /// Override a field: `--set model_definition.name=x`.
        #[arg(long = "set", value_name = "PATH=VALUE")]
        set: Vec<String>,
    },
    /// Print the JSON Schema of manifests.
    Schema,
    /// Remember a server and a token, which is read from stdin.
    Login {
        /// Address of the server.
        url: String,
        /// Sign in as this user: the password is read instead.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Say which server this is, and who you are there.
    Whoami,
    /// Print completions for a shell.
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Say what is wrong with this machine or this configuration.
    ///
    /// With the configuration of a server that uses a cluster, a trial job looks around on a node.
    Doctor {
        /// Configuration file of a server.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Its data folder, in place of the one that the file names.
        #[arg(long, value_name = "DIR", requires = "config")]
        data: Option<PathBuf>,
    },
    /// Start a server, train the example on real digits, and show where everything is.
    Quickstart {
        /// Folder of the quickstart's server.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

/// What can be done with models besides.
#[derive(Clone, Debug, Subcommand)]
pub enum ModelsVerb {
    /// Download its archive.
    Download {
        /// Id, the beginning of it, or the name.
        model: String,
        /// File to write; `ID.tar.gz` in this folder when absent.
        to: Option<PathBuf>,
    },
}

/// Something with an id, with the original's noun before it; without one, a run.
#[derive(Clone, Debug, Args)]
pub struct OneArgument {
    /// `training-runs`, `training-definitions` or `models`, and the id, the beginning of one, the name, or
    /// `last`. Without a noun, a training run is meant.
    #[arg(num_args = 1..=2, value_name = "training-runs|training-definitions|models ID", required = true)]
    pub words: Vec<String>,
}

/// A run, with the original's noun before it, or without.
#[derive(Clone, Debug, Args)]
pub struct RunArgument {
    /// `training-runs`, and the id, the beginning of one, the name, or `last`. The noun may be
    /// left out.
    #[arg(num_args = 1..=2, value_name = "training-runs ID", required = true)]
    pub words: Vec<String>,
}

/// Options of `train`.
#[derive(Clone, Debug, Args)]
pub struct TrainArguments {
    /// A folder of code or a zip of it, and the manifest in YAML or JSON. Or `training-definitions`, the
    /// id of a stored definition, that of its version, and the manifest.
    #[arg(num_args = 2..=4, value_name = "CODE MANIFEST|training-definitions ID VERSION MANIFEST", required = true)]
    pub words: Vec<String>,
    /// Override a field: `--set model_definition.execution.command='python x.py'`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    pub set: Vec<String>,
    /// Follow the run until it ends, and exit as it did. Ctrl-C ends the following, not the run.
    #[arg(short, long)]
    pub follow: bool,
}

/// Options of `logs`.
#[derive(Clone, Debug, Args)]
pub struct LogsArguments {
    /// Id, beginning of one, name, or `last`.
    #[arg(default_value = "last")]
    pub run: String,
    /// Only the last N lines.
    #[arg(long, value_name = "N")]
    pub tail: Option<usize>,
    /// Only what arrived since: a time such as 2026-05-01T12:00:00Z, or a span such as 10m.
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
    /// Only lines that match this regular expression.
    #[arg(long, value_name = "REGEX")]
    pub grep: Option<String>,
    /// The log of this learner, of a run with several; 1 is the first.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub learner: Option<u32>,
    /// Go on until the run ends.
    #[arg(short, long)]
    pub follow: bool,
}
