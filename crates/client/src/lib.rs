//! A typed client of the REST API, as the command line uses it.
//!
//! Errors are [`trainyard_api::Problem`]s: the server's own, with their codes, or what kept the request from
//! reaching it.

mod client;
mod download;
mod monitor;
mod upload;

pub use client::{Auth, Client, Failed};
pub use monitor::{Monitor, MonitorOptions};
pub use upload::Meter;
