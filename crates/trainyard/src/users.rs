//! `trainyard users`: whoever can write to the data folder makes and changes users, whether its server
//! runs or not.

use std::{io::Write, process::ExitCode};

use anyhow::Context;
use trainyard_cli::{UsersArguments, UsersVerb, read_new_password};
use trainyard_server::Users;

use crate::server::configuration;

/// Carries out the verb.
pub(crate) fn run(arguments: &UsersArguments) -> ExitCode {
    match change(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr().lock(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn change(arguments: &UsersArguments) -> anyhow::Result<()> {
    let config = configuration(arguments.config.as_deref(), arguments.data.as_deref())?;
    // Nothing that is made in the data folder is for others.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o077));
    let users = Users::open(&config.data).with_context(|| {
        format!("{} is not the data folder of a server that has been started", config.data.display())
    })?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().context("the runtime cannot start")?;
    let talk = |text: String| writeln!(std::io::stderr().lock(), "{text}").context("stderr");
    let password = || read_new_password().context("the password");
    match &arguments.verb {
        UsersVerb::Add { name, admin } => {
            runtime.block_on(users.add(name, &password()?, *admin))?;
            talk(format!("{name} can sign in"))
        }
        UsersVerb::Password { name } => {
            runtime.block_on(users.set_password(name, &password()?))?;
            talk(format!("{name} has another password; who was signed in with the old one is signed out"))
        }
        UsersVerb::Token { name } => {
            let token = runtime.block_on(users.token(name))?;
            writeln!(std::io::stdout().lock(), "{}", token.expose()).context("stdout")
        }
        UsersVerb::Revoke { name } => {
            runtime.block_on(users.revoke(name))?;
            talk(format!("all tokens of {name} are void; the password stays"))
        }
        UsersVerb::Remove { name } => {
            runtime.block_on(users.remove(name))?;
            talk(format!("{name} is gone; runs, definitions and models stay"))
        }
        UsersVerb::List => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{:<24}   {:<5}   {:<8}   created-at", "Name", "admin", "password")?;
            for user in users.list()? {
                let (admin, password) = (yes(user.admin), yes(user.password.is_some()));
                writeln!(out, "{:<24}   {admin:<5}   {password:<8}   {}", user.name, user.created_at)?;
            }
            Ok(())
        }
    }
}

fn yes(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}
