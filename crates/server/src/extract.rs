//! Extractors whose faults are answered in our shape.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::StatusCode,
};
use serde::de::DeserializeOwned;
use trainyard_api::Code;

use crate::problem::Refusal;

/// Deepest nesting of a body.
const DEEPEST: usize = 48;
/// Longest wait for a body of somebody unknown.
const TINY_PATIENCE: Duration = Duration::from_secs(10);
/// Longest wait for a small body.
const PATIENCE: Duration = Duration::from_mins(1);

/// Parts of the path.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Path), rejection(Refusal))]
pub(crate) struct Path<T>(pub(crate) T);

/// The query.
#[derive(FromRequestParts)]
#[from_request(via(axum::extract::Query), rejection(Refusal))]
pub(crate) struct Query<T>(pub(crate) T);

/// A JSON body, whatever content type it claims.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        Ok(Self(parse(&bytes(request, state).await?)?))
    }
}

/// A JSON body that may be absent.
pub(crate) struct MaybeBody<T>(pub(crate) Option<T>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for MaybeBody<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = bytes(request, state).await?;
        Ok(Self(if bytes.trim_ascii().is_empty() { None } else { Some(parse(&bytes)?) }))
    }
}

/// Reads a body of `most` bytes at most, of somebody who has not said who they are: soon, or not at all.
pub(crate) async fn tiny(request: Request, most: usize) -> Result<axum::body::Bytes, Refusal> {
    let read = tokio::time::timeout(TINY_PATIENCE, axum::body::to_bytes(request.into_body(), most));
    let read =
        read.await.map_err(|_| Refusal::new(Code::Request, "the body did not come within ten seconds"))?;
    read.map_err(|_| {
        Refusal::new(Code::TooLarge, format!("the body is larger than {most} bytes, or broke off"))
    })
}

/// The whole of a small body.
async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<axum::body::Bytes, Refusal> {
    let read = tokio::time::timeout(PATIENCE, axum::body::Bytes::from_request(request, state));
    let read =
        read.await.map_err(|_| Refusal::new(Code::Request, "the body did not come within a minute"))?;
    read.map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(Code::TooLarge, "the body is larger than 2 MiB"),
        _ => Refusal::new(Code::Request, format!("the body cannot be read: {e}")),
    })
}

/// Parses JSON that is nested as deep as anything here needs to be. What is kept has to be read again from
/// deeper inside of something else.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    if depth(bytes) > DEEPEST {
        let message = format!("the body is not what is expected: it is nested deeper than {DEEPEST} levels");
        return Err(Refusal::new(Code::Request, message));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| Refusal::new(Code::Request, format!("the body is not what is expected: {e}")))
}

/// How deep brackets are nested, of what may be JSON.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_is_too_deep_is_refused_and_brackets_in_text_are_none() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse::<Value>(nested(DEEPEST).as_bytes()).is_ok());
        assert!(parse::<Value>(nested(DEEPEST + 1).as_bytes()).is_err());
        let text = format!("{{\"a\": \"\\\"{}\"}}", "[".repeat(500));
        assert!(parse::<Value>(text.as_bytes()).is_ok(), "{text}");
    }
}
