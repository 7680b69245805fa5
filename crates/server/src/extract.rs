//! Extractors whose faults are answered in our shape.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::StatusCode,
};
use serde::de::DeserializeOwned;
use trainyard_api::Code;

use crate::problem::Refusal;

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

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|e| Refusal::new(Code::Request, format!("the body is not what is expected: {e}")))
}
