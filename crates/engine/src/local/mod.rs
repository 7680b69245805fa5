//! Runners on this machine: a queue over its cores, memory and GPUs, and processes in sessions
//! of their own.

mod capacity;
mod processes;
mod queue;

pub use capacity::{Capacity, detect};
pub use processes::{LocalEngine, lock_is_held, run_folder};
pub use queue::{Queue, Start};
