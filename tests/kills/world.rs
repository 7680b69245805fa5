//! A server with its store behind a proxy, the runs on it, and whoever stands still.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use trainyard_chaos::Proxy;
use trainyard_transfer::Bucket;

use super::{checkpoints::Checkpoints, load::Load, report::Report};
use crate::harness::{Asker, Dice, Yard};

/// Runs that go on side by side, each with a checkpoint of its own.
pub const SLOTS: usize = 6;
/// Longest time from taking a break point to standing still there.
const STANDS_STILL: Duration = Duration::from_secs(10);
/// How often a server is started that ends while it starts: more than there are break points on that way.
const MOST_STARTS: u32 = 20;
/// Time between looks of a cluster's operator.
const BETWEEN_TIDYING: Duration = Duration::from_secs(1);

/// A run as it was submitted.
#[derive(Clone, Debug)]
pub struct Known {
    /// Absent: nobody said that it was taken.
    pub id: Option<String>,
    pub name: String,
    pub lines: u32,
    pub exit: i32,
    pub canceled: bool,
    pub deleted: bool,
    /// The server said that it is deleted.
    pub surely: bool,
}

pub struct World {
    pub yard: Yard,
    pub proxy: Proxy,
    pub asker: Asker,
    /// The results, past the proxy.
    pub results: Bucket,
    pub data: Bucket,
    pub server_id: String,
    pub dice: Dice,
    pub report: Report,
    pub load: Load,
    /// By slot: what goes on there.
    pub slots: [Option<Known>; SLOTS],
    /// What has ended and is not checked, or was deleted.
    pub over: Vec<Known>,
    pub checkpoints: Checkpoints,
    /// Processes that stand still, and until when.
    pub frozen: BTreeMap<i32, Instant>,
    operated: Instant,
}

impl World {
    /// `None` where break points are not compiled in.
    pub fn make(dice: Dice) -> Option<Self> {
        let yard = Yard::with_breakpoints("grace = 1\n[local]\ncpus = 6\nmemory = '64GiB'\n")?;
        let proxy =
            Proxy::start(yard.store.endpoint_url.trim_start_matches("http://").parse().unwrap()).unwrap();
        yard.put("input", b"some data");
        let load = Load::prepare(&yard, proxy.address());
        let report = Report::new(dice.seed);
        let (results, data) = (yard.bucket(&yard.results), yard.bucket(&yard.data));
        let (asker, server_id) = (Asker::of(&yard), yard.server_id());
        let (slots, over, checkpoints, frozen) = Default::default();
        Some(Self {
            yard,
            proxy,
            asker,
            results,
            data,
            server_id,
            dice,
            report,
            load,
            slots,
            over,
            checkpoints,
            frozen,
            operated: Instant::now(),
        })
    }

    /// Looks after those who stand still, and after a server that a break point has ended.
    pub fn tend(&mut self) {
        self.count_taken();
        let due: Vec<i32> =
            self.frozen.iter().filter(|(_, until)| **until <= Instant::now()).map(|(pid, _)| *pid).collect();
        for pid in due {
            let signal = if self.dice.chance(25) { Signal::SIGKILL } else { Signal::SIGCONT };
            self.wake(pid, signal);
        }
        self.revive();
        self.operate();
    }

    /// The cluster has an operator, who looks now and then.
    fn operate(&mut self) {
        if let Some(cluster) = &self.yard.cluster
            && self.operated.elapsed() > BETWEEN_TIDYING
        {
            cluster.tidy_up();
            self.operated = Instant::now();
        }
    }

    /// Lets everybody go on. Whoever has taken a break point is told of before it stands still or dies: this is to be
    /// called until all is quiet.
    pub fn let_go_on(&mut self) {
        self.count_taken();
        for pid in self.frozen.keys().copied().collect::<Vec<_>>() {
            self.wake(pid, Signal::SIGCONT);
        }
        self.revive();
        self.operate();
    }

    /// Lets a process go on, or ends it, once it stands still.
    fn wake(&mut self, pid: i32, signal: Signal) {
        if !is_stopped(pid) {
            // It may have been ended, and its number given to another.
            self.frozen.retain(|frozen, until| *frozen != pid || until.elapsed() < STANDS_STILL);
            return;
        }
        self.frozen.remove(&pid);
        if kill(Pid::from_raw(pid), signal).is_ok() && signal == Signal::SIGKILL {
            self.report.fault("kill while stopped");
        }
    }

    /// Starts the server where it is dead.
    pub fn revive(&mut self) {
        for _ in 0..MOST_STARTS {
            // It may come by a break point while it starts.
            if !self.yard.is_dead() || self.yard.try_restart() {
                return;
            }
        }
        panic!("the server ends whenever it starts: {}", self.yard.server_log());
    }

    /// Counts the points that processes came by; those that stand still go on later.
    fn count_taken(&mut self) {
        for (point, pid, how) in self.yard.taken() {
            self.report.fault(&format!("{how} at {point}"));
            if how == "stop" {
                let until = Instant::now() + Duration::from_millis(50 + self.dice.roll(1000));
                self.frozen.insert(pid, until);
            }
        }
    }

    /// Whether the server can be asked: it is there, and does not stand still.
    pub fn is_served(&mut self) -> bool {
        !self.yard.is_dead() && !is_stopped(self.yard.server_pid().cast_signed())
    }

    /// No more faults: what is planned is forgotten.
    pub fn calm_down(&mut self) {
        self.proxy.faults().clear();
        self.yard.disarm();
        self.let_go_on();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for pid in self.frozen.keys().filter(|pid| is_stopped(**pid)) {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
    }
}

/// Whether a process stands still.
pub fn is_stopped(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}
