//! How a program's end reads to people, and which code it has.

use trainyard_api::{Code, Failure, runner::Exit};

/// Names of the signals that end programs in practice, by number on Linux.
const SIGNALS: [(i32, &str); 12] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
];

/// Why a program that ended like this failed; `None` for exit status 0.
pub fn explain_exit(exit: Exit) -> Option<Failure> {
    match exit {
        Exit::Code(0) => None,
        Exit::Code(code) => {
            let why = match code {
                126 => ": the shell found the command, but could not execute it",
                127 => ": the shell did not find the command",
                _ => "",
            };
            Some(Failure {
                code: Code::ProgramFailed.as_str().to_owned(),
                message: format!("the program exited with status {code}{why}"),
                exit_code: Some(code),
                signal: None,
            })
        }
        Exit::Signal(number) => {
            let known = SIGNALS.iter().find(|(n, _)| *n == number).map(|(_, name)| (*name).to_owned());
            let name = known.unwrap_or_else(|| format!("signal {number}"));
            Some(Failure {
                code: Code::ProgramKilled.as_str().to_owned(),
                message: format!("the program was ended by {name}"),
                exit_code: None,
                signal: Some(name),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_usual_ends() {
        assert_eq!(explain_exit(Exit::Code(0)), None);
        assert!(explain_exit(Exit::Code(127)).unwrap().message.contains("did not find"));
        assert_eq!(explain_exit(Exit::Signal(9)).unwrap().signal.unwrap(), "SIGKILL");
    }
}
