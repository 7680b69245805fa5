//! End to end, as a user would: the real binary, the real store, real programs.
#![expect(
    missing_docs,
    unreachable_pub,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "tests talk to whoever runs them"
)]

mod api;
mod command_line;
mod crash;
mod definitions;
mod examples;
mod harness;
mod life;
mod object_store;
mod staging;
