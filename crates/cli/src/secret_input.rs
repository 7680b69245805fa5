//! Secrets that are typed, or come on stdin: they stand in no history and are not shown.

use std::io::{BufRead, IsTerminal, Write};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
use trainyard_api::Secret;

/// A line of stdin. On a terminal, `prompt` is shown before it and what is typed is not.
pub fn read_secret(prompt: &str) -> std::io::Result<Secret> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        write!(anstream::stderr().lock(), "{prompt}: ")?;
    }
    let before = tcgetattr(&stdin).ok();
    if let Some(before) = &before {
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&stdin, SetArg::TCSANOW, &silent)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = &before {
        tcsetattr(&stdin, SetArg::TCSANOW, before)?;
        writeln!(anstream::stderr().lock())?;
    }
    read?;
    Ok(Secret::new(line.trim_end_matches(['\n', '\r'])))
}

/// A new password: on a terminal it has to be typed twice.
pub fn read_new_password() -> std::io::Result<Secret> {
    let password = read_secret("New password")?;
    if std::io::stdin().is_terminal() && read_secret("The same again")? != password {
        return Err(std::io::Error::other("the two passwords differ"));
    }
    Ok(password)
}
