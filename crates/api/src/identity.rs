//! Signing in: tokens, and the instance that a token is good for.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{Secret, Time};

/// A token: a JSON Web Token, good until the `exp` in its payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Token {
    /// The token itself.
    pub token: Secret,
}

/// The instance, as the original described one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Identity.
    pub metadata: InstanceMetadata,
    /// Content.
    pub entity: InstanceEntity,
}

/// `metadata` of [`Instance`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceMetadata {
    /// The id that was asked for: every id names this server.
    pub guid: String,
    /// Absolute; ends in `/wml_instances/<id>`.
    pub url: String,
    /// When the server was first started.
    pub created_at: Time,
    /// The same.
    pub modified_at: Time,
}

/// `entity` of [`Instance`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceEntity {
    /// `trainyard`.
    pub source: String,
    /// Where stored models are listed; absolute.
    pub published_models: crate::Link,
    /// Where deployments would be; absolute.
    pub deployments: crate::Link,
    /// What is used, and how much there is.
    pub usage: Usage,
    /// Id of the plan; the original's had several.
    pub plan_id: String,
    /// Name of the plan.
    pub plan: String,
    /// `Active`.
    pub status: String,
    /// The original's organisations are not here: empty.
    pub organization_guid: String,
    /// The original's spaces are not here: empty.
    pub space_guid: String,
    /// `local`.
    pub region: String,
    /// The caller.
    pub account: Account,
    /// The caller.
    pub owner: Owner,
    /// Trainyard: release of the server.
    pub version: String,
}

/// What the caller uses. The original's names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// GPUs.
    pub gpu_count: Count,
    /// Stored models.
    pub model_count: Count,
    /// Deployments, of which there are none.
    pub deployment_count: Count,
}

/// How much is used, of how much.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Count {
    /// How much there is; absent: as much as fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// How much is used.
    pub current: u64,
}

/// Who is billed, in the original; here the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Account {
    /// Name of the user.
    pub id: String,
    /// Name of the user.
    pub name: String,
    /// `USER`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Owner {
    /// Name of the user.
    pub user_id: String,
    /// Trainyard: may do what administrators may.
    #[serde(default)]
    pub admin: bool,
}
