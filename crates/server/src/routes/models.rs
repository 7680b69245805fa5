//! Stored models: copied out of a run's results, kept by the server, fetched as tar.gz.

use axum::{
    Json,
    extract::{Path, Query, State},
    http::StatusCode,
    response::Response,
};
use trainyard_api::{Code, NewModelAsset, Page, StoredAsset, StoredModel, Time, Uuid};
use trainyard_store::{Caller, ModelRecord, Record};
use trainyard_transfer::Bucket;

use super::{definitions::file_answer, owned, paging::Paging, runs};
use crate::{
    archive,
    auth::User,
    problem::{Answer, Body, Refusal},
    render,
    state::App,
};

/// `PUT /v3/models/{run}/ml_asset`: begins to copy; the model's `content_status` tells how far it is.
pub(crate) async fn store(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
    Body(asked): Body<NewModelAsset>,
) -> Answer<(StatusCode, Json<StoredAsset>)> {
    let run = runs::find(&app, &caller, &id)?;
    if !run.run.is_ended() {
        return Err(Refusal::new(Code::Conflict, format!("{id} has not ended: there is no whole model yet")));
    }
    let name = asked.name.filter(|n| !n.trim().is_empty()).unwrap_or_else(|| format!("{id} model"));
    let framework = run.spec.new_run.model_definition.framework.clone();
    let model =
        app.store.add_model(&caller.owner, &run.id, name, asked.description, framework, Time::now()).await?;
    let answer = StoredAsset::new(model.id, format!("{}/v3/ml_assets/models/{}", app.url, model.id));
    let app = app.clone();
    tokio::spawn(async move { copy(&app, &run, model.id).await });
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

async fn copy(app: &App, run: &Record, model: Uuid) {
    let results = &run.spec.new_run.training_results_reference;
    let packed = async {
        let bucket = Bucket::new(&app.http, &results.connection, results.bucket())?;
        let (target, tmp) = (app.folder.model(model), app.folder.tmp());
        archive::pack(&bucket, &format!("{}/model/", run.id), &target, &tmp).await
    };
    let result = packed.await.map_err(|e| e.to_string());
    if let Err(why) = &result {
        tracing::warn!(run = %run.id, %model, why, "a model could not be stored");
    }
    if let Err(error) = app.store.finish_model(model, result, Time::now()).await {
        tracing::error!(%error, %model, "a stored model cannot be noted");
    }
}

fn find(app: &App, caller: &Caller, id: &str) -> Answer<ModelRecord> {
    owned::find(caller, id, |id| app.store.model(id))
}

/// `GET /v3/ml_assets/models`.
pub(crate) async fn list(
    State(app): State<App>,
    User(caller): User,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<StoredModel>>> {
    let records = app.store.models(&caller.owner, paging.before()?, paging.limit()? + 1).await?;
    let entries = records.into_iter().map(|r| (r.number, render::model(&app, r))).collect();
    Ok(Json(paging.page(&format!("{}/v3/ml_assets/models", app.url), "", entries)?))
}

/// `GET /v3/ml_assets/models/{id}`.
pub(crate) async fn show(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<StoredModel>> {
    let record = find(&app, &caller, &id)?;
    Ok(Json(render::model(&app, record)))
}

/// `GET /v3/ml_assets/models/{id}/content`: a tar.gz.
pub(crate) async fn content(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Response> {
    let record = find(&app, &caller, &id)?;
    match record.state.as_str() {
        "persisted" => file_answer(&app.folder.model(record.id), "application/gzip").await,
        "persisting" => Err(Refusal::new(Code::Conflict, "the model is still being copied")),
        _ => {
            let why = record.message.unwrap_or_default();
            Err(Refusal::new(Code::Conflict, format!("the model could not be copied: {why}")))
        }
    }
}

/// `DELETE /v3/ml_assets/models/{id}`.
pub(crate) async fn delete(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let record = find(&app, &caller, &id)?;
    app.store.remove_model(record.id).await?;
    if let Err(error) = tokio::fs::remove_file(app.folder.model(record.id)).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, model = %record.id, "the archive cannot be removed");
    }
    Ok(StatusCode::NO_CONTENT)
}
