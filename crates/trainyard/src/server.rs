//! `trainyard server`: configuration from file and flags, logs on stderr, a stop on SIGTERM.

use std::{fs, io::Write, path::Path, process::ExitCode};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use trainyard_cli::ServerArguments;
use trainyard_server::{Config, serve};

/// More would make some old programs that close every possible file slow.
const MOST_FILES: u64 = 65_536;
/// Threads that serve; the database and files have threads of their own.
const MOST_THREADS: usize = 4;

/// Runs the server until it is told to stop.
pub(crate) fn run(options: &ServerArguments) -> ExitCode {
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(options: &ServerArguments) -> anyhow::Result<()> {
    let mut config = configuration(options.config.as_deref(), options.data.as_deref())?;
    if let Some(listen) = options.listen {
        config.listen = listen;
    }
    if let Some(listen) = options.s3_listen {
        config.s3.listen = listen;
    }
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().min(MOST_THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build()
        .context("the runtime cannot start")?;
    log(options.log_json);
    raise_file_limit();
    // Nothing in the data folder is for others.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    // Keys of many runs lie in this memory: no program of this user may look.
    nix::sys::prctl::set_dumpable(false).context("the memory cannot be closed to others")?;
    if config.local.isolate && !trainyard_runner::has_landlock() {
        tracing::warn!(
            "this kernel has no Landlock: programs can read what this user can, the server's keys included"
        );
    }
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        serve(config, stop, |_| {}).await.map_err(anyhow::Error::from)
    })
}

fn log(json: bool) {
    let filter =
        EnvFilter::try_from_env("TRAINYARD_LOG").unwrap_or_else(|_| EnvFilter::new("info,s3s=error"));
    // A log on a full disk cannot be written. To say so on stderr, which is the log, would panic.
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .log_internal_errors(false);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(false).init();
    }
}

/// The configuration in the file, with the data folder that is named besides.
pub(crate) fn configuration(file: Option<&Path>, data: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = match file {
        None => Config::default(),
        Some(path) => {
            let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
            Config::parse(&path.display().to_string(), &text)?
        }
    };
    if let Some(data) = data {
        data.clone_into(&mut config.data);
    }
    // Relative paths mean the folder in which the server was started; runners are started elsewhere.
    config.data = std::path::absolute(&config.data).context("the data folder")?;
    Ok(config)
}

/// As many open files as this user may have: every follower, runner and object being read is one.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard.min(MOST_FILES), hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit on open files stays as it is");
    }
}
