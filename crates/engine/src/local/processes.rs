//! Runner processes: started in a folder of their own, found again by the lock that they hold.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{process::Command, sync::Notify};
use trainyard_api::RunId;

use crate::{AttemptRef, Condition, Engine, Placement, SubmitError};

/// How long a runner that this server did not start itself may take until it holds its lock.
const START_UP: Duration = Duration::from_secs(3);
/// Lines of a lost runner's own log that are quoted.
const QUOTED: usize = 5;

/// Where the files of a run are on its node.
pub fn run_folder(node: &Path, run: &RunId) -> PathBuf {
    node.join("runs").join(run.as_str())
}

/// Whether a runner holds the lock of this folder.
pub fn lock_is_held(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join("runner.lock")) else { return false };
    // Shared, so that looking does not keep a runner from taking it for long.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Places runners on this machine.
pub struct LocalEngine {
    program: PathBuf,
    node: PathBuf,
    children: Arc<Mutex<HashMap<AttemptRef, Child>>>,
    /// When an attempt was first seen without a runner.
    unseen: Mutex<HashMap<AttemptRef, Instant>>,
    ended: Arc<Notify>,
}

enum Child {
    Runs,
    Ended(String),
}

impl LocalEngine {
    /// Starts `program runner FOLDER` for each attempt, in folders below `node`.
    pub fn new(program: PathBuf, node: PathBuf) -> Self {
        Self { program, node, children: Arc::default(), unseen: Mutex::default(), ended: Arc::default() }
    }

    /// Woken whenever a runner that this engine started has ended.
    pub fn ended(&self) -> Arc<Notify> {
        Arc::clone(&self.ended)
    }

    fn prepare(&self, placement: &Placement) -> std::io::Result<(PathBuf, File)> {
        let folder = run_folder(&self.node, &placement.ticket.run);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let ticket = folder.join("ticket.json");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&ticket)?;
        file.write_all(&serde_json::to_vec(&placement.ticket)?)?;
        let log = OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join("runner.log"))?;
        Ok((folder, log))
    }
}

#[async_trait::async_trait]
impl Engine for LocalEngine {
    async fn submit(&self, placement: &Placement) -> Result<(), SubmitError> {
        let failed = |what: &str, e: std::io::Error| SubmitError(format!("{what}: {e}"));
        let (folder, log) =
            self.prepare(placement).map_err(|e| failed("the run's folder cannot be made", e))?;
        let errors = log.try_clone().map_err(|e| failed("the runner's log cannot be used", e))?;
        let attempt = AttemptRef { run: placement.ticket.run.clone(), attempt: placement.ticket.attempt };
        let mut command = Command::new(&self.program);
        command.arg("runner").arg(&folder).stdin(Stdio::null()).stdout(log).stderr(errors);
        let mut child = command.spawn().map_err(|e| failed("the runner cannot be started", e))?;
        self.children.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt.clone(), Child::Runs);
        let (children, ended) = (Arc::clone(&self.children), Arc::clone(&self.ended));
        tokio::spawn(async move {
            let how = match child.wait().await {
                Ok(status) => format!("its process ended ({status})"),
                Err(e) => format!("its process cannot be watched: {e}"),
            };
            children.lock().unwrap_or_else(PoisonError::into_inner).insert(attempt, Child::Ended(how));
            ended.notify_one();
        });
        Ok(())
    }

    async fn poll(&self, attempts: &[AttemptRef]) -> Vec<Condition> {
        let children = self.children.lock().unwrap_or_else(PoisonError::into_inner);
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        unseen.retain(|a, _| attempts.contains(a));
        let mut conditions = Vec::with_capacity(attempts.len());
        for attempt in attempts {
            let folder = run_folder(&self.node, &attempt.run);
            conditions.push(match children.get(attempt) {
                Some(Child::Runs) => Condition::Alive,
                Some(Child::Ended(how)) => Condition::Gone(format!("{how}{}", last_words(&folder))),
                None if lock_is_held(&folder) => {
                    unseen.remove(attempt);
                    Condition::Alive
                }
                None => {
                    let since = unseen.entry(attempt.clone()).or_insert_with(Instant::now);
                    if since.elapsed() < START_UP {
                        Condition::Alive
                    } else {
                        Condition::Gone(format!("its process is gone{}", last_words(&folder)))
                    }
                }
            });
        }
        conditions
    }

    async fn nudge(&self, attempt: &AttemptRef) {
        let folder = run_folder(&self.node, &attempt.run);
        // The lock proves that the process id in it is the runner's, and not somebody else's by now.
        if !lock_is_held(&folder) {
            return;
        }
        let text = fs::read_to_string(folder.join("runner.lock")).unwrap_or_default();
        if let Some(pid) = text.trim().parse::<i32>().ok().filter(|p| *p > 1)
            && let Err(error) = kill(Pid::from_raw(pid), Signal::SIGTERM)
        {
            tracing::warn!(%error, run = %attempt.run, "cannot nudge the runner");
        }
    }

    async fn clean(&self, run: &RunId) {
        self.children.lock().unwrap_or_else(PoisonError::into_inner).retain(|a, _| a.run != *run);
        let folder = run_folder(&self.node, run);
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(&folder)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, %run, "cannot remove the run's folder on the node");
        }
    }
}

/// The end of a runner's own log, which says why it ended when it could.
fn last_words(folder: &Path) -> String {
    let text = fs::read(folder.join("runner.log")).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
    let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    match &lines[lines.len().saturating_sub(QUOTED)..] {
        [] => String::new(),
        tail => format!("; its log ends with: {}", tail.join(" | ")),
    }
}
