//! Where a run's data comes from and where its results go.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Secret;

/// An S3 endpoint and the keys for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Connection {
    /// `https://host:port`; without a scheme, `https` is meant.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint_url: String,
    /// The public half of the key pair.
    #[serde(default, alias = "aws_access_key_id")]
    pub access_key_id: String,
    /// The secret half. Encrypted at rest; returned only to the run's owner.
    #[serde(default, alias = "aws_secret_access_key")]
    pub secret_access_key: Secret,
}

/// A bucket, as requests name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bucket {
    /// The bucket's name.
    #[serde(default)]
    pub bucket: String,
    /// Some manifests put the reference's `type` here.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// A bucket, as answers name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Location {
    /// The bucket's name.
    #[serde(default)]
    pub bucket: String,
    /// Results only: the folder in the bucket, which is the run's id. Set when the run has started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_location: Option<String>,
}

/// `training_data_reference` or `training_results_reference`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DataReference {
    /// A label without meaning for the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only `s3` exists.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Endpoint and keys.
    #[serde(default)]
    pub connection: Connection,
    /// The data bucket, in requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Bucket>,
    /// The results bucket, in requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Bucket>,
    /// Either bucket, in answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

impl DataReference {
    /// The bucket's name, wherever it stands; empty when it is missing.
    pub fn bucket(&self) -> &str {
        let named = self.source.as_ref().or(self.target.as_ref()).map(|b| b.bucket.as_str());
        named.or(self.location.as_ref().map(|l| l.bucket.as_str())).unwrap_or("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_aws_spellings_and_unknown_keys() {
        let text = r#"{"connection":{"endpoint_url":"s3.example.net","aws_access_key_id":"a",
            "aws_secret_access_key":"b","region":"x"},"source":{"bucket":"d","type":"s3"},"path":"/"}"#;
        let r: DataReference = serde_json::from_str(text).unwrap();
        assert_eq!((r.bucket(), r.connection.access_key_id.as_str()), ("d", "a"));
        assert_eq!(r.connection.secret_access_key.expose(), "b");
    }
}
