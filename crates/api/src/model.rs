//! Stored models: the model folder of a run, packed and kept by the server.

use serde::{Deserialize, Serialize};

use crate::{Framework, Metadata, RunId, Time, Uuid};

/// How far the content of a definition or a model is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentStatus {
    /// `initialized`, `persisting`, `persisted` or `persisting_failed`.
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The body of `PUT /v3/models/{run}/ml_asset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewModelAsset {
    /// Name of the stored model.
    #[serde(default)]
    pub name: Option<String>,
    /// Free text.
    #[serde(default)]
    pub description: Option<String>,
}

/// The answer to `PUT /v3/models/{run}/ml_asset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAsset {
    /// What was made.
    pub entity: StoredAssetEntity,
}

/// `entity` of [`StoredAsset`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAssetEntity {
    /// Id of the stored model.
    pub ml_asset_guid: Uuid,
    /// Where it is found.
    pub ml_asset_url: String,
}

/// The stored version of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelVersion {
    /// Id of the version.
    pub guid: Uuid,
    /// Where it is found.
    pub url: String,
    /// Where the tar.gz is fetched; absolute.
    pub content_url: String,
    /// When the version was made.
    pub created_at: Time,
    /// Whether the content is there.
    pub content_status: ContentStatus,
}

/// `entity` of a stored model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelEntity {
    /// Free text.
    pub name: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The framework of the run it came from.
    pub framework: Framework,
    /// The run it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_run: Option<RunId>,
    /// Bytes of the tar.gz, when it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The only version.
    pub model_version: ModelVersion,
}

/// A stored model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredModel {
    /// Identity.
    pub metadata: Metadata<Uuid>,
    /// Content.
    pub entity: ModelEntity,
}

impl StoredAsset {
    /// The answer for the model `guid` at `url`.
    pub fn new(guid: Uuid, url: String) -> Self {
        Self { entity: StoredAssetEntity { ml_asset_guid: guid, ml_asset_url: url } }
    }
}
