//! What people type: one file per verb, and output behind one trait.
//!
//! Data goes to stdout, talk to stderr. Under the name `bx`, or as `trainyard bx ml …`, the
//! original's command lines work unchanged, and everything goes to stdout as it did there.

pub mod args;
mod config;
mod credentials;
mod error;
mod ids;
mod nouns;
mod output;
mod secret_input;
mod verbs;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, Parser};
use trainyard_api::Finding;

pub use args::{Arguments, Command, ServerArguments, UsersArguments, UsersVerb, Verb};
pub use error::Error;
pub use output::Output;
pub use secret_input::{read_new_password, read_secret};

use crate::output::Style;

/// Names under which the original's command line was called.
const ORIGINAL_NAMES: [&str; 2] = ["bx", "ibmcloud"];

/// Parses a command line. The original's form, `bx ml VERB …`, becomes ours with `original` set.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let mut words: Vec<OsString> = arguments.into_iter().collect();
    let program =
        words.first().map(|p| std::path::Path::new(p).file_name().map_or_else(|| p.clone(), OsString::from));
    let program = program.unwrap_or_default().to_string_lossy().into_owned();
    let mut original = ORIGINAL_NAMES.contains(&program.as_str());
    if !original && words.get(1).is_some_and(|w| ORIGINAL_NAMES.iter().any(|n| w == n)) {
        words.remove(1);
        original = true;
    }
    if original && words.get(1).is_some_and(|w| w == "ml") {
        words.remove(1);
    }
    let mut parsed = Arguments::try_parse_from(words)?;
    parsed.global.original = original;
    Ok(parsed)
}

/// The command line's own description, for completions and the manual.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Carries out a verb; `found` is what `doctor` tells besides.
pub fn run(arguments: Arguments, found: Vec<Finding>) -> ExitCode {
    let style = Style::of(&arguments.global);
    let output = Output::new(style);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(verbs::dispatch(arguments, found, &output)),
        Err(e) => Err(Error::internal(format!("the runtime cannot start: {e}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
