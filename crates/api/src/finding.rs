//! What an examination finds: `trainyard doctor`, on this machine and on the nodes of a cluster.

use serde::{Deserialize, Serialize};

/// How it is with what was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    #[serde(rename = "ok")]
    Good,
    /// Works, with less than there could be.
    Note,
    /// Does not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How it is.
    pub health: Health,
    /// What was found, in words.
    pub what: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cure: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn good(what: impl Into<String>) -> Self {
        Self { health: Health::Good, what: what.into(), cure: None }
    }

    /// It works, with less than there could be.
    pub fn note(what: impl Into<String>, cure: Option<&str>) -> Self {
        Self { health: Health::Note, what: what.into(), cure: cure.map(str::to_owned) }
    }

    /// It does not work.
    pub fn bad(what: impl Into<String>, cure: Option<&str>) -> Self {
        Self { health: Health::Bad, what: what.into(), cure: cure.map(str::to_owned) }
    }
}
