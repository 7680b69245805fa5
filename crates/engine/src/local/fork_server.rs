//! The way to the fork server: a process that is ready to become a runner, and forks for each.
//!
//! A runner is a process of its own, but it need not be loaded and linked each time: that takes
//! longer than many a run. The fork server is this program too, started with the first run; it
//! reads requests from a socket and answers when a runner has ended, a line of JSON each. It ends
//! with its server; the runners go on.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::Command,
    sync::Notify,
};
use trainyard_api::{RunId, runner::Ticket};

use crate::AttemptRef;

/// What the fork server is asked: a runner.
#[derive(Debug, Serialize, Deserialize)]
pub struct ForkRequest {
    /// The run's folder, which is there.
    pub folder: PathBuf,
    /// What the runner is told.
    pub ticket: Ticket,
}

/// What the fork server answers.
#[derive(Debug, Serialize, Deserialize)]
pub struct RunnerEnded {
    /// The run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// In words, how its runner ended, or why it never began.
    pub how: String,
}

/// What is known of runners that this server asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    /// Forked by the fork server of this number.
    Runs(u64),
    /// That fork server is gone: nobody tells of it any more, but its lock does.
    Orphaned,
    Ended(String),
}

pub(crate) type Children = Arc<Mutex<HashMap<AttemptRef, Child>>>;

/// How many fork servers are started for one request, each because the one before it was ended.
const MOST_STARTS: u32 = 5;

/// Asks for runners; starts the fork server when there is none.
pub(crate) struct ForkServer {
    program: PathBuf,
    log: PathBuf,
    children: Children,
    ended: Arc<Notify>,
    socket: tokio::sync::Mutex<Socket>,
}

#[derive(Default)]
struct Socket {
    open: Option<OwnedWriteHalf>,
    /// Counts fork servers.
    number: u64,
}

impl ForkServer {
    pub(crate) fn new(program: PathBuf, node: &Path, children: Children, ended: Arc<Notify>) -> Self {
        let log = node.join("fork-server.log");
        Self { program, log, children, ended, socket: tokio::sync::Mutex::default() }
    }

    /// Has a runner started.
    pub(crate) async fn ask(&self, request: &ForkRequest) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let attempt = AttemptRef { run: request.ticket.run.clone(), attempt: request.ticket.attempt, job: 0 };
        let mut socket = self.socket.lock().await;
        let note = |child: Option<Child>| {
            let mut children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
            match child {
                Some(child) => children.insert(attempt.clone(), child),
                None => children.remove(&attempt),
            }
        };
        let Socket { open, number } = &mut *socket;
        let mut starts = 0;
        loop {
            note(Some(Child::Runs(*number)));
            let asked = match open {
                Some(open) => open.write_all(&line).await,
                None => Err(std::io::ErrorKind::NotConnected.into()),
            };
            let Err(error) = asked else { return Ok(()) };
            // The first request, or somebody ended the fork server; also one that was started a moment ago.
            *open = None;
            if starts == MOST_STARTS {
                note(None);
                return Err(error);
            }
            starts += 1;
            *number += 1;
            *open = Some(self.start(*number).inspect_err(|_| drop(note(None)))?);
        }
    }

    fn start(&self, number: u64) -> std::io::Result<OwnedWriteHalf> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.arg("fork-server").stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(log);
        let mut process = command.spawn()?;
        let (answers, requests) = ours.into_split();
        let (children, ended) = (Arc::clone(&self.children), Arc::clone(&self.ended));
        tokio::spawn(async move {
            listen(answers, number, &children, &ended).await;
            let _ = process.wait().await;
        });
        Ok(requests)
    }
}

/// Notes which runners have ended, until the fork server itself has.
async fn listen(answers: OwnedReadHalf, number: u64, children: &Children, ended: &Notify) {
    let mut lines = BufReader::new(answers).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(RunnerEnded { run, attempt, how }) = serde_json::from_str(&line) else {
            tracing::error!(line, "the fork server said something strange");
            continue;
        };
        let attempt = AttemptRef { run, attempt, job: 0 };
        let mut children = children.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = children.get_mut(&attempt) {
            *child = Child::Ended(how);
        }
        ended.notify_one();
    }
    tracing::warn!("the fork server is gone; the next run starts another");
    let mut children = children.lock().unwrap_or_else(PoisonError::into_inner);
    for child in children.values_mut().filter(|c| **c == Child::Runs(number)) {
        *child = Child::Orphaned;
    }
    drop(children);
    ended.notify_one();
}
