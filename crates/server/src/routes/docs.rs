//! What the server says of itself: the OpenAPI document, a page to read it, a page per error code.

use std::sync::LazyLock;

use axum::{
    body::Bytes,
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use trainyard_api::Code;

use crate::{
    extract::Path,
    problem::{Answer, Refusal},
};

/// The document, written once.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| super::openapi_json().into());
/// The page.
static PAGE: LazyLock<Bytes> = LazyLock::new(|| {
    let document = serde_json::from_slice(&DOCUMENT).unwrap_or_default();
    super::api_page::page(&document).into()
});

fn text(kind: &'static str, body: Bytes) -> Response {
    let headers: [(HeaderName, &str); 2] = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; style-src 'unsafe-inline'"),
    ];
    (headers, body).into_response()
}

/// `GET /openapi.json`.
pub(crate) async fn openapi() -> Response {
    text("application/json", DOCUMENT.clone())
}

/// `GET /docs`.
pub(crate) async fn page() -> Response {
    text("text/html; charset=utf-8", PAGE.clone())
}

/// `GET /docs/errors/{code}`: where `more_info` of every error leads.
pub(crate) async fn error(Path(code): Path<String>) -> Answer<Response> {
    let known = Code::parse(code.trim_end_matches(".md"));
    let page = known.and_then(|c| pages::of(c.as_str()));
    let page = page.ok_or_else(|| Refusal::not_found("error code", &code))?;
    Ok(text("text/markdown; charset=utf-8", Bytes::from_static(page.as_bytes())))
}

mod pages {
    //! The pages of `docs/errors`, taken into the program when it is built.
    include!(concat!(env!("OUT_DIR"), "/error_pages.rs"));
}
