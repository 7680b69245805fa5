//! Runners on this machine: a queue over its cores, memory and GPUs, and processes in sessions
//! of their own.

mod capacity;
mod folders;
mod fork_server;
mod processes;
mod queue;

pub use capacity::{Capacity, detect};
pub use folders::run_folder;
pub use fork_server::{ForkRequest, RunnerEnded};
pub use processes::{LocalEngine, lock_is_held};
pub use queue::{Queue, Start};
