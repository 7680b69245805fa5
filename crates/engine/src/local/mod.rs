//! Runners on this machine: a queue over its cores, memory and GPUs, and processes in sessions
//! of their own.

mod adopted;
mod capacity;
mod folders;
mod fork_server;
mod locks;
mod processes;
mod queue;

pub use capacity::{Capacity, detect};
pub use folders::run_folder;
pub use fork_server::{ForkRequest, RunnerEnded};
pub use locks::{lock_is_held, take_lock};
pub use processes::LocalEngine;
pub use queue::{Queue, Start};
