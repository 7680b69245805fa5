//! The embedded S3-compatible object store.
//!
//! The protocol (signatures, XML, routing) is the `s3s` crate's; this is the back end behind it.
//! What exists is decided by an index in SQLite, in which a write becomes visible in one
//! transaction; bytes lie in files with random names that are never written twice, so that a
//! reader always sees one whole version. No key ever becomes a path.

mod blob;
mod bucket;
mod checksum;
mod conditions;
mod copy;
mod encoding;
mod error;
mod index;
mod list;
mod multipart;
mod object;
mod serve;
mod service;
mod sweep;

pub use error::OpenError;
pub use serve::serve;
pub use service::{EmbeddedStore, Keys};
