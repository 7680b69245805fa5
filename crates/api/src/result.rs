//! Results of a run, as links that need no keys.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A page of the answer to `GET /v3/models/{run}/results`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Results {
    /// Name of the bucket.
    pub bucket: String,
    /// The run's folder in it.
    pub folder: String,
    /// What to ask for behind this page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// In order of names.
    pub resources: Vec<ResultObject>,
}

/// An object in the run's folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ResultObject {
    /// Key below the folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// The store's name for this content, without quotes.
    pub etag: String,
    /// Fetches it, whole or in ranges.
    pub url: String,
    /// Asks for its checksums, with the header `x-amz-checksum-mode: ENABLED`.
    pub head_url: String,
}
