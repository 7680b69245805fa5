//! The one binary: it parses the command line, and wires the rest.

mod doctor;
mod fork_server;
mod runner;
mod server;
mod users;

use std::process::ExitCode;

use trainyard_cli::{Command, Verb, parse, run};

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
        Command::Runner { ticket: Some(ticket), others: true, .. } => {
            runner::run_job(&ticket, trainyard_runner::Role::Other)
        }
        Command::Runner { ticket: Some(ticket), command, .. } => {
            runner::run_job(&ticket, trainyard_runner::Role::First(command))
        }
        Command::Runner { probe, .. } => runner::run_probe(probe.as_deref()),
        Command::Verb(Verb::Doctor { config: Some(ref config), ref data }) => {
            let found = doctor::examine(config, data.as_deref());
            run(arguments, found)
        }
        Command::Verb(_) => run(arguments, Vec::new()),
    }
}
