//! Identifiers: runs, and the UUIDs of everything else.

use std::{fmt, str::FromStr};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};
pub use uuid::Uuid;

/// Letters of the random part of a run's id. The original also allowed `_` and `-`; they are
/// accepted but not made, because `_` marks the children of an experiment and a leading `-`
/// reads as an option.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const PREFIX: &str = "training-";
const RANDOM: usize = 9;

/// A run's id: `training-` and nine characters of `[0-9A-Za-z_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(String);

/// The text is not a run id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a run id: `training-` and nine letters, digits, `-` or `_` are expected")]
pub struct InvalidRunId(pub String);

impl RunId {
    /// A fresh id; 62^9 values, so the store still checks that it is new.
    pub fn random() -> Self {
        Self(format!("{PREFIX}{}", random_text(RANDOM)))
    }

    /// The whole id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A random secret of 256 bits and more behind `prefix`, in letters and digits.
pub fn random_token(prefix: &str) -> String {
    format!("{prefix}{}", random_text(44))
}

fn random_text(length: usize) -> String {
    let rng = SystemRandom::new();
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0u8; 64];
        rng.fill(&mut bytes).expect("the system's random numbers are always there on Linux");
        // Values past 248 = 4 * 62 would make the first letters likelier.
        text.extend(
            bytes
                .iter()
                .filter(|b| **b < 248)
                .map(|b| char::from(ALPHABET[usize::from(b % 62)]))
                .take(length - text.len()),
        );
    }
    text
}

impl FromStr for RunId {
    type Err = InvalidRunId;

    fn from_str(text: &str) -> Result<Self, InvalidRunId> {
        let tail = text.strip_prefix(PREFIX).unwrap_or("");
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if tail.len() == RANDOM && tail.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRunId(text.to_owned()))
        }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

impl PartialSchema for RunId {
    fn schema() -> RefOr<Schema> {
        let text =
            ObjectBuilder::new().schema_type(Type::String).pattern(Some("^training-[0-9A-Za-z_-]{9}$"));
        text.examples([serde_json::json!("training-R8BaEnmgX")]).build().into()
    }
}

impl ToSchema for RunId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_have_the_original_form() {
        for _ in 0..200 {
            let id = RunId::random();
            assert_eq!(id.as_str().parse::<RunId>().unwrap(), id);
            assert_eq!(id.as_str().len(), 18);
        }
        assert_ne!(RunId::random(), RunId::random());
    }

    #[test]
    fn refuses_what_could_leave_a_folder() {
        for bad in [
            "",
            "training-",
            "training-../../abc",
            "training-12345678",
            "training-1234567890",
            "model-123456789",
        ] {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
        assert!("training--R8BaEnmg".parse::<RunId>().is_ok());
    }
}
