//! `trainyard fork-server`: forks a runner for each request that comes on its stdin.
//!
//! It has one thread and stays that way, so that a fork is a whole and quiet copy of it. Which
//! requests and answers there are is the engine's to say.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{fs::OpenOptionsExt, net::UnixStream},
    },
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        prctl,
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid},
};
use trainyard_api::{RunId, runner::Ticket};
use trainyard_breakpoints::break_point;
use trainyard_engine::local::{ForkRequest, RunnerEnded, take_lock};

use crate::runner;

/// Bytes of requests that are read at a time.
const READ: usize = 64 * 1024;

/// Forks until its server is gone.
pub(crate) fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr().lock(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the fork server has open, and which runners it waits for.
struct ForkServer {
    socket: UnixStream,
    signals: SignalFd,
    mask: SigSet,
    runners: HashMap<Pid, (RunId, u32)>,
}

fn serve() -> anyhow::Result<()> {
    // What ends the server's terminal does not end the runners to come.
    let _ = setsid();
    // The server's is narrower; programs expect this one.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    // Every attempt's token passes here: no program of this user may look.
    prctl::set_dumpable(false).context("the memory cannot be closed to others")?;
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().context("stdin")?);
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block().context("SIGCHLD cannot be waited for")?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("SIGCHLD cannot be waited for")?;
    let mut server = ForkServer { socket, signals, mask, runners: HashMap::new() };
    let mut pending = Vec::new();
    loop {
        let mut ready = [
            PollFd::new(server.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(server.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.context("waiting for requests")?,
        };
        let [asked, ended] = ready.map(|r| r.any().unwrap_or(false));
        if ended {
            while let Ok(Some(_)) = server.signals.read_signal() {}
            server.reap()?;
        }
        if asked && !server.take(&mut pending)? {
            return Ok(());
        }
    }
}

impl ForkServer {
    /// Reads requests and forks for each; `false`: the server is gone.
    fn take(&mut self, pending: &mut Vec<u8>) -> anyhow::Result<bool> {
        let mut buffer = vec![0; READ];
        let n = self.socket.read(&mut buffer).context("reading requests")?;
        pending.extend_from_slice(&buffer[..n]);
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            let request: ForkRequest = serde_json::from_slice(&line).context("a request")?;
            let (run, attempt) = (request.ticket.run.clone(), request.ticket.attempt);
            if let Err(error) = self.start(request) {
                self.answer(run, attempt, format!("it could not be started: {error}"))?;
            }
        }
        Ok(n > 0)
    }

    fn start(&mut self, request: ForkRequest) -> io::Result<()> {
        let ForkRequest { folder, ticket } = request;
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join("runner.log"))?;
        let nothing = File::open("/dev/null")?;
        // The runner inherits it, and so is there from its first moment on.
        let lock = take_lock(&folder)?;
        break_point("fork-server:asked");
        let of = (ticket.run.clone(), ticket.attempt);
        // SAFETY: after a fork only the calling thread lives on in the child, so that a lock which
        // another thread held would stay locked for ever. This process has one thread: it starts
        // none, and nothing that it calls does.
        #[expect(unsafe_code, reason = "a runner is a copy of this process")]
        let forked = unsafe { fork() };
        match forked? {
            ForkResult::Parent { child } => {
                self.runners.insert(child, of);
                break_point("fork-server:forked");
                Ok(())
            }
            ForkResult::Child => {
                std::process::exit(self.become_runner(&nothing, &log, &folder, ticket, lock))
            }
        }
    }

    /// What the child does, to its end.
    fn become_runner(
        &self,
        nothing: &File,
        log: &File,
        folder: &Path,
        ticket: Ticket,
        lock: Option<File>,
    ) -> i32 {
        let prepared = dup2_stdin(nothing)
            .and_then(|()| dup2_stdout(log))
            .and_then(|()| dup2_stderr(log))
            .and_then(|()| nix::unistd::close(self.socket.as_raw_fd()))
            .and_then(|()| nix::unistd::close(self.signals.as_fd().as_raw_fd()))
            .and_then(|()| self.mask.thread_unblock());
        if let Err(error) = prepared {
            let _ = writeln!(io::stderr().lock(), "the runner cannot begin: {error}");
            return 1;
        }
        // So that `ps` and `top` tell runners apart; the kernel keeps 15 bytes.
        if let Ok(name) = std::ffi::CString::new(ticket.run.as_str().replacen("training", "run", 1)) {
            let _ = prctl::set_name(&name);
        }
        runner::run(folder, ticket, lock)
    }

    /// Answers for runners that have ended.
    fn reap(&mut self) -> anyhow::Result<()> {
        loop {
            let (pid, how) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, format!("its process exited with status {code}")),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, format!("its process was ended by {signal}"))
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(error).context("waiting for runners"),
            };
            if let Some((run, attempt)) = self.runners.remove(&pid) {
                self.answer(run, attempt, how)?;
            }
        }
    }

    fn answer(&mut self, run: RunId, attempt: u32, how: String) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(&RunnerEnded { run, attempt, how }).context("an answer")?;
        line.push(b'\n');
        self.socket.write_all(&line).context("answering")
    }
}
