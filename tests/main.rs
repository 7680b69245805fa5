//! End to end, as a user would: the real binary, the real store, real programs.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::format_collect,
    clippy::needless_raw_string_hashes,
    reason = "tests talk to whoever runs them, and stop at the first surprise"
)]

mod api;
mod command_line;
mod containers;
mod crash;
mod definitions;
mod examples;
mod harness;
mod ibm_client;
mod identity;
mod isolation;
mod kills;
mod learners;
mod life;
mod limits;
mod metrics;
mod object_store;
mod openapi;
mod slurm;
mod slurm_far;
mod slurm_parts;
mod staging;
mod stored_models;
