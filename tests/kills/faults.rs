//! What happens to the server, its runners, its fork server, and the way to the store.

use std::time::{Duration, Instant};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use trainyard_breakpoints::ALL;
use trainyard_chaos::Fault;

use super::world::{World, is_stopped};
use crate::harness::fork_server;

/// Requests that a fault of the store may be meant for.
const MEANT_FOR: [&[&str]; 8] = [
    &[],
    &["PUT "],
    &["DELETE "],
    &["GET ", "list-type=2"],
    &["POST ", "uploads="],
    &["PUT ", "partNumber="],
    &["POST ", "uploadId="],
    &["_wml_checkpoints"],
];
/// Points that are armed at once: more would meet every process at its first step.
const MOST_ARMED: usize = 3;

impl World {
    /// Has one thing happen.
    pub fn inflict(&mut self) {
        if self.yard.cluster.is_some() && self.dice.chance(8) {
            return self.kill_controller();
        }
        match self.dice.roll(100) {
            0..8 => self.kill_server("kill server"),
            8..15 => self.kill_runner(),
            15..18 => {
                self.kill_runner();
                self.kill_server("kill server with a runner");
            }
            18..21 => self.kill_fork_server(),
            21..27 => self.freeze_server(),
            27..34 => self.freeze_runner(),
            34..65 => self.arm(),
            _ => self.disturb_store(),
        }
    }

    fn kill_server(&mut self, kind: &str) {
        if !self.yard.is_dead() {
            self.yard.kill_server();
            self.report.fault(kind);
        }
        // It is back at once, or a while later: runners do without.
        if self.dice.chance(30) {
            std::thread::park_timeout(Duration::from_millis(self.dice.roll(600)));
        }
        self.revive();
    }

    fn kill_runner(&mut self) {
        let runners: Vec<i32> = self.yard.runners().into_values().collect();
        if let Some(pid) = self.dice.pick(&runners)
            && kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()
        {
            self.report.fault("kill runner");
        }
    }

    /// The cluster's own: jobs go on, and nobody can ask for them for a while.
    fn kill_controller(&mut self) {
        let away = Duration::from_millis(self.dice.roll(1500));
        let Some(cluster) = &mut self.yard.cluster else { return };
        cluster.kill_controller();
        std::thread::park_timeout(away);
        cluster.start_controller();
        self.report.fault("kill Slurm's controller");
    }

    fn kill_fork_server(&mut self) {
        if self.yard.is_dead() {
            return;
        }
        if let Some(pid) = fork_server(self.yard.server_pid())
            && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
        {
            self.report.fault("kill fork server");
        }
    }

    fn freeze_server(&mut self) {
        if self.is_served() {
            self.freeze(self.yard.server_pid().cast_signed(), "freeze server");
        }
    }

    fn freeze_runner(&mut self) {
        let runners: Vec<i32> = self.yard.runners().into_values().filter(|pid| !is_stopped(*pid)).collect();
        if let Some(pid) = self.dice.pick(&runners).copied() {
            self.freeze(pid, "freeze runner");
            if self.dice.chance(30) {
                self.kill_server("kill server with a runner frozen");
            }
        }
    }

    fn freeze(&mut self, pid: i32, kind: &str) {
        let until = Instant::now() + Duration::from_millis(50 + self.dice.roll(1500));
        if kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok() {
            self.frozen.insert(pid, until);
            self.report.fault(kind);
        }
    }

    /// Arms a break point: the next process that comes by is ended or stopped there, and counted then.
    fn arm(&mut self) {
        if self.yard.armed() >= MOST_ARMED {
            // Nobody comes by there now.
            if self.dice.chance(70) {
                return;
            }
            self.yard.disarm();
        }
        let point = ALL[self.dice.roll(ALL.len() as u64) as usize];
        let how = if self.dice.chance(15) { "stop" } else { "kill" };
        self.yard.arm(point, how);
    }

    fn disturb_store(&mut self) {
        let faults = self.proxy.faults();
        if faults.planned() > 4 {
            // They wait for requests that do not come.
            faults.clear();
        }
        let words = self.dice.pick(&MEANT_FOR).copied().unwrap_or_default();
        let bytes = 1 + self.dice.roll(2000);
        let (fault, kind) = match self.dice.roll(5) {
            0 => (Fault::LoseAnswer, "store: answer lost"),
            1 => (Fault::TruncateAnswer(bytes), "store: answer truncated"),
            2 => (Fault::CutRequest(bytes), "store: request cut"),
            3 => (Fault::Delay(Duration::from_millis(bytes)), "store: request delayed"),
            _ => {
                faults.refuse(1 + self.dice.roll(4));
                self.report.fault("store: connections refused");
                return;
            }
        };
        faults.plan(fault, words);
        self.report.fault(kind);
    }
}
