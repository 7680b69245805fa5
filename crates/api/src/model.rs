//! Stored models: what a run or a user has handed to the server to keep.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Connection, Framework, Metadata, RunId, Time, Uuid};

/// How far the content of a definition or a model is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentStatus {
    /// `initialized`, `persisting`, `persisted` or `persisting_failed`.
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// The body of `PUT /v3/models/{run}/ml_asset`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NewModelAsset {
    /// Name of the stored model.
    #[serde(default)]
    pub name: Option<String>,
    /// Free text.
    #[serde(default)]
    pub description: Option<String>,
}

/// The body of `POST /v3/ml_assets/models`. What is not named here is kept and returned as it came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NewModel {
    /// Free text.
    pub name: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Kept, and returned as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<serde_json::Value>,
    /// What the model is made with.
    pub framework: Framework,
    /// Where it comes from: the results of a run. Absent: the client uploads it to the version's
    /// `content_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_location: Option<ContentLocation>,
    /// The rest.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// A folder of a bucket that holds a run's results.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ContentLocation {
    /// Endpoint and keys.
    pub connection: Connection,
    /// The folder; the model is in `model/` below it.
    pub source: ContentSource,
    /// Only `s3` exists.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// See [`ContentLocation`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContentSource {
    /// Name of the bucket.
    pub bucket: String,
    /// The folder, which is a run's id.
    pub path: String,
}

/// The answer to `PUT /v3/models/{run}/ml_asset`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredAsset {
    /// Identity of the run: clients of the original tell by it what this answer is.
    pub metadata: Metadata<RunId>,
    /// What was made.
    pub entity: StoredAssetEntity,
}

/// `entity` of [`StoredAsset`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoredAssetEntity {
    /// Id of the stored model.
    pub ml_asset_guid: Uuid,
    /// Where it is found.
    pub ml_asset_url: String,
}

/// A version of a stored model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelVersion {
    /// Id of the version.
    pub guid: Uuid,
    /// Where it is found; absolute.
    pub url: String,
    /// Where the archive is put and fetched; absolute.
    pub content_url: String,
    /// When the version was made.
    pub created_at: Time,
    /// Whether the content is there.
    pub content_status: ContentStatus,
}

/// `entity` of a stored model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ModelEntity {
    /// Free text.
    pub name: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<serde_json::Value>,
    /// The framework of the run it came from, or what was named.
    pub framework: Framework,
    /// The run it came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_run: Option<RunId>,
    /// Bytes of the archive, when it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// The version that is shown: the newest, unless another was asked for.
    pub model_version: ModelVersion,
    /// What else came with it.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// A stored model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StoredModel {
    /// Identity.
    pub metadata: Metadata<Uuid>,
    /// Content.
    pub entity: ModelEntity,
}
