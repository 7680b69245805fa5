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

/// Can read its database.
pub(crate) async fn readyz(State(app): State<App>) -> Answer<Json<Value>> {
    match app.store.caller("") {
        Ok(_) => Ok(Json(json!({ "status": "ready" }))),
        Err(error) => {
            tracing::error!(%error, "not ready");
            Err(Refusal::new(Code::ServerStorage, "the database cannot be read"))
        }
    }
}
