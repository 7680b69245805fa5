//! A runner's process: one attempt, its own log on stderr, which lies in the run's folder.

use std::{path::Path, process::ExitCode};

use trainyard_api::runner::Ticket;
use trainyard_runner::{Error, Role};

/// Threads that move data; the rest of a runner waits.
const THREADS: usize = 2;

/// Works off the attempt of `ticket` in `folder`; returns the exit code of the process.
pub(crate) fn run(folder: &Path, ticket: Ticket) -> i32 {
    work(trainyard_runner::run(folder, ticket))
}

/// `trainyard runner`: what an engine's own queue starts, with the ticket of its job in a file.
pub(crate) fn run_job(ticket: &Path, role: Role) -> ExitCode {
    // What is made in shared folders is for nobody else.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    ExitCode::from(u8::try_from(work(trainyard_runner::run_job(ticket, role))).unwrap_or(1))
}

/// `trainyard runner --probe`: what a node finds around it.
pub(crate) fn run_probe(file: Option<&Path>) -> ExitCode {
    let Some(file) = file else {
        let _ = std::io::Write::write_all(
            &mut std::io::stderr().lock(),
            b"error: --ticket or --probe is missing\n",
        );
        return ExitCode::from(2);
    };
    ExitCode::from(u8::try_from(work(trainyard_runner::probe(file))).unwrap_or(1))
}

fn work(attempt: impl Future<Output = Result<(), Error>>) -> i32 {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        // On a full disk the log cannot be written. To say so on stderr, which is the log, would panic.
        .log_internal_errors(false)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(attempt),
        Err(error) => {
            tracing::error!(%error, "the runtime cannot start");
            return 1;
        }
    };
    match result {
        Ok(()) => 0,
        Err(Error::Fenced(why)) => {
            tracing::warn!(why, "left");
            0
        }
        Err(error) => {
            tracing::error!(%error, "failed");
            1
        }
    }
}
