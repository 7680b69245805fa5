//! `trainyard runner`: one attempt, its own log on stderr, which the engine keeps.

use std::{path::Path, process::ExitCode};

use trainyard_runner::Error;

/// Threads that move data; the rest of a runner waits.
const THREADS: usize = 2;

/// Works off the attempt of `folder`.
pub(crate) fn run(folder: &Path) -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_max_level(tracing::Level::INFO)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(trainyard_runner::run(folder)),
        Err(error) => {
            tracing::error!(%error, "the runtime cannot start");
            return ExitCode::FAILURE;
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Fenced(why)) => {
            tracing::warn!(why, "left");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!(%error, "failed");
            ExitCode::FAILURE
        }
    }
}
