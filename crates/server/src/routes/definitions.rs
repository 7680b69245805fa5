//! Training definitions: made, given their zip, in versions, listed, removed.

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use trainyard_api::{
    Code, ContentStatus, Definition, DefinitionVersion, NewDefinition, Page, Time, Uuid, runner::Package,
};
use trainyard_definition as definition;
use trainyard_store::{Caller, DefinitionRecord};
use utoipa::ToSchema;

use super::{
    documented::{Bounded, Conflicts, File, Refused},
    files::file_answer,
    owned,
    paging::Paging,
};
use crate::{
    auth::User,
    extract::{Body, MaybeBody, Path, Query},
    problem::{Answer, Refusal},
    render,
    state::App,
    uploads::{Upload, disk, receive},
    zips,
};

/// Make a definition, without its zip.
#[utoipa::path(
    post, path = "/v3/ml_assets/training_definitions", tag = "training definitions",
    request_body = NewDefinition,
    responses(
        (status = 201, description = "Made; its zip is put to `content_url`", body = Definition),
        Refused, Bounded,
    ),
)]
pub(crate) async fn create(
    State(app): State<App>,
    User(caller): User,
    Body(new): Body<NewDefinition>,
) -> Answer<(StatusCode, Json<Definition>)> {
    let record = app.store.add_definition(&caller.owner, checked(new)?, Time::now()).await?;
    Ok((StatusCode::CREATED, Json(render::definition(&app, record))))
}

fn checked(mut new: NewDefinition) -> Answer<NewDefinition> {
    // Kept as it came, for old clients; a run brings its own keys, so none are kept here.
    if let Some(reference) = &mut new.training_data_reference {
        blank_secrets(reference);
    }
    if new.name.trim().is_empty() || new.framework.name.trim().is_empty() {
        return Err(Refusal::new(Code::Request, "`name` and `framework.name` have to be there"));
    }
    Ok(new)
}

/// List definitions, newest first.
#[utoipa::path(
    get, path = "/v3/ml_assets/training_definitions", tag = "training definitions", params(Paging),
    responses((status = 200, description = "A page", body = Page<Definition>), Refused),
)]
pub(crate) async fn list(
    State(app): State<App>,
    User(caller): User,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<Definition>>> {
    let records = app.store.definitions(&caller.owner, paging.before()?, paging.limit()? + 1).await?;
    let entries = records.into_iter().map(|r| (r.number, render::definition(&app, r))).collect();
    Ok(Json(paging.page(&format!("{}/v3/ml_assets/training_definitions", app.url), "", entries)?))
}

/// The definition, if it is the caller's.
pub(crate) fn find(app: &App, caller: &Caller, id: &str) -> Answer<DefinitionRecord> {
    owned::find(caller, id, |id| app.store.definition(id))
}

/// A version of a definition, if it is the caller's.
fn find_version(app: &App, caller: &Caller, id: &str, version: &str) -> Answer<DefinitionRecord> {
    let definition = find(app, caller, id)?;
    let missing = || Refusal::not_found("version", version);
    let version: Uuid = version.parse().map_err(|_| missing())?;
    match app.store.definition_version(version) {
        Ok(record) if record.id == definition.id => Ok(record),
        Ok(_) | Err(trainyard_store::Error::NotFound) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// What a run's `definition_href` names: a definition, or one version of it.
pub(crate) fn find_by_href(app: &App, caller: &Caller, href: &str) -> Answer<DefinitionRecord> {
    let path = href.split(['?', '#']).next().unwrap_or("");
    let mut parts = path.split('/').skip_while(|p| *p != "training_definitions").skip(1);
    match (parts.next().unwrap_or(""), parts.next(), parts.next()) {
        (id, Some("versions"), Some(version)) => find_version(app, caller, id, version),
        (id, ..) => find(app, caller, id),
    }
}

/// Show a definition, with its newest version.
#[utoipa::path(
    get, path = "/v3/ml_assets/training_definitions/{id}", tag = "training definitions",
    params(("id" = String, Path, description = "Id of the definition")),
    responses((status = 200, description = "The definition", body = Definition), Refused),
)]
pub(crate) async fn show(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<Definition>> {
    Ok(Json(render::definition(&app, find(&app, &caller, &id)?)))
}

/// Make a new version, without its zip. A body says what the definition is from now on.
#[utoipa::path(
    post, path = "/v3/ml_assets/training_definitions/{id}", tag = "training definitions",
    params(("id" = String, Path, description = "Id of the definition")),
    request_body = Option<NewDefinition>,
    responses(
        (status = 201, description = "Made; its zip is put to `content_url`", body = Definition),
        Refused, Bounded,
    ),
)]
pub(crate) async fn create_version(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
    MaybeBody(new): MaybeBody<NewDefinition>,
) -> Answer<(StatusCode, Json<Definition>)> {
    let record = find(&app, &caller, &id)?;
    let body = new.map_or_else(|| Ok(record.body.clone()), checked)?;
    let record = app.store.add_definition_version(record.id, body, Time::now()).await?;
    Ok((StatusCode::CREATED, Json(render::definition(&app, record))))
}

/// Remove a definition and its versions. Runs that use a zip of it keep it.
#[utoipa::path(
    delete, path = "/v3/ml_assets/training_definitions/{id}", tag = "training definitions",
    params(("id" = String, Path, description = "Id of the definition")),
    responses((status = 204, description = "Removed"), Refused),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let record = find(&app, &caller, &id)?;
    let versions = app.store.definition_versions(record.id).await?;
    app.store.remove_definition(record.id).await?;
    for content in versions.into_iter().filter_map(|v| v.content) {
        zips::remove_if_free(&app, &content.sha256).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Versions of a definition.
#[derive(Serialize, ToSchema)]
pub(crate) struct DefinitionVersions {
    /// Newest first.
    resources: Vec<DefinitionVersion>,
}

/// List the versions of a definition, newest first.
#[utoipa::path(
    get, path = "/v3/ml_assets/training_definitions/{id}/versions", tag = "training definitions",
    params(("id" = String, Path, description = "Id of the definition")),
    responses((status = 200, description = "All versions", body = DefinitionVersions), Refused),
)]
pub(crate) async fn versions(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<DefinitionVersions>> {
    let record = find(&app, &caller, &id)?;
    let versions = app.store.definition_versions(record.id).await?;
    let shown = |r| render::definition(&app, r).entity.training_definition_version;
    Ok(Json(DefinitionVersions { resources: versions.into_iter().map(shown).collect() }))
}

/// Show a definition with one of its versions.
#[utoipa::path(
    get, path = "/v3/ml_assets/training_definitions/{id}/versions/{version}", tag = "training definitions",
    params(
        ("id" = String, Path, description = "Id of the definition"),
        ("version" = String, Path, description = "Id of the version"),
    ),
    responses((status = 200, description = "The definition", body = Definition), Refused),
)]
pub(crate) async fn show_version(
    State(app): State<App>,
    User(caller): User,
    Path((id, version)): Path<(String, String)>,
) -> Answer<Json<Definition>> {
    Ok(Json(render::definition(&app, find_version(&app, &caller, &id, &version)?)))
}

/// What a zip came to.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct DefinitionContent {
    content_status: ContentStatus,
    /// SHA-256 of the zip, in hexadecimal.
    sha256: String,
    /// Bytes of the zip.
    size: u64,
    /// Files in it.
    files: u64,
    /// Bytes of them.
    unpacked_size: u64,
}

/// Put the zip of a version: the raw bytes.
#[utoipa::path(
    put, path = "/v3/ml_assets/training_definitions/{id}/versions/{version}/content",
    tag = "training definitions",
    params(
        ("id" = String, Path, description = "Id of the definition"),
        ("version" = String, Path, description = "Id of the version"),
    ),
    request_body(content = File, content_type = "application/octet-stream"),
    responses((status = 200, description = "Kept", body = DefinitionContent), Refused, Bounded),
)]
pub(crate) async fn put_content(
    State(app): State<App>,
    User(caller): User,
    Path((id, version)): Path<(String, String)>,
    request: Request,
) -> Answer<Json<DefinitionContent>> {
    let record = find_version(&app, &caller, &id, &version)?;
    let limits = app.config.definition;
    let too_large = |found| definition::Error::ZipBytes { found, limit: limits.zip_bytes }.problem().into();
    let Upload { file, sha256, size } =
        receive(&app, &caller.owner, request, limits.zip_bytes, too_large).await?;
    let (file, summary) = tokio::task::spawn_blocking(move || {
        let summary = definition::check(file.path(), &limits).map_err(|e| Refusal::from(e.problem()))?;
        file.as_file().sync_all().map_err(disk)?;
        Ok::<_, Refusal>((file, summary))
    })
    .await
    .map_err(Refusal::internal)??;
    let package = Package { sha256, size };
    {
        let _guard = app.definitions.write().await;
        file.persist(app.folder.definition(&package.sha256)).map_err(|e| disk(e.error))?;
        app.store.set_definition_content(record.version, package.clone(), Time::now()).await?;
    }
    if let Some(replaced) = record.content.filter(|c| c.sha256 != package.sha256) {
        zips::remove_if_free(&app, &replaced.sha256).await;
    }
    Ok(Json(DefinitionContent {
        content_status: ContentStatus { state: "persisted".to_owned(), message: None },
        sha256: package.sha256,
        size: package.size,
        files: summary.files,
        unpacked_size: summary.bytes,
    }))
}

/// Fetch the zip of a version.
#[utoipa::path(
    get, path = "/v3/ml_assets/training_definitions/{id}/versions/{version}/content",
    tag = "training definitions",
    params(
        ("id" = String, Path, description = "Id of the definition"),
        ("version" = String, Path, description = "Id of the version"),
    ),
    responses(
        (status = 200, description = "The zip", body = File, content_type = "application/zip"),
        Refused, Conflicts,
    ),
)]
pub(crate) async fn get_version_content(
    State(app): State<App>,
    User(caller): User,
    Path((id, version)): Path<(String, String)>,
) -> Answer<Response> {
    content(&app, find_version(&app, &caller, &id, &version)?).await
}

/// Fetch the zip of the newest version.
#[utoipa::path(
    get, path = "/v3/ml_assets/training_definitions/{id}/content", tag = "training definitions",
    params(("id" = String, Path, description = "Id of the definition")),
    responses(
        (status = 200, description = "The zip", body = File, content_type = "application/zip"),
        Refused, Conflicts,
    ),
)]
pub(crate) async fn get_content(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Response> {
    content(&app, find(&app, &caller, &id)?).await
}

async fn content(app: &App, record: DefinitionRecord) -> Answer<Response> {
    let content = record
        .content
        .ok_or_else(|| Refusal::new(Code::DefinitionContent, "this version has been given no zip yet"))?;
    file_answer(&app.folder.definition(&content.sha256), "application/zip").await
}

/// Takes keys and passwords out of what is kept as it came.
pub(crate) fn blank_secrets(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.to_lowercase();
                if key.contains("secret") || key.contains("password") {
                    *value = Value::from("***");
                }
                blank_secrets(value);
            }
        }
        Value::Array(list) => list.iter_mut().for_each(blank_secrets),
        _ => {}
    }
}
