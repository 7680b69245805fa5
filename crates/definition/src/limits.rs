//! How much a definition may hold.

use serde::{Deserialize, Serialize};

/// Limits on a definition zip. All can be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of the zip itself.
    pub zip_bytes: u64,
    /// Bytes of all its files unpacked.
    pub unpacked_bytes: u64,
    /// Files and folders in it.
    pub entries: u64,
    /// Unpacked bytes per packed byte of any file larger than 1 MiB.
    pub ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { zip_bytes: 1 << 30, unpacked_bytes: 8 << 30, entries: 50_000, ratio: 200 }
    }
}

impl Limits {
    /// Files up to this size may have any ratio: a megabyte of zeros harms nobody.
    pub(crate) const RATIO_FREE: u64 = 1 << 20;
}
