//! Training definitions: made, given their zip, listed, removed.

use std::io::Write;

use axum::{
    Json,
    body::Body as HttpBody,
    extract::{Path, Query, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use trainyard_api::{Code, Definition, NewDefinition, Page, Time, runner::Package};
use trainyard_definition as definition;
use trainyard_store::{Caller, DefinitionRecord};

use super::{owned, paging::Paging};
use crate::{
    auth::User,
    problem::{Answer, Body, Refusal},
    render,
    state::App,
    zips,
};

/// `POST /v3/ml_assets/training_definitions`.
pub(crate) async fn create(
    State(app): State<App>,
    User(caller): User,
    Body(mut new): Body<NewDefinition>,
) -> Answer<(StatusCode, Json<Definition>)> {
    // Kept as it came, for old clients; a run brings its own keys, so none are kept here.
    if let Some(reference) = &mut new.training_data_reference {
        blank_secrets(reference);
    }
    if new.name.trim().is_empty() || new.framework.name.trim().is_empty() {
        return Err(Refusal::new(Code::Request, "`name` and `framework.name` have to be there"));
    }
    let record = app.store.add_definition(&caller.owner, new, Time::now()).await?;
    Ok((StatusCode::CREATED, Json(render::definition(&app, record))))
}

/// `GET /v3/ml_assets/training_definitions`.
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

/// `GET /v3/ml_assets/training_definitions/{id}`.
pub(crate) async fn show(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<Definition>> {
    let record = find(&app, &caller, &id)?;
    Ok(Json(render::definition(&app, record)))
}

/// `DELETE /v3/ml_assets/training_definitions/{id}`. Runs that use its zip keep it.
pub(crate) async fn delete(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let record = find(&app, &caller, &id)?;
    app.store.remove_definition(record.id).await?;
    if let Some(content) = record.content {
        zips::remove_if_free(&app, &content.sha256).await;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `PUT …/versions/{version}/content`: the zip, streamed to disk, checked, and kept by content.
pub(crate) async fn put_content(
    State(app): State<App>,
    User(caller): User,
    Path((id, version)): Path<(String, String)>,
    request: Request,
) -> Answer<Json<Value>> {
    let record = find(&app, &caller, &id)?;
    if record.version.to_string() != version {
        return Err(Refusal::not_found("version", version));
    }
    let limits = app.config.definition;
    let mut file = tempfile::NamedTempFile::new_in(app.folder.tmp()).map_err(disk)?;
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut body = request.into_body().into_data_stream();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|e| Refusal::new(Code::Request, format!("the body broke off: {e}")))?;
        size += chunk.len() as u64;
        if size > limits.zip_bytes {
            let error = definition::Error::ZipBytes { found: size, limit: limits.zip_bytes };
            return Err(error.problem().into());
        }
        hash.update(&chunk);
        file.write_all(&chunk).map_err(disk)?;
    }
    let (file, summary) = tokio::task::spawn_blocking(move || {
        let summary = definition::check(file.path(), &limits).map_err(|e| Refusal::from(e.problem()))?;
        file.as_file().sync_all().map_err(disk)?;
        Ok::<_, Refusal>((file, summary))
    })
    .await
    .map_err(Refusal::internal)??;
    let package = Package { sha256: hex::encode(hash.finalize()), size };
    {
        let _guard = app.definitions.write().await;
        file.persist(app.folder.definition(&package.sha256)).map_err(|e| disk(e.error))?;
        app.store.set_definition_content(record.id, package.clone(), Time::now()).await?;
    }
    if let Some(replaced) = record.content.filter(|c| c.sha256 != package.sha256) {
        zips::remove_if_free(&app, &replaced.sha256).await;
    }
    Ok(Json(json!({
        "content_status": { "state": "persisted" },
        "sha256": package.sha256,
        "size": package.size,
        "files": summary.files,
        "unpacked_size": summary.bytes,
    })))
}

/// The data folder cannot be written.
#[expect(clippy::needless_pass_by_value, reason = "for use in `map_err`")]
pub(crate) fn disk(error: std::io::Error) -> Refusal {
    tracing::error!(%error, "the data folder cannot be used");
    Refusal::new(Code::ServerStorage, "the server cannot write its data folder: its disk may be full")
}

/// `GET …/versions/{version}/content`.
pub(crate) async fn get_content(
    State(app): State<App>,
    User(caller): User,
    Path((id, version)): Path<(String, String)>,
) -> Answer<Response> {
    let record = find(&app, &caller, &id)?;
    if record.version.to_string() != version {
        return Err(Refusal::not_found("version", version));
    }
    let content = record
        .content
        .ok_or_else(|| Refusal::new(Code::DefinitionContent, "this definition has been given no zip yet"))?;
    file_answer(&app.folder.definition(&content.sha256), "application/zip").await
}

/// A file as an answer, streamed.
pub(crate) async fn file_answer(path: &std::path::Path, kind: &'static str) -> Answer<Response> {
    let file = tokio::fs::File::open(path).await.map_err(|e| match e.kind() {
        // Somebody cleaned up by hand: to ask again and again would not bring it back.
        std::io::ErrorKind::NotFound => Refusal::new(Code::NotFound, "the file is not there any more"),
        _ => Refusal::internal(e),
    })?;
    let size = file.metadata().await.map_err(Refusal::internal)?.len();
    let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024);
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, size.to_string())];
    Ok((headers, HttpBody::from_stream(stream)).into_response())
}

fn blank_secrets(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
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
