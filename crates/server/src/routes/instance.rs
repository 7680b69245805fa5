//! The instance, as the original described one, and the frameworks that it runs.

use axum::{
    Json,
    extract::{Path, State},
};
use serde_json::{Value, json};

use crate::{auth::User, problem::Answer, state::App};

/// `GET /v3/wml_instances/{id}`: any id names this server.
pub(crate) async fn show(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<Value>> {
    let url = format!("{}/v3/wml_instances/{id}", app.url);
    let gpus = app.conductor.queue(|q| q.capacity().gpus.len());
    Ok(Json(json!({
        "metadata": { "guid": id, "url": url },
        "entity": {
            "source": "trainyard",
            "published_models": { "url": format!("{url}/published_models") },
            "deployments": { "url": format!("{url}/deployments") },
            "usage": { "gpu_count": { "limit": gpus } },
            "plan": "own machines",
            "status": "Active",
            "region": "local",
            "account": { "name": caller.owner },
            "owner": { "user_id": caller.owner, "admin": caller.admin },
            "version": env!("CARGO_PKG_VERSION"),
        },
    })))
}

/// `GET /v3/models/frameworks`.
pub(crate) async fn frameworks(State(app): State<App>, _: User) -> Answer<Json<Value>> {
    let pythons: Vec<&str> = app.pythons().await.iter().map(|p| p.version.as_str()).collect();
    let entry = |e: &trainyard_environment::Entry| json!({ "name": e.name, "version": e.version, "runtimes": e.python, "packages": e.packages });
    let compute = |(name, d): (&str, trainyard_api::runner::Demand)| {
        let refusal = app.conductor.queue(|q| q.capacity().refusal(&d));
        json!({ "name": name, "cpus": d.cpus, "memory": d.memory, "gpus": d.gpus, "unavailable": refusal })
    };
    Ok(Json(json!({
        "resources": app.catalogue.entries.iter().map(entry).collect::<Vec<_>>(),
        "compute_configurations": app.computes.iter().map(compute).collect::<Vec<_>>(),
        "pythons": pythons,
    })))
}
