//! Engines place runners, and do nothing else.
//!
//! [`Engine`] has few verbs: submit, poll many in one call, stop, and why it waits. [`local`] places
//! runners on this machine, from a first-come-first-served [`local::Queue`] that does no I/O; [`slurm`]
//! hands them to a cluster.

mod compute;
mod engine;
mod last_words;
pub mod local;
pub mod slurm;

pub use compute::{Computes, UnknownCompute};
pub use engine::{AttemptRef, Condition, Engine, Left, Placement, Remains, SubmitError, Watched};
