//! Whether the server lives, and whether it can take work.

use axum::{Json, extract::State};
use serde::Serialize;
use trainyard_api::Code;
use utoipa::ToSchema;

use crate::{
    problem::{Answer, Refusal},
    state::App,
};

/// Whether the process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
)]
pub(crate) async fn healthz() -> &'static str {
    "OK"
}

/// Bytes that have to be free for work to be taken: less, and soon not even an event can be kept.
const LEAST_FREE: u64 = 4 << 20;

/// What [`readyz`] answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready`.
    status: &'static str,
}

/// Whether the server can read its database, and has room for what happens next.
#[utoipa::path(
    get, path = "/readyz", tag = "health", security(()),
    responses(
        (status = 200, description = "It can take work", body = Ready),
        (status = 507, description = "It cannot", body = trainyard_api::ErrorBody),
    ),
)]
pub(crate) async fn readyz(State(app): State<App>) -> Answer<Json<Ready>> {
    if let Err(error) = app.store.is_readable() {
        tracing::error!(%error, "not ready");
        return Err(Refusal::new(Code::ServerStorage, "the database cannot be read"));
    }
    match nix::sys::statvfs::statvfs(&app.config.data) {
        Ok(disk) if disk.blocks_available() * disk.fragment_size() < LEAST_FREE => {
            Err(Refusal::new(Code::ServerStorage, "the disk of the data folder is full"))
        }
        _ => Ok(Json(Ready { status: "ready" })),
    }
}
