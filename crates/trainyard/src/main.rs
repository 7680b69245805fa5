//! The one binary: it parses the command line, and wires the rest.

mod doctor;
mod fork_server;
mod runner;
mod server;
mod users;

use std::process::ExitCode;

use trainyard_cli::{Command, Verb, parse, run};
use trainyard_runner::{Job, Role};

fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to stdout and are no failure. A closed pipe is no news.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // One TLS provider for everything below; installing it twice is the only way this can fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match arguments.command {
        Command::Server(options) => server::run(&options),
        Command::Users(options) => users::run(&options),
        Command::ForkServer => fork_server::run(),
        Command::Runner { probe: Some(probe), .. } => runner::run_probe(&probe),
        Command::Runner { ticket, job, others, command, .. } => {
            let role = if others { Role::Other } else { Role::First(command) };
            match (ticket, job) {
                (Some(ticket), _) => runner::run_job(Job::Shared(ticket), role),
                (None, job) => runner::run_sent(&job.unwrap_or_default(), role),
            }
        }
        Command::Verb(Verb::Doctor { config: Some(ref config), ref data }) => {
            let found = doctor::examine(config, data.as_deref());
            run(arguments, found)
        }
        Command::Verb(_) => run(arguments, Vec::new()),
    }
}
