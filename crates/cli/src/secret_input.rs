//! Secrets that are typed, or come on stdin: they stand in no history and are not shown.

use std::io::{BufRead, IsTerminal, Write};

use nix::sys::{
    signal::{Signal, raise},
    termios::{LocalFlags, SetArg, SpecialCharacterIndices::VEOL, tcgetattr, tcsetattr},
};
use trainyard_api::Secret;

/// What Ctrl-C types where it is no signal.
const INTERRUPT: u8 = 3;

/// A line of stdin. On a terminal, `prompt` is shown before it and what is typed is not.
pub fn read_secret(prompt: &str) -> std::io::Result<Secret> {
    let stdin = std::io::stdin();
    let mut line = String::new();
    if stdin.is_terminal() {
        write!(anstream::stderr().lock(), "{prompt}: ")?;
        line = read_unseen(&stdin)?;
    } else {
        stdin.lock().read_line(&mut line)?;
    }
    Ok(Secret::new(line.trim_end_matches(['\n', '\r'])))
}

/// A line of a terminal that does not show it. Ctrl-C ends the line, so that the terminal is as it was before
/// it ends the program.
fn read_unseen(stdin: &std::io::Stdin) -> std::io::Result<String> {
    let before = tcgetattr(stdin)?;
    let mut silent = before.clone();
    silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
    silent.control_chars[VEOL as usize] = INTERRUPT;
    tcsetattr(stdin, SetArg::TCSANOW, &silent)?;
    let read = || {
        let mut stdin = stdin.lock();
        let line = stdin.fill_buf()?.to_vec();
        stdin.consume(line.len());
        Ok(line)
    };
    let read: std::io::Result<Vec<u8>> = read();
    tcsetattr(stdin, SetArg::TCSANOW, &before)?;
    writeln!(anstream::stderr().lock())?;
    let line = read?;
    if line.last() == Some(&INTERRUPT) {
        raise(Signal::SIGINT)?;
        return Err(std::io::ErrorKind::Interrupted.into());
    }
    String::from_utf8(line).map_err(std::io::Error::other)
}

/// A new password: on a terminal it has to be typed twice.
pub fn read_new_password() -> std::io::Result<Secret> {
    let password = read_secret("New password")?;
    if std::io::stdin().is_terminal() && read_secret("The same again")? != password {
        return Err(std::io::Error::other("the two passwords differ"));
    }
    Ok(password)
}
