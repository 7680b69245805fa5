//! Data in and out of S3: parallel, ranged, resumed, verified, and cached per node.
//!
//! [`Bucket`] speaks to one bucket. [`stage_in`] brings a bucket into a folder through the node's
//! [`Cache`]; [`Upload`] keeps a prefix of a bucket equal to a folder. Signing and XML are the
//! `rusty-s3` crate's; what moves bytes is ours.

mod beneath;
mod bucket;
mod cache;
mod digest;
mod endpoint;
mod error;
mod fetch;
mod http;
mod ledger;
mod names;
mod origin;
mod parts;
mod put;
mod resume;
mod stage_in;
mod there;
mod unfinished;
mod upload;
mod walk;

pub use bucket::{Bucket, Guard, Links, Object};
pub use cache::Cache;
pub use digest::is_same;
pub use endpoint::normalize_endpoint;
pub use error::Error;
pub use fetch::{Fetched, fetch_on, fetch_to, is_object};
pub use http::Http;
pub use ledger::{Ledger, Past};
pub use names::{BadName, check_names};
pub use origin::{Linked, Origin};
pub use stage_in::{Progress, StageIn, Staged, stage_in};
pub use unfinished::Unfinished;
pub use upload::{Inventory, Stored, Upload};
