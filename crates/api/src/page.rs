//! Lists: `resources`, and links to the first and the next page.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An absolute URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// Where it leads.
    pub url: String,
}

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// Most entries that this page could have.
    #[serde(default)]
    pub limit: u32,
    /// The first page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Link>,
    /// The next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Link>,
    /// The entries.
    pub resources: Vec<T>,
}
