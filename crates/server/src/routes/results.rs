//! Results of a run, as links: whoever may see the run fetches them from the bucket without its keys.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Deserialize;
use trainyard_api::{ResultObject, Results};
use trainyard_transfer::Bucket;
use utoipa::IntoParams;

use super::{
    documented::{Asks, Refused},
    runs,
};
use crate::{
    auth::User,
    extract::{Path, Query},
    problem::{Answer, Refusal},
    state::App,
};

/// How long a link is good.
const VALID: Duration = Duration::from_hours(12);

/// Query of [`list`].
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Only names that begin with this, such as `model/`.
    #[serde(default)]
    prefix: String,
    /// Only names behind this one: `next` of the page before.
    after: Option<String>,
}

/// List the results of a run, with a link to each that is good for twelve hours. Trainyard's own.
#[utoipa::path(
    get, path = "/v3/models/{run}/results", tag = "training runs",
    params(("run" = String, Path, description = "Id of the run"), Wanted),
    responses((status = 200, description = "A page, in order of names", body = Results), Refused, Asks),
)]
pub(crate) async fn list(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Answer<Json<Results>> {
    let record = runs::find(&app, &caller, &id)?;
    let results = &record.spec.new_run.training_results_reference;
    let failed = |e: trainyard_transfer::Error| Refusal::from(e.problem());
    let bucket = Bucket::new(&app.http, &results.connection, results.bucket()).map_err(failed)?;
    let base = format!("{id}/");
    let after = wanted.after.map(|name| format!("{base}{name}"));
    let (objects, more) =
        bucket.page(&format!("{base}{}", wanted.prefix), after.as_deref()).await.map_err(failed)?;
    let last = objects.last().filter(|_| more).map(|o| o.key[base.len()..].to_owned());
    // A store may call an object anything: a link to what leaves the run's folder is given to nobody.
    let is_inside = |name: &str| !name.split('/').any(|part| matches!(part, "." | ".."));
    let resources: Vec<ResultObject> = objects
        .into_iter()
        .filter(|object| is_inside(&object.key[base.len()..]))
        .map(|object| {
            let links = bucket.links(&object.key, VALID);
            ResultObject {
                name: object.key[base.len()..].to_owned(),
                size: object.size,
                etag: object.etag,
                url: links.get.into(),
                head_url: links.head.into(),
            }
        })
        .collect();
    Ok(Json(Results { bucket: bucket.name().to_owned(), folder: id, next: last, resources }))
}
