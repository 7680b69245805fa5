//! Training definitions: a zip of code, and what it needs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{ContentStatus, Framework, Metadata, Time, Uuid};

/// The body of `POST /v3/ml_assets/training_definitions`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NewDefinition {
    /// Free text.
    pub name: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Kept, and returned as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<serde_json::Value>,
    /// The framework that the code is written for.
    pub framework: Framework,
    /// A default command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Kept, and returned as it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_data_reference: Option<serde_json::Value>,
}

/// The stored version of a definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DefinitionVersion {
    /// Id of the version.
    pub guid: Uuid,
    /// Where it is found.
    pub url: String,
    /// Where the zip is put and fetched; absolute.
    pub content_url: String,
    /// When the version was made.
    pub created_at: Time,
    /// Whether the zip is there.
    pub content_status: ContentStatus,
}

/// `entity` of a definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DefinitionEntity {
    /// Free text.
    pub name: String,
    /// Free text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<serde_json::Value>,
    /// The framework that the code is written for.
    pub framework: Framework,
    /// A default command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// As it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_data_reference: Option<serde_json::Value>,
    /// The newest version.
    pub training_definition_version: DefinitionVersion,
}

/// A training definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Definition {
    /// Identity.
    pub metadata: Metadata<Uuid>,
    /// Content.
    pub entity: DefinitionEntity,
}
