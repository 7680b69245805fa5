//! First come, first served. No I/O: who starts is computed from what is held and what waits.
//!
//! A run that waits for a GPU does not hold up one that needs none: a later run may go first
//! when it takes nothing of what an earlier one lacks, and leaves what the earlier one needs
//! besides. So nobody is overtaken in what he waits for.

use std::collections::{BTreeMap, HashMap};

use trainyard_api::{
    RunId,
    runner::{Allotment, Demand},
};

use super::Capacity;

/// A run that can start now.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// The run.
    pub run: RunId,
    /// What it was given.
    pub allotment: Allotment,
    /// Its place in the queue.
    pub number: i64,
    /// What it asked for.
    pub demand: Demand,
}

/// Runs that wait, and what the others hold.
#[derive(Clone, Debug)]
pub struct Queue {
    capacity: Capacity,
    /// By number of submission.
    waiting: BTreeMap<i64, (RunId, Demand)>,
    held: HashMap<RunId, Allotment>,
}

/// What is free, or would be.
#[derive(Clone, Copy, Debug)]
struct Free {
    cpus: f64,
    memory: u64,
    gpus: usize,
}

impl Free {
    fn fits(self, d: &Demand) -> bool {
        d.cpus <= self.cpus && d.memory <= self.memory && d.gpus as usize <= self.gpus
    }

    /// What is left once `d` has what it needs; where it lacks something, nothing is left.
    fn reserve(self, d: &Demand) -> Self {
        Self {
            cpus: (self.cpus - d.cpus).max(0.0),
            memory: self.memory.saturating_sub(d.memory),
            gpus: self.gpus.saturating_sub(d.gpus as usize),
        }
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(capacity: Capacity) -> Self {
        Self { capacity, waiting: BTreeMap::new(), held: HashMap::new() }
    }

    /// What there is in all.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// How many GPUs runs hold.
    pub fn gpus_in_use(&self) -> usize {
        self.held.values().map(|a| a.gpus.len()).sum()
    }

    /// Puts a run into the queue at its place.
    pub fn enqueue(&mut self, number: i64, run: RunId, demand: Demand) {
        if !self.held.contains_key(&run) {
            self.waiting.insert(number, (run, demand));
        }
    }

    /// Takes a run out of the queue.
    pub fn dequeue(&mut self, run: &RunId) {
        self.waiting.retain(|_, (r, _)| r != run);
    }

    /// Notes what a run holds that was placed before this queue was made.
    pub fn hold(&mut self, run: RunId, allotment: Allotment) {
        self.dequeue(&run);
        self.held.insert(run, allotment);
    }

    /// Gives back what a run holds.
    pub fn release(&mut self, run: &RunId) {
        self.held.remove(run);
    }

    fn free(&self) -> Free {
        let taken = self
            .held
            .values()
            .fold((0.0, 0u64, 0usize), |(c, m, g), a| (c + a.cpus, m + a.memory, g + a.gpus.len()));
        Free {
            // Sums of fractions may miss a whole by a hair.
            cpus: ((self.capacity.cpus - taken.0) * 1e6).round() / 1e6,
            memory: self.capacity.memory.saturating_sub(taken.1),
            gpus: self.capacity.gpus.len().saturating_sub(taken.2),
        }
    }

    /// Runs that can start now. They hold what they were given from here on.
    pub fn start(&mut self) -> Vec<Start> {
        let mut open = self.free();
        let mut chosen = Vec::new();
        for (number, (run, demand)) in &self.waiting {
            // What can never start here, since the machine has become smaller, holds nobody up.
            if self.capacity.refusal(demand).is_some() {
                continue;
            }
            if open.fits(demand) {
                chosen.push((*number, run.clone(), *demand));
            }
            open = open.reserve(demand);
            if open.cpus <= 0.0 {
                break;
            }
        }
        let mut starts = Vec::new();
        for (number, run, demand) in chosen {
            let used: Vec<&String> = self.held.values().flat_map(|a| &a.gpus).collect();
            let free = self.capacity.gpus.iter().filter(|g| !used.contains(g));
            let gpus: Vec<String> = free.take(demand.gpus as usize).cloned().collect();
            let allotment = Allotment {
                cpus: demand.cpus,
                memory: demand.memory,
                gpus,
                pretended: self.capacity.pretended,
            };
            self.waiting.remove(&number);
            self.held.insert(run.clone(), allotment.clone());
            starts.push(Start { run, allotment, number, demand });
        }
        starts
    }

    /// What the run waits for that was submitted as this number, in words; `None` when it does not wait.
    pub fn explain(&self, number: i64) -> Option<String> {
        let (_, demand) = self.waiting.get(&number)?;
        let ahead = self.waiting.range(..number).count();
        if let Some(why) = self.capacity.refusal(demand) {
            return Some(format!("{why}: it will not start before an operator changes that"));
        }
        let free = self.free();
        let mut lacks = Vec::new();
        if demand.gpus as usize > free.gpus {
            lacks.push(format!(
                "{} of {} GPUs free, {} needed",
                free.gpus,
                self.capacity.gpus.len(),
                demand.gpus
            ));
        }
        if demand.cpus > free.cpus {
            lacks.push(format!(
                "{} of {} CPU cores free, {} needed",
                free.cpus, self.capacity.cpus, demand.cpus
            ));
        }
        if demand.memory > free.memory {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            lacks.push(format!(
                "{:.1} of {:.1} GiB of memory free, {:.1} needed",
                gib(free.memory),
                gib(self.capacity.memory),
                gib(demand.memory)
            ));
        }
        let place = match ahead {
            0 => "next in the queue".to_owned(),
            1 => "1 run ahead in the queue".to_owned(),
            n => format!("{n} runs ahead in the queue"),
        };
        lacks.insert(0, place);
        Some(lacks.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: usize) -> RunId {
        format!("training-{n:09}").parse().unwrap()
    }

    fn capacity() -> Capacity {
        Capacity { cpus: 8.0, memory: 64, gpus: vec!["0".into(), "1".into(), "2".into()], pretended: true }
    }

    fn demand(cpus: f64, memory: u64, gpus: u32) -> Demand {
        Demand { cpus, memory, gpus }
    }

    fn started(queue: &mut Queue) -> Vec<RunId> {
        queue.start().into_iter().map(|s| s.run).collect()
    }

    #[test]
    fn a_run_without_gpus_passes_one_that_waits_for_them() {
        let mut q = Queue::new(capacity());
        q.enqueue(1, id(1), demand(1.0, 1, 3));
        q.enqueue(2, id(2), demand(1.0, 1, 1));
        q.enqueue(3, id(3), demand(1.0, 1, 0));
        assert_eq!(started(&mut q), [id(1), id(3)]);
        assert!(q.explain(2).unwrap().contains("0 of 3 GPUs free, 1 needed"));
        q.release(&id(1));
        assert_eq!(started(&mut q), [id(2)]);
    }

    #[test]
    fn a_large_run_is_not_starved_by_small_ones() {
        let mut q = Queue::new(capacity());
        q.enqueue(1, id(1), demand(6.0, 1, 0));
        q.enqueue(2, id(2), demand(8.0, 1, 0));
        q.enqueue(3, id(3), demand(2.0, 1, 0));
        assert_eq!(started(&mut q), [id(1)]);
        assert_eq!(q.explain(3).unwrap(), "1 run ahead in the queue");
        q.release(&id(1));
        assert_eq!(started(&mut q), [id(2)]);
    }

    proptest! {
        #[test]
        fn never_more_than_there_is_and_everything_starts_in_the_end(
            demands in prop::collection::vec((1..=8u32, 0..=64u64, 0..=3u32), 1..40),
            releases in prop::collection::vec(any::<prop::sample::Index>(), 0..200),
        ) {
            let mut q = Queue::new(capacity());
            let mut running: Vec<Start> = Vec::new();
            for (n, (cpus, memory, gpus)) in demands.iter().enumerate() {
                q.enqueue(n as i64, id(n), demand(f64::from(*cpus), *memory, *gpus));
            }
            let mut total = 0;
            let mut releases = releases.into_iter();
            loop {
                let starts = q.start();
                total += starts.len();
                running.extend(starts);
                prop_assert!(running.iter().map(|s| s.allotment.cpus).sum::<f64>() <= 8.0);
                prop_assert!(running.iter().map(|s| s.allotment.memory).sum::<u64>() <= 64);
                let mut gpus: Vec<&String> = running.iter().flat_map(|s| &s.allotment.gpus).collect();
                let count = gpus.len();
                gpus.sort();
                gpus.dedup();
                prop_assert_eq!(gpus.len(), count, "a GPU was given twice");
                if running.is_empty() { break }
                let at = releases.next().map_or(0, |i| i.index(running.len()));
                let ended = running.remove(at);
                q.release(&ended.run);
            }
            prop_assert_eq!(total, demands.len());
        }
    }
}
