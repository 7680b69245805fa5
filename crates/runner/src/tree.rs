//! Everything that the program started, and its end.
//!
//! Three nets, each for what slips through the one before: a cgroup where the machine grants one;
//! the children of this process, which is a sub-reaper, so that whoever loses its parent becomes
//! its child, `setsid` or not; and, after a runner died or where a cluster starts the program, the run's id in
//! the environment of processes.

use std::{collections::HashSet, fs, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, getpid},
};
use tokio::time::{Instant, sleep};

use trainyard_cgroup::Cgroup;

use crate::others::is_command;

/// First and longest pause between looks at whether all are gone.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LONGEST_LOOK: Duration = Duration::from_millis(50);
/// Looks that have to find nothing where there is no cgroup, and the time between two.
const LOOKS: u32 = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// Processes in uninterruptible sleep cannot be killed; after this they are left to the kernel.
pub(crate) const KILL_WAIT: Duration = Duration::from_secs(10);

/// The processes of one program.
#[derive(Debug)]
pub(crate) struct Tree {
    cgroup: Option<Cgroup>,
    started: Started,
}

/// How the program comes to be.
#[derive(Debug)]
enum Started {
    /// This process starts it.
    Here,
    /// So does a container's runtime, which has processes of its own about it.
    Inside,
    /// The cluster does, as a step of the job: what its processes are known by.
    Step(Marks),
}

/// What the processes of a program have in their environment.
#[derive(Debug)]
pub(crate) struct Marks([String; 2]);

impl Marks {
    pub(crate) fn new(run: &str, learner: u32) -> Self {
        Self([format!("TRAINING_ID={run}"), format!("LEARNER_ID={learner}")])
    }

    /// Processes of this node, but this one.
    fn bearers(&self) -> HashSet<i32> {
        let mut found = HashSet::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let has = |marker: &String| environment.split(|b| *b == 0).any(|v| v == marker.as_bytes());
            if pid != getpid().as_raw() && self.0.iter().all(has) {
                found.insert(pid);
            }
        }
        found
    }
}

impl Tree {
    pub(crate) fn new(cgroup: Option<Cgroup>) -> Self {
        Self { cgroup, started: Started::Here }
    }

    /// Of a program in a container with processes that others do not see.
    pub(crate) fn of_container() -> Self {
        Self { cgroup: None, started: Started::Inside }
    }

    /// Of a program that is a step of its job: the cluster started it, and not this process.
    pub(crate) fn of_step(marks: Marks) -> Self {
        Self { cgroup: None, started: Started::Step(marks) }
    }

    pub(crate) fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Processes that are there, those included that have ended and were not waited for.
    pub(crate) fn members(&self) -> HashSet<i32> {
        let mut members = descendants();
        if let Some(cgroup) = &self.cgroup {
            members.extend(cgroup.members());
        }
        if let Started::Step(marks) = &self.started {
            members.extend(marks.bearers());
        }
        members
    }

    /// Whether the cluster started the program, and so tells it to stop itself when it ends the job.
    pub(crate) fn is_step(&self) -> bool {
        matches!(self.started, Started::Step(_))
    }

    /// Sends a signal to all of the program. What started it and stands for it here is left out: a runtime passes on
    /// what it is told, which the program then hears twice.
    pub(crate) fn signal(&self, signal: Signal) {
        let mut members = self.members();
        match self.started {
            Started::Inside if signal != Signal::SIGKILL => {
                let inside: HashSet<i32> = members.iter().copied().filter(|pid| is_inside(*pid)).collect();
                // Where the node has no such namespaces, all are told.
                if !inside.is_empty() {
                    members = inside;
                }
            }
            Started::Step(_) => {
                let starters = descendants();
                members.retain(|pid| !starters.contains(pid));
                // TERM to the starter has the cluster kill all of the step, marked or not. Also where nothing is
                // marked: it has not begun, or took its marks off.
                if signal == Signal::SIGKILL || members.is_empty() {
                    send(&starters, Signal::SIGTERM);
                }
            }
            Started::Here | Started::Inside => {}
        }
        send(&members, signal);
    }

    /// Kills what is left, a starter that does not end its step included.
    pub(crate) fn kill(&self) {
        send(&self.members(), Signal::SIGKILL);
    }

    /// Asks all to end, waits for at most `grace`, and ends those that are left; `false` where that
    /// could not be done.
    pub(crate) async fn end(&self, grace: Duration) -> bool {
        if self.is_surely_empty().await {
            return true;
        }
        self.signal(Signal::SIGTERM);
        if self.wait_empty(grace).await {
            return true;
        }
        if self.is_step() {
            self.signal(Signal::SIGKILL);
            if self.wait_empty(KILL_WAIT).await {
                return true;
            }
        }
        let deadline = Instant::now() + KILL_WAIT;
        while Instant::now() < deadline {
            if let Some(cgroup) = &self.cgroup {
                cgroup.kill();
            }
            self.kill();
            if self.wait_empty(LONGEST_LOOK).await {
                return true;
            }
        }
        tracing::error!(left = ?self.members(), "processes of the program cannot be ended");
        false
    }

    async fn wait_empty(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut look = FIRST_LOOK;
        loop {
            if self.is_surely_empty().await {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(look.min(deadline - Instant::now())).await;
            look = (look * 2).min(LONGEST_LOOK);
        }
    }

    /// Whether nothing is left. The cgroup knows; without one several looks have to find nothing,
    /// because what forks and ends in one go is seen by few.
    async fn is_surely_empty(&self) -> bool {
        for look in 0..LOOKS {
            reap_orphans();
            if let Some(populated) = self.cgroup.as_ref().and_then(Cgroup::is_populated) {
                // What left the group, as root may, is still below this process.
                return !populated && descendants().is_empty();
            }
            if !self.members().is_empty() {
                return false;
            }
            if look + 1 < LOOKS {
                sleep(BETWEEN_LOOKS).await;
            }
        }
        true
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove();
        }
    }
}

/// Children of a process, from `/proc`.
fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return found };
    for thread in threads.flatten() {
        let text = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(text.split_whitespace().filter_map(|p| p.parse::<i32>().ok()));
    }
    found
}

fn send(members: &HashSet<i32>, signal: Signal) {
    for pid in members {
        // One that has ended meanwhile is what we want.
        let _ = kill(Pid::from_raw(*pid), signal);
    }
}

/// Whether a process is in a namespace of processes below this one's, and not its first, which is the runtime's.
fn is_inside(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|l| l.strip_prefix("NSpid:")).unwrap_or_default();
    let numbers: Vec<&str> = numbers.split_whitespace().collect();
    numbers.len() > 1 && numbers.last() != Some(&"1")
}

fn descendants() -> HashSet<i32> {
    let mut found = HashSet::new();
    let mut open = vec![getpid().as_raw()];
    while let Some(pid) = open.pop() {
        for child in children(pid) {
            if !is_command(child) && found.insert(child) {
                open.push(child);
            }
        }
    }
    found
}

/// Reaps zombies that became our children because their parent ended. The program itself is
/// waited for elsewhere and is never among them: this runs only once it has been.
pub(crate) fn reap_orphans() {
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// Ends processes that carry the run's id and the learner's number in their environment: what an earlier
/// runner of this learner left when it was killed.
pub(crate) fn kill_by_environment(run: &str, learner: u32) {
    let marks = Marks::new(run, learner);
    for _ in 0..5 {
        let found = marks.bearers();
        for pid in &found {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        // Another look: a process may have forked while we looked.
        if found.is_empty() {
            return;
        }
    }
}
