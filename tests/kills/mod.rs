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

use world::World;

/// Faults between two looks at everything.
const BETWEEN_LOOKS: u64 = 500;
/// Longest pause between two faults, in milliseconds: some runs are to come through.
const MOST_PAUSE: u64 = 120;
/// Faults in `./test`.
const FEW: u64 = 300;
/// The same on a cluster, which takes a second to start a run.
const FEW_ON_CLUSTER: u64 = 40;

#[test]
fn faults_at_random_lose_and_double_nothing() {
    let Some(mut world) = World::make() else { return };
    let few = if world.yard.cluster.is_some() { FEW_ON_CLUSTER } else { FEW };
    let target = std::env::var("KILLS_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(few);
    let mut looked = 0;
    let begun = Instant::now();
    while world.report.faults() < target {
        world.tend();
        world.keep_busy();
        world.inflict();
        world.look_at_checkpoints();
        // Time for things to begin, so that faults meet them in the middle.
        std::thread::park_timeout(Duration::from_millis(world.dice.roll(MOST_PAUSE)));
        if world.report.faults() >= looked + BETWEEN_LOOKS {
            world.settle();
            looked = world.report.faults();
            println!("{looked} faults, {} runs, {:?}", world.report.runs(), begun.elapsed());
        }
    }
    world.settle();
    println!("{}", world.report);
    assert!(world.report.violations.is_empty(), "{} violations, see above", world.report.violations.len());
}
