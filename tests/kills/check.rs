//! When all is quiet: is everything there, once, and nothing else?

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use md5::Digest;
use serde_json::Value;
use trainyard_store::{Sealer, Store};

use super::{
    load::{Found, is_over},
    world::{Known, SLOTS, World},
};
use crate::harness::block_on;

/// Longest wait for all runs to end, and for what they leave to be cleaned up.
const ENDS: Duration = Duration::from_mins(4);
const CLEANED: Duration = Duration::from_mins(1);
/// More memory than this is a leak.
const MOST_MEMORY: u64 = 400 << 20;

impl World {
    /// Lets everything end, and looks at all of it.
    pub fn settle(&mut self) {
        self.calm_down();
        let runs = self.wait_for_ends();
        self.look_at_checkpoints();
        let key: [u8; 32] = fs::read(self.yard.data_folder().join("secret.key")).unwrap().try_into().unwrap();
        let database = self.yard.data_folder().join("trainyard.db");
        let store = Store::open_as_it_is(&database, Sealer::new(&key)).unwrap();
        self.wait_until_clean(&store, &runs);
        for known in &runs {
            self.check_run(known, &store);
        }
        self.check_memory();
        let (lost, deaths) = (self.report.ended_as("error TY0407"), self.deaths());
        self.report
            .expect(lost <= deaths, || format!("{lost} runs lost their runner, and {deaths} were ended"));
    }

    /// How often a runner may have been ended. A controller of Slurm that forgot jobs has their runners ended.
    fn deaths(&self) -> u64 {
        let deaths = ["kill runner", "kill at ", "kill while stopped"].map(|k| self.report.faults_of(k));
        deaths.iter().sum::<u64>() + SLOTS as u64 * self.report.faults_of("kill Slurm's controller")
    }

    /// All runs there are, once they have ended.
    fn wait_for_ends(&mut self) -> Vec<Known> {
        let mut open: Vec<Known> = self.slots.iter_mut().filter_map(Option::take).collect();
        let mut runs = std::mem::take(&mut self.over);
        let deadline = Instant::now() + ENDS;
        while let Some(mut known) = open.pop() {
            self.let_go_on();
            if known.id.is_none() {
                match self.find(&known.name) {
                    // Nobody said that it was taken, and it was not.
                    Found::Nothing => continue,
                    Found::Run(id) => known.id = Some(id),
                    Found::NoAnswer => {}
                }
            }
            let Some(id) = known.id.clone() else {
                open.insert(0, known);
                continue;
            };
            let answer = self.asked("GET", &format!("/v3/models/{id}"), None);
            let is_gone = known.deleted && matches!(answer, Some((404, _)));
            match answer {
                Some((200, run)) if is_over(&run) => runs.push(known),
                _ if is_gone => runs.push(known),
                answer if Instant::now() > deadline => {
                    let log = self.yard.runner_log(&id);
                    let jobs = self.yard.cluster.as_ref().map(|c| c.say("scontrol", &["-o", "show", "jobs"]));
                    let status = answer.map(|(code, run)| (code, run["entity"]["status"].clone()));
                    let jobs = jobs.unwrap_or_default();
                    self.report.violation(format!("{id} has not ended: {status:?}\n{log}\n{jobs}"));
                    runs.push(known);
                }
                _ => {
                    open.insert(0, known);
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            }
        }
        runs
    }

    /// Waits until nothing is left behind but what is to stay; what is left then is a violation.
    fn wait_until_clean(&mut self, store: &Store, runs: &[Known]) {
        let ids: BTreeSet<&str> = runs.iter().filter_map(|k| k.id.as_deref()).collect();
        let deadline = Instant::now() + CLEANED;
        loop {
            self.let_go_on();
            let left = self.left(store, &ids);
            if left.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                for what in left {
                    self.report.violation(format!("left behind: {what}"));
                }
                break;
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        self.report.checked("looks for what is left", 1);
    }

    /// Everything that is there and should not be.
    fn left(&self, store: &Store, ids: &BTreeSet<&str>) -> Vec<String> {
        let mut left = Vec::new();
        let mut folder = |path: &str, of: &mut dyn FnMut(&str) -> bool| {
            for entry in fs::read_dir(self.yard.node_folder().join(path)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if of(&name) {
                    left.push(format!("{path}/{name}"));
                }
            }
        };
        folder("runs", &mut |_| true);
        folder("kept", &mut |_| true);
        folder("definitions", &mut |name| Path::new(name).extension().is_some_and(|e| e == "part"));
        left.extend(
            block_on(store.runs_to_remove(0, 10)).unwrap().into_iter().map(|r| format!("record of {}", r.id)),
        );
        let live = block_on(store.live()).unwrap();
        left.extend(live.0.into_iter().map(|r| format!("live record of {}", r.id)));
        let logs = fs::read_dir(self.yard.data_folder().join("logs")).unwrap().flatten();
        let names: BTreeMap<String, String> = logs
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .map(|n| (n.split('.').next().unwrap_or_default().to_owned(), n))
            .collect();
        let all = names.keys().filter_map(|id| id.parse().ok()).collect();
        let known = block_on(store.known(all)).unwrap();
        left.extend(
            names
                .iter()
                .filter(|(id, _)| !known.iter().any(|k| k.as_str() == *id))
                .map(|(_, n)| format!("logs/{n}")),
        );
        let is_ours = |run: &String| ids.contains(run.as_str());
        left.extend(
            bearers()
                .into_iter()
                .filter(|(_, run)| is_ours(run))
                .map(|(pid, run)| format!("process {pid} of {run}")),
        );
        let groups = trainyard_cgroup::runs_of(&self.server_id);
        left.extend(groups.into_iter().map(|run| format!("cgroup of {run}")));
        match self.asker.block_on(self.results.unfinished("")) {
            Ok(uploads) => left.extend(uploads.into_iter().map(|u| format!("upload of {}", u.key))),
            Err(error) => left.push(format!("uploads, perhaps: {error}")),
        }
        left
    }

    fn check_run(&mut self, known: &Known, store: &Store) {
        let Some(id) = known.id.clone() else { return };
        if known.deleted {
            let gone = matches!(store.run(&id.parse().unwrap()), Err(trainyard_store::Error::NotFound));
            if gone {
                self.report.ended("deleted");
                return;
            }
            // The server was killed before it heard.
            self.report.expect(!known.surely, || format!("{id} was deleted, and is there"));
        }
        let Some((200, run)) = self.asked("GET", &format!("/v3/models/{id}"), None) else {
            self.report.violation(format!("{id} is gone"));
            return;
        };
        let status = &run["entity"]["status"];
        let state = status["state"].as_str().unwrap_or_default();
        let code = status["error"]["errors"][0]["code"].as_str().unwrap_or_default();
        self.report.ended(format!("{state} {code}").trim());
        let is_expected = match (state, code) {
            ("completed", "") => known.exit == 0,
            ("error", "TY0401") => known.exit == 3,
            ("error", "TY0407") => true,
            ("canceled", "") => known.canceled,
            _ => false,
        };
        self.report.expect(is_expected, || format!("{known:?} ended as {status:#}"));
        self.report.expect(store.is_consistent(&id.parse().unwrap()).unwrap(), || {
            format!("{id}: the record is not the fold of its journal")
        });
        self.report.checked("journals", 1);
        // As it is kept; and now and then as it is shown.
        let kept = self.yard.data_folder().join("logs").join(&id).with_extension("log");
        let log = fs::read_to_string(kept).unwrap_or_default();
        if self.dice.chance(5) {
            let shown = self.yard.cli(&["logs", &id]).ok();
            self.report
                .expect(shown == log, || format!("{id}: the log is shown as {shown}\n--- and not as {log}"));
            self.report.checked("logs as they are shown", 1);
        }
        self.check_log(known, &id, &log, state);
        self.check_metrics(&id, &log, status);
        self.check_results(&id, &log, state, status["attempt"].as_u64().unwrap_or(0));
    }

    /// Every line once and in order, and all of them where the program ended by itself.
    fn check_log(&mut self, known: &Known, id: &str, log: &str, state: &str) {
        let lines = lines(log);
        let expected: Vec<u32> = (1..=lines.len() as u32).collect();
        self.report.expect(lines == expected, || format!("{id}: the log has lines {lines:?}"));
        let begins = log.lines().filter(|l| *l == "begins").count();
        self.report.expect(begins <= 1, || format!("{id}: the program was started {begins} times"));
        let whole = lines.len() as u32 == known.lines && log.lines().any(|l| l == "ends");
        self.report.expect(whole || state != "completed", || format!("{id}: lines are missing:\n{log}"));
        self.report.checked("lines of logs", lines.len() as u64);
    }

    /// Each point once and in order: as many as there are lines, or one less where the program was killed between.
    fn check_metrics(&mut self, id: &str, log: &str, status: &Value) {
        let steps: Vec<u64> = status["metrics"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|m| m["iteration"].as_u64())
            .collect();
        let expected: Vec<u64> = (1..=steps.len() as u64).collect();
        let lines = lines(log).len();
        self.report.expect(steps == expected, || format!("{id}: the metrics have steps {steps:?}"));
        self.report.expect(steps.len() == lines || steps.len() + 1 == lines, || {
            format!("{id}: {} points to {lines} lines", steps.len())
        });
        self.report.checked("points of metrics", steps.len() as u64);
    }

    /// The bucket holds what the program said that it wrote, and the marker lists just that.
    fn check_results(&mut self, id: &str, log: &str, state: &str, attempt: u64) {
        let there = self.stored(id);
        if !there.contains_key("learner-1/.log-copy-complete") {
            // Nobody wanted it before it began, or its runner was killed again and again before it had.
            let never = log.is_empty() && (state == "canceled" || attempt >= 3);
            self.report.expect(never, || format!("{id} is {state} without a marker: {there:?}"));
            return;
        }
        let marker: Value =
            serde_json::from_str(&self.stored_text(id, "learner-1/.log-copy-complete")).unwrap();
        let listed: BTreeMap<String, u64> = marker["files"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, entry)| (key.clone(), entry["size"].as_u64().unwrap()))
            .collect();
        let mut beside = there.clone();
        beside.remove("learner-1/.log-copy-complete");
        self.report.expect(listed == beside, || {
            format!("{id}: the marker lists {listed:?}, and there is {beside:?}")
        });
        self.report
            .expect(marker["left_out"].is_null(), || format!("{id}: left out: {}", marker["left_out"]));
        let stored_log = self.stored_text(id, "learner-1/training-log.txt");
        self.report.expect(lines(&stored_log) == lines(log), || {
            format!("{id}: the bucket's log is another:\n{stored_log}\n--- and not\n{log}")
        });
        let (sure, last) = told(log);
        let mut found: BTreeMap<&str, u64> = beside
            .iter()
            .filter(|(key, _)| !key.starts_with("learner-1/") && !key.ends_with("-half"))
            .map(|(key, size)| (key.as_str(), *size))
            .collect();
        let mut expected = sure.clone();
        if let Some((name, ..)) = last {
            // The last that it said may be done or not, and be done in part.
            found.remove(name);
            expected.remove(name);
        }
        let sizes: BTreeMap<&str, u64> = expected.iter().map(|(name, (size, _))| (*name, *size)).collect();
        self.report.expect(found == sizes, || {
            format!("{id}: {found:?} is stored, and {sizes:?} was written\n{log}")
        });
        self.report.checked("files of results", found.len() as u64);
        // A few of them to the byte.
        let some: Vec<(&str, String)> =
            expected.into_iter().take(2).map(|(name, (_, md5))| (name, md5.to_owned())).collect();
        for (name, md5) in some {
            let path = format!("{id}/{name}");
            let bytes = self.asker.block_on(self.results.get_bytes(&path)).unwrap_or_default();
            let is_it = hex::encode(md5::Md5::digest(&bytes)) == md5;
            self.report.expect(is_it, || format!("{path} holds other bytes than were written"));
        }
    }

    /// Keys and sizes of what a run has stored, without its own prefix.
    fn stored(&self, id: &str) -> BTreeMap<String, u64> {
        let prefix = format!("{id}/");
        let objects = self.asker.block_on(self.results.list(&prefix)).unwrap();
        objects.into_iter().map(|o| (o.key[prefix.len()..].to_owned(), o.size)).collect()
    }

    fn stored_text(&self, id: &str, key: &str) -> String {
        let bytes = self.asker.block_on(self.results.get_bytes(&format!("{id}/{key}")));
        bytes.map_or_else(|e| e.to_string(), |b| String::from_utf8_lossy(&b).into_owned())
    }

    fn check_memory(&mut self) {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.yard.server_pid())).unwrap_or_default();
        let kib =
            status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok());
        let memory: u64 = kib.unwrap_or(0) * 1024;
        self.report.memory = self.report.memory.max(memory);
        self.report.expect(memory < MOST_MEMORY, || format!("the server has {} MiB of memory", memory >> 20));
    }
}

/// Numbers of the lines that the program printed.
fn lines(log: &str) -> Vec<u32> {
    log.lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect()
}

/// A file that the program said it wrote: its size and MD5.
type Told<'a> = BTreeMap<&'a str, (u64, &'a str)>;

/// What the program's folder holds by what it said, and the last of it, which may not be done.
fn told(log: &str) -> (Told<'_>, Option<(&str, u64)>) {
    let mut files = Told::new();
    let mut last = None;
    for line in log.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["put", name, size, md5] => {
                files.insert(name, (size.parse().unwrap_or(0), md5));
                last = Some((name, 1));
            }
            ["remove", name] => {
                files.remove(name);
                last = Some((name, 0));
            }
            // Whatever it says next, it has done what it said before.
            ["line", _] | ["ends"] => last = None,
            _ => {}
        }
    }
    (files, last)
}

/// Processes that carry a run's id, with it.
fn bearers() -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let run = environment.split(|b| *b == 0).find_map(|v| v.strip_prefix(b"TRAINING_ID="));
        found.extend(run.map(|run| (pid, String::from_utf8_lossy(run).into_owned())));
    }
    found
}
