//! Runners on a Slurm cluster: each run a job, whose script is the runner.
//!
//! A job is called by the server, the run and the attempt, so that one whose number never came back is
//! found again and none is submitted twice. All jobs are asked for in one call. What Slurm says of a job
//! counts less than what its runner says.

mod account;
mod commands;
mod delivery;
mod engine;
mod examine;
mod judge;
mod listing;
mod rest;
mod rest_job;
mod script;
mod shared;
mod state;
mod transport;

pub use account::{Account, account};
pub use delivery::{Delivery, Sent, USER, node_of};
pub use engine::{Settings, SlurmEngine};
pub use examine::examine;
pub use rest::RestSettings;
pub use rest_job::check as check_rest_option;
pub use script::check_option;
