//! The runner: one attempt on one node.
//!
//! It claims its work order, stages data, code and environment in, runs the program in a session
//! of its own, passes its log and its end on to the server, stores what it wrote, and leaves. It
//! outlives the server: what is not delivered yet stays on disk and is sent again.

mod attempt;
mod board;
mod collect;
mod container;
mod environ;
mod error;
mod layout;
mod link;
mod namespace;
mod others;
mod points;
mod probe;
mod program;
mod reporter;
mod salvage;
mod sandbox;
mod spool;
mod stage_in;
mod stage_out;
mod stop;
mod supervise;
mod tail;
mod team;
mod tree;

pub use attempt::run;
pub use board::{Job, Munge, Role, run_job};
pub use error::Error;
pub use probe::{probe, probe_sent};
pub use sandbox::has_landlock;
