//! The other learners of an attempt: the engine's command that starts their runners is a child of the first
//! one, and ends when they have left.

use std::{
    collections::VecDeque,
    io::Write,
    process::Stdio,
    sync::atomic::{AtomicI32, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    sync::watch,
};

use crate::Error;

/// Lines that are quoted of what the command printed.
const QUOTED: usize = 4;

/// The process of the command, which is not the program's; 0: there is none.
static COMMAND: AtomicI32 = AtomicI32::new(0);

/// A process below this one that the program did not start, with all below it.
pub(crate) fn is_command(pid: i32) -> bool {
    pid == COMMAND.load(Relaxed)
}

/// How the command stands.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stands {
    Runs,
    /// It ended, and all is well.
    Well,
    /// It failed, with these words.
    Badly(String),
}

/// The other learners, as the first one sees them. Clones see the same.
#[derive(Clone)]
pub(crate) struct Others(Option<watch::Receiver<Stands>>);

impl Others {
    /// Nobody starts any here.
    pub(crate) fn none() -> Self {
        Self(None)
    }

    /// Starts their runners.
    pub(crate) fn start(command: &[String]) -> Result<Self, Error> {
        let Some((program, arguments)) = command.split_first() else { return Ok(Self::none()) };
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| Error::Others(format!("{program}: {e}")))?;
        COMMAND.store(child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(0), Relaxed);
        let (stands, seen) = watch::channel(Stands::Runs);
        tokio::spawn(async move {
            let mut last: VecDeque<String> = VecDeque::new();
            let mut said = child.stderr.take().map(|e| BufReader::new(e).split(b'\n'));
            while let Some(said) = &mut said
                && let Ok(Some(line)) = said.next_segment().await
            {
                // The job's log, as it would be without us.
                let mut log = std::io::stderr().lock();
                let _ = log.write_all(&line).and_then(|()| log.write_all(b"\n"));
                last.push_back(String::from_utf8_lossy(&line).into_owned());
                if last.len() > QUOTED {
                    last.pop_front();
                }
            }
            let ended = child.wait().await;
            COMMAND.store(0, Relaxed);
            let _ = stands.send(match ended {
                Ok(status) if !status.success() => {
                    let said = last.into_iter().collect::<Vec<_>>().join("; ");
                    Stands::Badly(if said.is_empty() { status.to_string() } else { said })
                }
                // An error: whoever waits for orphans took its status.
                _ => Stands::Well,
            });
        });
        Ok(Self(Some(seen)))
    }

    /// Returns when their runners cannot go on; never where they can. Safe to drop and to call again.
    pub(crate) async fn failed(&mut self) -> Error {
        if let Some(seen) = &mut self.0
            && let Ok(stands) = seen.wait_for(|s| matches!(s, Stands::Badly(_))).await
            && let Stands::Badly(why) = &*stands
        {
            return Error::Others(why.clone());
        }
        std::future::pending().await
    }

    /// Returns when all have left.
    pub(crate) async fn left(mut self) {
        if let Some(seen) = &mut self.0 {
            let _ = seen.wait_for(|s| *s != Stands::Runs).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn a_command_that_fails_is_quoted_and_one_that_ends_well_is_not() {
        let mut others = Others::start(&shell("echo no such node >&2; exit 1")).unwrap();
        let Error::Others(why) = others.failed().await else { panic!("another error") };
        assert_eq!(why, "no such node");
        let others = Others::start(&shell("echo a warning >&2")).unwrap();
        others.clone().left().await;
        let mut again = others;
        assert!(futures::poll!(Box::pin(again.failed())).is_pending());
        assert!(Others::start(&["/no/such/program".to_owned()]).is_err());
    }
}
