//! Errors of requests, as answers in the original's shape.

use axum::{
    Json,
    extract::rejection::{PathRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use trainyard_api::{Code, ErrorBody, Problem, Uuid};
use trainyard_store as store;

/// Where the server has the pages of error codes, below its own URL.
pub(crate) const PAGES: &str = "/docs/errors";

/// One or more problems with a request.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) problems: Vec<Problem>,
    /// Seconds after which another try may go better.
    retry_after: Option<u64>,
}

/// What handlers return.
pub(crate) type Answer<T> = Result<T, Refusal>;

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        vec![problem].into()
    }
}

impl From<Vec<Problem>> for Refusal {
    fn from(problems: Vec<Problem>) -> Self {
        Self { problems, retry_after: None }
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(Code::Request, format!("the query is not what is expected: {}", rejection.body_text()))
    }
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::new(Code::Request, format!("the path is not what is expected: {}", rejection.body_text()))
    }
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Problem::new(code, message).into()
    }

    /// The same, and when to try again.
    pub(crate) fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
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

    fn status(&self) -> StatusCode {
        let status = self.problems.first().map_or(500, |p| p.code.http_status());
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
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
    /// Without a body: [`write`] has it from the extensions, and knows where the pages are.
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Writes the body of an answer that is a refusal; `url` is the server's.
pub(crate) fn write(mut response: Response, url: &str) -> Response {
    let Some(refusal) = response.extensions_mut().remove::<Refusal>() else { return response };
    let trace = Uuid::new_v4().simple().to_string();
    let body = ErrorBody::new(trace, &refusal.problems, &format!("{url}{PAGES}"));
    let mut response = (refusal.status(), Json(body)).into_response();
    let headers = response.headers_mut();
    if refusal.status() == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"trainyard\""));
    }
    if let Some(seconds) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
