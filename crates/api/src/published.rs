//! Published models: the original's view of stored models for readers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Metadata, Time, Uuid};

/// A stored model, as `published_models` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PublishedModel {
    /// Identity; `url` ends in `/published_models/<id>`.
    pub metadata: Metadata<Uuid>,
    /// Content.
    pub entity: PublishedEntity,
}

/// `entity` of [`PublishedModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PublishedEntity {
    /// Free text.
    pub name: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<serde_json::Value>,
    /// `<framework>-<version>`.
    pub model_type: String,
    /// `<runtime>-<version>`, such as `python-3.11`; `python-3` when none was named.
    pub runtime_environment: String,
    /// The newest version.
    pub latest_version: PublishedVersion,
    /// Deployments, of which there are none.
    pub deployments: PublishedDeployments,
}

/// A version of a published model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PublishedVersion {
    /// Where it is found; absolute.
    pub url: String,
    /// Its id.
    pub guid: Uuid,
    /// When it was made.
    pub created_at: Time,
}

/// Deployments of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedDeployments {
    /// How many.
    pub count: u64,
    /// Where they would be listed; absolute.
    pub url: String,
}
