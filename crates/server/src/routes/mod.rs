//! The routes: those of the v3 API, those of runners, health and documentation.

mod api_page;
mod board;
mod definitions;
mod docs;
mod documented;
mod elsewhere;
mod files;
mod health;
mod identity;
mod instance;
mod models;
mod monitor;
mod owned;
mod paging;
mod published;
mod results;
mod runner;
mod runs;
mod sent;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode},
    middleware::{Next, from_fn, map_response},
    response::Response,
    routing::{get, post},
};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use trainyard_api::{Code, runner::SERVER_HEADER};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    problem::{self, Refusal},
    state::App,
};

/// JSON bodies at most; files have limits of their own.
const BODY: usize = 2 << 20;

/// Tells long answers, such as monitors, that the server stops.
#[derive(Clone)]
pub(crate) struct Stops(pub(crate) watch::Receiver<bool>);

/// The routes that are for everybody, each registered together with its part of the document. Outside of
/// it are what [`elsewhere`] refuses, the document and its pages themselves, and what runners ask.
fn public() -> OpenApiRouter<App> {
    OpenApiRouter::with_openapi(documented::Document::openapi())
        .routes(routes!(identity::sign_in, identity::renew, identity::sign_out))
        .routes(routes!(identity::sign_in_v2))
        .routes(routes!(runs::submit, runs::list))
        .routes(routes!(instance::frameworks))
        .routes(routes!(runs::show, runs::change, runs::delete))
        .routes(routes!(monitor::monitor))
        .routes(routes!(results::list))
        .routes(routes!(models::store))
        .routes(routes!(definitions::create, definitions::list))
        .routes(routes!(definitions::show, definitions::create_version, definitions::delete))
        .routes(routes!(definitions::get_content))
        .routes(routes!(definitions::versions))
        .routes(routes!(definitions::show_version))
        .routes(routes!(definitions::put_content, definitions::get_version_content))
        .routes(routes!(models::create, models::list))
        .routes(routes!(models::show, models::create_version, models::delete))
        .routes(routes!(models::content))
        .routes(routes!(models::versions))
        .routes(routes!(models::show_version))
        .routes(routes!(models::put_content, models::version_content))
        .routes(routes!(instance::show))
        .routes(routes!(published::list))
        .routes(routes!(published::show))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}

/// The OpenAPI document.
fn document() -> utoipa::openapi::OpenApi {
    let mut document = public().into_openapi();
    elsewhere::document(&mut document);
    documented::secure(&mut document);
    document
}

/// The OpenAPI document as JSON, for people to read and compare.
pub fn openapi_json() -> String {
    let mut text = document().to_pretty_json().expect("a document of strings can be written as JSON");
    text.push('\n');
    text
}

/// What runners ask: a protocol of one release with itself, and no part of the document.
fn for_runners() -> Router<App> {
    let routes = Router::new()
        .route("/claim", post(runner::claim))
        .route("/events", post(runner::events))
        .route("/news", get(runner::news))
        .route("/team", get(runner::team))
        .route("/log", get(runner::earlier_log).post(runner::log))
        .route("/metrics", post(runner::metrics))
        .route("/definition", get(runner::definition));
    Router::new()
        .nest("/runner/v1/runs/{run}/attempts/{attempt}", routes)
        .route("/runner/v1/runs/{run}/jobs/{job}/board", post(board::board))
        .route("/runner/v1/programs/{name}", get(sent::program))
        .route("/runner/v1/trials/{name}", get(sent::show_trial).post(sent::tell_trial))
}

pub(crate) fn router(app: App, id: &str, stops: watch::Receiver<bool>) -> Router {
    // What is not a header value cannot be: an id is hexadecimal.
    let id = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""));
    let url = app.url.clone();
    let (public, _) = public().split_for_parts();
    public
        .merge(elsewhere::routes())
        .merge(for_runners())
        .route("/openapi.json", get(docs::openapi))
        .route("/docs", get(docs::page))
        .route("/docs/errors/{code}", get(docs::error))
        .method_not_allowed_fallback(|| async {
            Refusal::new(Code::Method, "this route does not take this method")
        })
        .fallback(|| async { Refusal::new(Code::NotFound, "there is no such route") })
        .layer(axum::Extension(Stops(stops)))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn(log_requests))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            axum::response::IntoResponse::into_response(Refusal::internal("a handler panicked"))
        }))
        .layer(map_response(move |response: Response| {
            let mut response = problem::write(response, &url);
            response.headers_mut().insert(SERVER_HEADER, id.clone());
            std::future::ready(response)
        }))
        .with_state(app)
}

/// One line per request that went wrong on our side; the rest only when asked for.
async fn log_requests(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = std::time::Instant::now();
    let response = next.run(request).await;
    let (status, elapsed_us) = (response.status(), begun.elapsed().as_micros());
    // A busy server says so to whoever asks, and need not write it down each time.
    if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
        tracing::error!(%method, path, status = status.as_u16(), elapsed_us, "request failed");
    } else {
        tracing::debug!(%method, path, status = status.as_u16(), elapsed_us, "request");
    }
    response
}
