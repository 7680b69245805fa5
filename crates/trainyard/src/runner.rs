//! A runner's process: one attempt, its own log on stderr, which lies in the run's folder.

use std::{
    fs::File,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use trainyard_api::runner::{SentJob, SentWork, Ticket};
use trainyard_runner::{Error, Job, Munge, Role};

/// Threads that move data; the rest of a runner waits.
const THREADS: usize = 2;

/// Works off the attempt of `ticket` in `folder`, whose lock this process may have already; returns its exit code.
pub(crate) fn run(folder: &Path, ticket: Ticket, lock: Option<File>) -> i32 {
    i32::from(work(trainyard_runner::run(folder, ticket, lock)) == Ended::Badly)
}

/// `trainyard runner`: what an engine's own queue starts.
pub(crate) fn run_job(job: Job, role: Role) -> ExitCode {
    umask();
    work(trainyard_runner::run_job(job, role)).into()
}

/// What is made in shared folders is for others to read at most.
fn umask() {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
}

/// `trainyard runner --job`: the same where no folder is shared. Its own log stays on the node, while there is one.
pub(crate) fn run_sent(job: &str, role: Role) -> ExitCode {
    let SentJob { munge_socket, reader, work: sent } = match serde_json::from_str(job) {
        Ok(job) => job,
        Err(error) => return refuse(&format!("--job is no job: {error}")),
    };
    let munge = Munge { socket: munge_socket.map(PathBuf::from), reader };
    match sent {
        SentWork::Trial(name, probe) => work(trainyard_runner::probe_sent(&name, &probe, &munge)).into(),
        SentWork::Run(ticket) => {
            if role == Role::Other {
                // What it says comes to the first one's log.
                return run_job(Job::Sent(ticket, munge), role);
            }
            let name = format!("{}-{}-{}.log", ticket.run, ticket.attempt, std::process::id());
            let log = Path::new(&ticket.node).join("jobs").join(name);
            if let Err(error) = log_to(&log) {
                return refuse(&format!("{}: {error}", log.display()));
            }
            umask();
            let ended = work(trainyard_runner::run_job(Job::Sent(ticket, munge), role));
            if ended == Ended::Well {
                let _ = std::fs::remove_file(log);
            }
            ended.into()
        }
    }
}

/// Turns what this process prints into a file for its user alone.
fn log_to(path: &Path) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let file = std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    nix::unistd::dup2_stdout(&file)?;
    nix::unistd::dup2_stderr(&file)?;
    Ok(())
}

/// `trainyard runner --probe`: what a node finds around it.
pub(crate) fn run_probe(file: &Path) -> ExitCode {
    work(trainyard_runner::probe(file)).into()
}

fn refuse(why: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr().lock(), "error: {why}");
    ExitCode::from(2)
}

/// How a runner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Well,
    /// Its attempt is over, or it was refused: nothing is left to do.
    Left,
    Badly,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(u8::from(ended == Ended::Badly))
    }
}

fn work(attempt: impl Future<Output = Result<(), Error>>) -> Ended {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        // On a full disk the log cannot be written. To say so on stderr, which is the log, would panic.
        .log_internal_errors(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            let result = runtime.block_on(attempt);
            // What still waits for a lock that another run holds is not waited for.
            runtime.shutdown_background();
            result
        }
        Err(error) => {
            tracing::error!(%error, "the runtime cannot start");
            return Ended::Badly;
        }
    };
    match result {
        Ok(()) => Ended::Well,
        Err(Error::Fenced(why)) => {
            tracing::warn!(why, "left");
            Ended::Left
        }
        Err(error) => {
            tracing::error!(%error, "failed");
            Ended::Badly
        }
    }
}
