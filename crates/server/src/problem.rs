//! Errors of requests, as answers in the original's shape.

use axum::{
    Json,
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::de::DeserializeOwned;
use trainyard_api::{Code, ErrorBody, Problem, Uuid};
use trainyard_store as store;

/// Where the pages of error codes are.
const DOCS: &str = "https://trainyard.dev/docs/errors";

/// One or more problems with a request.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Vec<Problem>);

/// What handlers return.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Problem::new(code, message).into()
    }

    /// Nothing of that id belongs to the caller. The same words whether it exists or not.
    pub(crate) fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(Code::NotFound, format!("there is no {what} `{id}`"))
    }

    /// A defect: logged with its cause, which the answer does not tell.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Self {
        let trace = Uuid::new_v4();
        tracing::error!(%cause, %trace, "internal error");
        Self::new(Code::Internal, format!("an internal error, in the server's log under {trace}"))
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NotFound => Self::new(Code::NotFound, "not found"),
            store::Error::Database(e) if matches!(e, store::DatabaseError::Disk(_)) => {
                tracing::error!(error = %e, "the data folder cannot be written");
                Self::new(
                    Code::ServerStorage,
                    "the server cannot write its data folder: its disk may be full",
                )
            }
            other => Self::internal(other),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.0.first().map_or(500, |p| p.code.http_status());
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = ErrorBody::new(Uuid::new_v4().simple().to_string(), &self.0, DOCS);
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Bearer realm=\"trainyard\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// A JSON body whose faults are answered in our shape, whatever content type it claims.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = axum::body::Bytes::from_request(request, state).await.map_err(|e| match e.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Refusal::new(Code::TooLarge, "the body is larger than 2 MiB"),
            _ => Refusal::new(Code::Request, format!("the body cannot be read: {e}")),
        })?;
        let value = serde_json::from_slice(&bytes);
        value
            .map(Self)
            .map_err(|e| Refusal::new(Code::Request, format!("the body is not what is expected: {e}")))
    }
}
