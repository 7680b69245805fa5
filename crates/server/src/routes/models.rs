//! Stored models: copied out of a run's results or uploaded, kept by the server, fetched again.

use std::time::Duration;

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde::Serialize;
use trainyard_api::{
    Code, ModelVersion, NewModel, NewModelAsset, Page, RunId, StoredAsset, StoredAssetEntity, StoredModel,
    Time, Uuid,
};
use trainyard_store::{Archive, Caller, ModelRecord};
use utoipa::ToSchema;

use super::{
    definitions::blank_secrets,
    documented::{Bounded, Conflicts, File, Refused},
    files::file_answer,
    owned,
    paging::Paging,
    runs,
};
use crate::{
    auth::User,
    extract::{Body, Path, Query},
    keep_models::{self, Source},
    problem::{Answer, Refusal},
    render,
    state::App,
    uploads::{Upload, disk, receive},
};

/// How long a request for the archive waits for a copy that is under way: clients of the original fetch
/// a model as soon as they have stored it.
const COPY_WAIT: Duration = Duration::from_mins(5);
/// Fields of answers that a client may send back, and that mean nothing then.
const OURS: [&str; 4] = ["model_version", "training_run", "size", "ml_asset_url"];

/// Have the server keep the model of a run that is over.
///
/// The answer comes at once; the model's `content_status` tells how far the copy is.
#[utoipa::path(
    put, path = "/v3/models/{run}/ml_asset", tag = "models",
    params(("run" = String, Path, description = "Id of the run")),
    request_body = NewModelAsset,
    responses((status = 202, description = "Being copied", body = StoredAsset), Refused, Conflicts, Bounded),
)]
pub(crate) async fn store(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
    Body(asked): Body<NewModelAsset>,
) -> Answer<(StatusCode, Json<StoredAsset>)> {
    let run = runs::find(&app, &caller, &id)?;
    let source = Source::of_run(&run)?;
    let definition = &run.spec.new_run.model_definition;
    let body = NewModel {
        name: asked.name.filter(|n| !n.trim().is_empty()).unwrap_or_else(|| format!("{id} model")),
        description: asked.description,
        author: definition.author.clone(),
        framework: definition.framework.clone(),
        ..NewModel::default()
    };
    let metadata = render::metadata(&run);
    let model = keep_models::copy(&app, &caller, &body, Some(run.id), source).await?;
    let ml_asset_url = format!("{}/v3/ml_assets/models/{}", app.url, model.id);
    let entity = StoredAssetEntity { ml_asset_guid: model.id, ml_asset_url };
    Ok((StatusCode::ACCEPTED, Json(StoredAsset { metadata, entity })))
}

/// Store a model: with `content_location` the server copies it out of a run's results, without it the
/// client uploads it to `content_url`.
#[utoipa::path(
    post, path = "/v3/ml_assets/models", tag = "models", request_body = NewModel,
    responses(
        (status = 201, description = "Made; its archive is put to `content_url`", body = StoredModel),
        (status = 202, description = "Made, and being copied", body = StoredModel),
        Refused, Conflicts, Bounded,
    ),
)]
pub(crate) async fn create(
    State(app): State<App>,
    User(caller): User,
    Body(mut body): Body<NewModel>,
) -> Answer<(StatusCode, Json<StoredModel>)> {
    if body.name.trim().is_empty() {
        return Err(Refusal::new(Code::Request, "`name` has to be there"));
    }
    let location = body.content_location.take();
    body.other.retain(|key, _| !OURS.contains(&key.as_str()));
    let mut other = serde_json::Value::Object(std::mem::take(&mut body.other));
    blank_secrets(&mut other);
    if let serde_json::Value::Object(other) = other {
        body.other = other;
    }
    let (status, record) = match location {
        None => {
            let archive = Archive::Awaited;
            let made = app.store.add_model(&caller.owner, &body, None, archive, Time::now()).await?;
            (StatusCode::CREATED, made)
        }
        Some(mut location) => {
            // A run of the caller's says itself where its results are, and whether it is over.
            let run: Option<RunId> = location.source.path.trim_matches('/').parse().ok();
            let run = run.map(|id| runs::find(&app, &caller, id.as_str())).transpose()?;
            let source = if let Some(run) = &run {
                Source::of_run(run)?
            } else {
                app.stand_ins.take(&caller, &mut location.connection)?;
                Source::of_location(location)?
            };
            let run = run.map(|run| run.id);
            (StatusCode::ACCEPTED, keep_models::copy(&app, &caller, &body, run, source).await?)
        }
    };
    Ok((status, Json(render::model(&app, record))))
}

fn find(app: &App, caller: &Caller, id: &str) -> Answer<ModelRecord> {
    owned::find(caller, id, |id| app.store.model(id))
}

fn find_version(app: &App, caller: &Caller, id: &str, version: &str) -> Answer<ModelRecord> {
    let model = find(app, caller, id)?;
    let missing = || Refusal::not_found("version", version);
    let version: Uuid = version.parse().map_err(|_| missing())?;
    match app.store.model_version(version) {
        Ok(record) if record.id == model.id => Ok(record),
        Ok(_) | Err(trainyard_store::Error::NotFound) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// List stored models, newest first.
#[utoipa::path(
    get, path = "/v3/ml_assets/models", tag = "models", params(Paging),
    responses((status = 200, description = "A page", body = Page<StoredModel>), Refused),
)]
pub(crate) async fn list(
    State(app): State<App>,
    User(caller): User,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<StoredModel>>> {
    let records = app.store.models(&caller.owner, paging.before()?, paging.limit()? + 1).await?;
    let entries = records.into_iter().map(|r| (r.number, render::model(&app, r))).collect();
    Ok(Json(paging.page(&format!("{}/v3/ml_assets/models", app.url), "", entries)?))
}

/// Show a stored model, with its newest version.
#[utoipa::path(
    get, path = "/v3/ml_assets/models/{id}", tag = "models",
    params(("id" = String, Path, description = "Id of the model")),
    responses((status = 200, description = "The model", body = StoredModel), Refused),
)]
pub(crate) async fn show(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<StoredModel>> {
    Ok(Json(render::model(&app, find(&app, &caller, &id)?)))
}

/// Make a new version of a model, whose archive is put to `content_url`. What a model is does not change: a
/// body is not looked at.
#[utoipa::path(
    post, path = "/v3/ml_assets/models/{id}", tag = "models",
    params(("id" = String, Path, description = "Id of the model")),
    responses(
        (status = 201, description = "Made; its archive is put to `content_url`", body = StoredModel),
        Refused, Bounded,
    ),
)]
pub(crate) async fn create_version(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
    // The original's client sends back what it was answered.
    _: axum::body::Bytes,
) -> Answer<(StatusCode, Json<StoredModel>)> {
    let record = find(&app, &caller, &id)?;
    let record = app.store.add_model_version(record.id, Time::now()).await?;
    Ok((StatusCode::CREATED, Json(render::model(&app, record))))
}

/// Versions of a model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelVersions {
    /// Newest first.
    resources: Vec<ModelVersion>,
}

/// List the versions of a model, newest first.
#[utoipa::path(
    get, path = "/v3/ml_assets/models/{id}/versions", tag = "models",
    params(("id" = String, Path, description = "Id of the model")),
    responses((status = 200, description = "All versions", body = ModelVersions), Refused),
)]
pub(crate) async fn versions(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<ModelVersions>> {
    let record = find(&app, &caller, &id)?;
    let versions = app.store.model_versions(record.id).await?;
    let shown = |r| render::model(&app, r).entity.model_version;
    Ok(Json(ModelVersions { resources: versions.into_iter().map(shown).collect() }))
}

/// Show a model with one of its versions.
#[utoipa::path(
    get, path = "/v3/ml_assets/models/{id}/versions/{version}", tag = "models",
    params(
        ("id" = String, Path, description = "Id of the model"),
        ("version" = String, Path, description = "Id of the version"),
    ),
    responses((status = 200, description = "The model", body = StoredModel), Refused),
)]
pub(crate) async fn show_version(
    State(app): State<App>,
    User(caller): User,
    Path((id, version)): Path<(String, String)>,
) -> Answer<Json<StoredModel>> {
    Ok(Json(render::model(&app, find_version(&app, &caller, &id, &version)?)))
}

/// Put the archive of a version: the raw bytes, usually a tar.gz.
#[utoipa::path(
    put, path = "/v3/ml_assets/models/{id}/versions/{version}/content", tag = "models",
    params(
        ("id" = String, Path, description = "Id of the model"),
        ("version" = String, Path, description = "Id of the version"),
    ),
    request_body(content = File, content_type = "application/octet-stream"),
    responses((status = 200, description = "Kept", body = StoredModel), Refused, Conflicts, Bounded),
)]
pub(crate) async fn put_content(
    State(app): State<App>,
    User(caller): User,
    Path((id, version)): Path<(String, String)>,
    request: Request,
) -> Answer<Json<StoredModel>> {
    let record = find_version(&app, &caller, &id, &version)?;
    if record.archive != Archive::Awaited {
        return Err(has_content());
    }
    let most = app.config.limits.model_bytes;
    let too_large = |_| {
        Refusal::new(Code::TooLarge, format!("the model is larger than {most} bytes, the server's limit"))
    };
    let Upload { file, size, .. } = receive(&app, &caller.owner, request, most, too_large).await?;
    if size == 0 {
        return Err(Refusal::new(Code::Request, "the body is empty"));
    }
    // A file of its own: two uploads may be under way, and one of them is kept.
    let name = Uuid::new_v4();
    let target = app.folder.model(name);
    let kept = tokio::task::spawn_blocking(move || {
        file.as_file().sync_all()?;
        file.persist(target).map(|_| ()).map_err(|e| e.error)
    });
    kept.await.map_err(Refusal::internal)?.map_err(disk)?;
    if let Err(error) = app.store.keep_upload(record.version, name, size, Time::now()).await {
        keep_models::remove(&app, name).await;
        return Err(match error {
            trainyard_store::Error::Exists => has_content(),
            trainyard_store::Error::NotFound => Refusal::not_found("version", version),
            other => other.into(),
        });
    }
    Ok(Json(render::model(&app, find_version(&app, &caller, &id, &version)?)))
}

fn has_content() -> Refusal {
    Refusal::new(Code::Conflict, "this version has its content: make a new version")
}

/// Fetch the archive of the newest version. A copy that is under way is waited for.
#[utoipa::path(
    get, path = "/v3/ml_assets/models/{id}/content", tag = "models",
    params(("id" = String, Path, description = "Id of the model")),
    responses(
        (status = 200, description = "The archive, a tar.gz where it comes from a run", body = File,
         content_type = "application/gzip"),
        Refused, Conflicts,
    ),
)]
pub(crate) async fn content(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Response> {
    let version = find(&app, &caller, &id)?.version;
    archive(&app, version).await
}

/// Fetch the archive of a version.
#[utoipa::path(
    get, path = "/v3/ml_assets/models/{id}/versions/{version}/content", tag = "models",
    params(
        ("id" = String, Path, description = "Id of the model"),
        ("version" = String, Path, description = "Id of the version"),
    ),
    responses(
        (status = 200, description = "The archive, a tar.gz where it comes from a run", body = File,
         content_type = "application/gzip"),
        Refused, Conflicts,
    ),
)]
pub(crate) async fn version_content(
    State(app): State<App>,
    User(caller): User,
    Path((id, version)): Path<(String, String)>,
) -> Answer<Response> {
    let version = find_version(&app, &caller, &id, &version)?.version;
    archive(&app, version).await
}

async fn archive(app: &App, version: Uuid) -> Answer<Response> {
    let conflict = |message: &str| Err(Refusal::new(Code::Conflict, message));
    let record = tokio::time::timeout(COPY_WAIT, keep_models::copied(app, version)).await;
    let Ok(record) = record else { return conflict("the model is still being copied") };
    let record = record?;
    match &record.archive {
        Archive::Kept { .. } => file_answer(&app.folder.model(record.file), "application/gzip").await,
        Archive::Awaited => conflict("the model has been given no content yet: put it to its content_url"),
        Archive::Copying => conflict("the model is still being copied"),
        Archive::Failed { message } => conflict(&format!("the model could not be copied: {message}")),
    }
}

/// Remove a model and its versions.
#[utoipa::path(
    delete, path = "/v3/ml_assets/models/{id}", tag = "models",
    params(("id" = String, Path, description = "Id of the model")),
    responses((status = 204, description = "Removed"), Refused),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let record = find(&app, &caller, &id)?;
    let versions = app.store.model_versions(record.id).await?;
    app.store.remove_model(record.id).await?;
    for version in versions {
        keep_models::remove(&app, version.file).await;
    }
    Ok(StatusCode::NO_CONTENT)
}
