//! Engines place runners, and do nothing else.
//!
//! [`Engine`] has few verbs: submit, poll many in one call, cancel. [`local`] places runners on
//! this machine, from a first-come-first-served [`local::Queue`] that does no I/O.

mod compute;
mod engine;
pub mod local;

pub use compute::{Computes, UnknownCompute};
pub use engine::{AttemptRef, Condition, Engine, Placement, SubmitError};
