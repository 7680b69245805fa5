//! `completion SHELL`.

use clap_complete::{Shell, generate};

use crate::{Error, Output};

/// Prints the completions of a shell.
pub(crate) fn completion(shell: Shell, output: &Output) -> Result<(), Error> {
    let mut text = Vec::new();
    generate(shell, &mut crate::command(), "trainyard", &mut text);
    output.data(&String::from_utf8_lossy(&text))
}
