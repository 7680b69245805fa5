//! Published models: stored models, as the original showed them to readers.

use axum::{Json, extract::State};
use trainyard_api::{
    Metadata, Page, PublishedDeployments, PublishedEntity, PublishedModel, PublishedVersion,
};
use trainyard_store::ModelRecord;

use super::{documented::Refused, owned, paging::Paging};
use crate::{
    auth::User,
    extract::{Path, Query},
    problem::Answer,
    state::App,
};

/// List published models, newest first.
#[utoipa::path(
    get, path = "/v3/wml_instances/{id}/published_models", tag = "models",
    params(("id" = String, Path, description = "Any"), Paging),
    responses((status = 200, description = "A page", body = Page<PublishedModel>), Refused),
)]
pub(crate) async fn list(
    State(app): State<App>,
    User(caller): User,
    Path(instance): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<Page<PublishedModel>>> {
    let url = app.instance_url(&instance);
    let records = app.store.models(&caller.owner, paging.before()?, paging.limit()? + 1).await?;
    let entries = records.into_iter().map(|r| (r.number, published(&app, &url, r))).collect();
    Ok(Json(paging.page(&format!("{url}/published_models"), "", entries)?))
}

/// Show a published model.
#[utoipa::path(
    get, path = "/v3/wml_instances/{id}/published_models/{model}", tag = "models",
    params(
        ("id" = String, Path, description = "Any"),
        ("model" = String, Path, description = "Id of the model"),
    ),
    responses((status = 200, description = "The model", body = PublishedModel), Refused),
)]
pub(crate) async fn show(
    State(app): State<App>,
    User(caller): User,
    Path((instance, model)): Path<(String, String)>,
) -> Answer<Json<PublishedModel>> {
    let record = owned::find(&caller, &model, |id| app.store.model(id))?;
    Ok(Json(published(&app, &app.instance_url(&instance), record)))
}

fn published(app: &App, instance: &str, record: ModelRecord) -> PublishedModel {
    let url = format!("{instance}/published_models/{}", record.id);
    let framework = &record.body.framework;
    let runtime = framework.runtimes.first();
    PublishedModel {
        entity: PublishedEntity {
            model_type: format!("{}-{}", framework.name, framework.version),
            runtime_environment: runtime
                .map_or_else(|| "python-3".to_owned(), |r| format!("{}-{}", r.name, r.version)),
            latest_version: PublishedVersion {
                url: format!("{}/v3/ml_assets/models/{}/versions/{}", app.url, record.id, record.version),
                guid: record.version,
                created_at: record.version_created_at,
            },
            deployments: PublishedDeployments { count: 0, url: format!("{url}/deployments") },
            name: record.body.name,
            description: record.body.description,
            author: record.body.author,
        },
        metadata: Metadata {
            guid: record.id,
            url,
            created_at: record.created_at,
            modified_at: record.modified_at,
        },
    }
}
