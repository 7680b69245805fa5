//! Everything is killed, frozen and cut off at random and right behind commits, by the hundred in `./test` and by the
//! thousand with `tests/kills/run`; and nothing is lost, doubled, wrong or left behind.
//!
//! `load` submits runs of a program that tells beforehand what it does, `faults` happen to all that has a part in
//! them, and when all is quiet again `check` compares what is there with what the program told.

mod check;
mod checkpoints;
mod faults;
mod load;
mod one_by_one;
mod report;
mod world;

use std::time::{Duration, Instant};

use report::Report;
use world::World;

use crate::harness::Dice;

/// Faults between two looks at everything.
const BETWEEN_LOOKS: u64 = 250;
/// Longest pause between two faults, in milliseconds: some runs are to come through.
const MOST_PAUSE: u64 = 120;
/// Faults in `./test`.
const FEW: u64 = 300;
/// The same on a cluster, which takes a second to start a run.
const FEW_ON_CLUSTER: u64 = 40;

/// With so many servers side by side, each with a share of the faults: most of the time one waits.
fn worlds() -> u64 {
    number("KILLS_WORLDS").unwrap_or(2)
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn faults_at_random_lose_and_double_nothing() {
    let few = if std::env::var("TRAINYARD_TEST_ENGINE").is_ok() { FEW_ON_CLUSTER } else { FEW };
    let target = number("KILLS_FAULTS").unwrap_or(few);
    let seed = Dice::from_variable("KILLS_SEED").seed;
    let share = target.div_ceil(worlds());
    let started = (0..worlds()).map(|n| {
        std::thread::spawn(move || World::make(Dice::from_seed(seed + n)).map(|world| live(world, share)))
    });
    let started: Vec<_> = started.collect();
    let mut all = Report::new(seed);
    for world in started {
        let Some(report) = world.join().unwrap() else { return };
        all.add(report);
    }
    println!("{all}");
    assert!(all.violations.is_empty(), "{} violations, see above", all.violations.len());
}

/// The life of a world with so many faults.
fn live(mut world: World, faults: u64) -> Report {
    let mut looked = 0;
    let begun = Instant::now();
    while world.report.faults() < faults {
        world.tend();
        world.keep_busy();
        world.inflict();
        world.look_at_checkpoints();
        // Time for things to begin, so that faults meet them in the middle.
        std::thread::park_timeout(Duration::from_millis(world.dice.roll(MOST_PAUSE)));
        if world.report.faults() >= looked + BETWEEN_LOOKS {
            world.settle();
            looked = world.report.faults();
            let Report { seed, .. } = world.report;
            println!("{seed}: {looked} faults, {} runs, {:?}", world.report.runs(), begun.elapsed());
        }
    }
    world.settle();
    std::mem::take(&mut world.report)
}
