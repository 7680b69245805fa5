//! The routes: those of the v3 API, those of runners, and health.

mod definitions;
mod health;
mod instance;
mod models;
mod monitor;
mod owned;
mod paging;
mod runner;
mod runs;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    http::{HeaderValue, StatusCode},
    middleware::{Next, from_fn, map_response},
    response::Response,
    routing::{get, post, put},
};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use trainyard_api::{Code, runner::SERVER_HEADER};

use crate::{problem::Refusal, state::App};

/// JSON bodies at most; zips have a limit of their own.
const BODY: usize = 2 << 20;

/// Tells long answers, such as monitors, that the server stops.
#[derive(Clone)]
pub(crate) struct Stops(pub(crate) watch::Receiver<bool>);

pub(crate) fn router(app: App, id: &str, stops: watch::Receiver<bool>) -> Router {
    // What is not a header value cannot be: an id is hexadecimal.
    let id = HeaderValue::from_str(id).unwrap_or(HeaderValue::from_static(""));
    let definitions = "/v3/ml_assets/training_definitions";
    Router::new()
        .route("/v3/models", post(runs::submit).get(runs::list))
        .route("/v3/models/frameworks", get(instance::frameworks))
        .route("/v3/models/{run}", get(runs::show).patch(runs::change).delete(runs::delete))
        .route("/v3/models/{run}/monitor", get(monitor::monitor))
        .route("/v3/models/{run}/ml_asset", put(models::store))
        .route(definitions, post(definitions::create).get(definitions::list))
        .route(&format!("{definitions}/{{id}}"), get(definitions::show).delete(definitions::delete))
        .route(
            &format!("{definitions}/{{id}}/versions/{{version}}/content"),
            put(definitions::put_content).get(definitions::get_content),
        )
        .route("/v3/ml_assets/models", get(models::list))
        .route("/v3/ml_assets/models/{id}", get(models::show).delete(models::delete))
        .route("/v3/ml_assets/models/{id}/content", get(models::content))
        .route("/v3/wml_instances/{id}", get(instance::show))
        .route("/runner/v1/runs/{run}/attempts/{attempt}/claim", post(runner::claim))
        .route("/runner/v1/runs/{run}/attempts/{attempt}/events", post(runner::events))
        .route("/runner/v1/runs/{run}/attempts/{attempt}/log", post(runner::log))
        .route("/runner/v1/runs/{run}/attempts/{attempt}/definition", get(runner::definition))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .method_not_allowed_fallback(|| async {
            Refusal(vec![trainyard_api::Problem::new(Code::Request, "this route does not take this method")])
        })
        .fallback(|| async { Refusal::new(Code::NotFound, "there is no such route") })
        .layer(axum::Extension(Stops(stops)))
        .layer(DefaultBodyLimit::max(BODY))
        .layer(from_fn(log_requests))
        .layer(map_response(move |mut response: Response| {
            response.headers_mut().insert(SERVER_HEADER, id.clone());
            std::future::ready(response)
        }))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            axum::response::IntoResponse::into_response(Refusal::internal("a handler panicked"))
        }))
        .with_state(app)
}

/// One line per request that went wrong on our side; the rest only when asked for.
async fn log_requests(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let begun = std::time::Instant::now();
    let response = next.run(request).await;
    let (status, elapsed_us) = (response.status(), begun.elapsed().as_micros());
    if status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED {
        tracing::error!(%method, path, status = status.as_u16(), elapsed_us, "request failed");
    } else {
        tracing::debug!(%method, path, status = status.as_u16(), elapsed_us, "request");
    }
    response
}
