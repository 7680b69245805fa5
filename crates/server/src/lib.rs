//! The server: it accepts runs, remembers them, has them placed, and tells how they stand.
//!
//! Every change of a run goes through the [`conductor`](self): journaled first, acted on after.
//! Data and results never pass here; runners speak to the object store themselves.

mod access;
mod archive;
mod auth;
mod conductor;
mod config;
mod data_folder;
mod engines;
mod extract;
mod keep_models;
mod listen;
mod logs;
mod members;
mod passes;
mod places;
mod points;
mod problem;
mod reconcile;
mod recovery;
mod removal;
mod render;
mod retention;
mod routes;
mod serve;
mod slurm_config;
mod stand_ins;
mod state;
mod uploads;
mod users;
mod watch;
mod zips;

pub use config::{Config, ConfigError, EngineConfig, LimitsConfig, LocalConfig, S3Config};
pub use data_folder::{Address, DataFolder, S3Keys};
pub use routes::openapi_json;
pub use serve::{StartError, examine_cluster, serve};
pub use slurm_config::SlurmConfig;
pub use users::{Users, UsersError};
