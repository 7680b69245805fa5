//! Manifests: parsed, checked, and explained with line and column.
//!
//! A manifest is YAML or JSON. It becomes a tree that knows where everything stands; the checks
//! walk the tree and collect *all* problems, so that a person mends a file once. No I/O here:
//! whoever reads the file hands its text in, with the environment and the named credentials.

mod definition;
mod duration;
mod old_forms;
mod overrides;
mod problem;
mod reader;
mod resolve;
mod samples;
mod schema;
mod syntax;
mod training;
mod tree;

pub use definition::{DefinitionManifest, parse_definition};
pub use duration::parse_duration;
pub use problem::{Problem, Report};
pub use resolve::{Credential, Unresolved, resolve};
pub use samples::{SAMPLES, sample};
pub use schema::json_schema;
pub use training::{
    Author, Bucket, Compute, Connection, DataReference, Execution, Framework, ModelDefinition,
    ResultsReference, Runtime, TrainingManifest, parse,
};

/// Largest manifest that is read, in bytes.
pub const MAX_SIZE: usize = 1 << 20;
