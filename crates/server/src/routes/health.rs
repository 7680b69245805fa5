//! Whether the server lives, and whether it can take work.

use axum::{Json, extract::State};
use serde_json::{Value, json};
use trainyard_api::Code;

use crate::{
    problem::{Answer, Refusal},
    state::App,
};

/// Lives.
pub(crate) async fn healthz() -> &'static str {
    "OK"
}

/// Bytes that have to be free for work to be taken: less, and soon not even an event can be kept.
const LEAST_FREE: u64 = 4 << 20;

/// Can read its database, and has room for what happens next.
pub(crate) async fn readyz(State(app): State<App>) -> Answer<Json<Value>> {
    if let Err(error) = app.store.caller("") {
        tracing::error!(%error, "not ready");
        return Err(Refusal::new(Code::ServerStorage, "the database cannot be read"));
    }
    match nix::sys::statvfs::statvfs(&app.config.data) {
        Ok(disk) if disk.blocks_available() * disk.fragment_size() < LEAST_FREE => {
            Err(Refusal::new(Code::ServerStorage, "the disk of the data folder is full"))
        }
        _ => Ok(Json(json!({ "status": "ready" }))),
    }
}
