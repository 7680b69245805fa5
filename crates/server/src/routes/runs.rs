//! Training runs: submitted, shown, canceled, removed.

use axum::{
    Json,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
};
use serde::Deserialize;
use serde_json::Value;
use trainyard_api::{
    Code, NewRun, Page, PatchOp, Problem, Run, Time,
    runner::{Demand, EngineName, Package},
};
use trainyard_lifecycle::Event;
use trainyard_store::{Caller, DefinitionRecord, Record, Spec, Which};
use utoipa::IntoParams;

use super::{
    definitions,
    documented::{Asks, Bounded, Refused},
    owned,
    paging::Paging,
};
use crate::{
    access::Role,
    auth::User,
    conductor::stamp,
    extract::{Body, Path, Query},
    problem::{Answer, Refusal},
    render::{self, Detail},
    state::App,
};

/// Submit a training run.
///
/// Everything that can be known now is checked, the buckets and their keys included: a run that cannot
/// work is refused here, and not after an hour in the queue.
#[utoipa::path(
    post, path = "/v3/models", tag = "training runs", request_body = NewRun,
    responses((status = 202, description = "Accepted, and on disk", body = Run), Refused, Bounded, Asks),
)]
pub(crate) async fn submit(
    State(app): State<App>,
    User(caller): User,
    Body(mut new): Body<NewRun>,
) -> Answer<(StatusCode, [(HeaderName, HeaderValue); 1], Json<Run>)> {
    let mut problems = Vec::new();
    let href = new.model_definition.definition_href.clone().unwrap_or_default();
    let definition = definitions::find_by_href(&app, &caller, &href)?;
    for reference in [&mut new.training_data_reference, &mut new.training_results_reference] {
        app.stand_ins.take(&caller, &mut reference.connection)?;
    }
    fill_in(&mut new, &definition.body);
    content_of(definition)?;
    check_fields(&new, &mut problems);
    let compute = &new.model_definition.execution.compute_configuration;
    let (engine, options) = app.config.placing(&compute.name, compute.engine);
    let demand = demand(&app, &new, engine).map_err(|p| problems.push(p)).unwrap_or_default();
    let environment = {
        let here = || app.conductor.queue(|q| !q.capacity().gpus.is_empty() && !q.capacity().pretended);
        let gpu = demand.gpus > 0 && (engine != EngineName::Local || here());
        let asked = &new.model_definition.framework;
        let images = app.config.images(engine);
        let resolved =
            match images.and_then(|i| i.resolve(asked).or_else(|| i.general(&app.catalogue, asked))) {
                Some(image) => Ok(image),
                None => app.catalogue.resolve(asked, app.pythons().await, gpu),
            };
        resolved.map_err(|e| problems.push(Problem::new(Code::Framework, e.message).hint(e.hint))).ok()
    };
    let (Some(environment), true) = (environment, problems.is_empty()) else { return Err(problems.into()) };
    check_buckets(&app, &new).await?;
    let asked = new.model_definition.execution.max_run_time.unwrap_or(0);
    let max_run_time = match (asked, app.config.max_run_time) {
        (0, limit) => limit,
        (asked, 0) => asked,
        (asked, limit) => asked.min(limit),
    };
    // The definition may have been deleted, or given another zip, while the buckets were asked.
    let guard = app.definitions.read().await;
    let content = content_of(definitions::find_by_href(&app, &caller, &href)?)?;
    let spec = Spec { new_run: new, definition: content, environment, demand, max_run_time, engine, options };
    let record = app.conductor.submit(&caller.owner, spec).await?;
    drop(guard);
    let location = HeaderValue::from_str(&format!("/v3/models/{}", record.id)).map_err(Refusal::internal)?;
    let run = render::run(&app, &record, Detail::Full(&caller));
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(run)))
}

/// The zip of a definition.
fn content_of(definition: DefinitionRecord) -> Answer<Package> {
    let message = "this definition has been given no zip yet: put one to its content_url";
    definition.content.ok_or_else(|| Refusal::new(Code::DefinitionContent, message))
}

/// Bytes of metrics that are read on the spot.
const READ_AT_ONCE: u64 = 64 * 1024;

/// Learners of one run at most.
const MOST_LEARNERS: u32 = 256;

/// Longest name and longest command, in bytes.
const MOST_NAME: usize = 1024;
const MOST_COMMAND: usize = 96 * 1024;

/// What the definition says counts where the run says nothing.
fn fill_in(new: &mut NewRun, definition: &trainyard_api::NewDefinition) {
    let run = &mut new.model_definition;
    if run.framework.name.is_empty() {
        run.framework = definition.framework.clone();
    }
    if run.execution.command.trim().is_empty() {
        run.execution.command = definition.command.clone().unwrap_or_default();
    }
    if run.name.trim().is_empty() {
        run.name.clone_from(&definition.name);
    }
}

fn require(problems: &mut Vec<Problem>, present: bool, what: &str) {
    if !present {
        problems.push(Problem::new(Code::Manifest, format!("`{what}` is missing")));
    }
}

fn check_fields(new: &NewRun, problems: &mut Vec<Problem>) {
    let run = &new.model_definition;
    require(problems, !run.execution.command.trim().is_empty(), "model_definition.execution.command");
    require(
        problems,
        !run.execution.compute_configuration.name.is_empty(),
        "model_definition.execution.compute_configuration.name",
    );
    require(problems, !run.framework.version.is_empty(), "model_definition.framework.version");
    for (what, text, most) in
        [("name", &run.name, MOST_NAME), ("execution.command", &run.execution.command, MOST_COMMAND)]
    {
        if text.contains('\0') {
            problems
                .push(Problem::new(Code::Manifest, format!("`model_definition.{what}` holds a zero byte")));
        }
        if text.len() > most {
            problems.push(Problem::new(
                Code::Manifest,
                format!("`model_definition.{what}` has more than {most} bytes"),
            ));
        }
    }
    let references = [
        (&new.training_data_reference, "training_data_reference", "source"),
        (&new.training_results_reference, "training_results_reference", "target"),
    ];
    for (reference, name, end) in references {
        let c = &reference.connection;
        require(problems, !c.endpoint_url.is_empty(), &format!("{name}.connection.endpoint_url"));
        require(problems, !c.access_key_id.is_empty(), &format!("{name}.connection.access_key_id"));
        require(
            problems,
            !c.secret_access_key.expose().is_empty(),
            &format!("{name}.connection.secret_access_key"),
        );
        require(problems, !reference.bucket().is_empty(), &format!("{name}.{end}.bucket"));
    }
    for (reference, name, _) in references {
        let inner = reference.source.as_ref().or(reference.target.as_ref()).and_then(|b| b.kind.as_ref());
        if let Some(kind) = reference.kind.as_ref().or(inner).filter(|k| *k != "s3") {
            let message = format!("`{name}.type` is `{kind}`, and only `s3` is there");
            problems.push(Problem::new(Code::Manifest, message));
        }
    }
}

fn demand(app: &App, new: &NewRun, engine: EngineName) -> Result<Demand, Problem> {
    let compute = &new.model_definition.execution.compute_configuration;
    if compute.name.is_empty() {
        // Said already.
        return Ok(Demand::default());
    }
    let demand = app.computes.find(&compute.name).map_err(|e| Problem::new(Code::Compute, e.to_string()))?;
    let nodes = compute.nodes.unwrap_or(1);
    if nodes == 0 || nodes > MOST_LEARNERS {
        let message = format!("`nodes` is {nodes}, and has to be from 1 to {MOST_LEARNERS}");
        return Err(Problem::new(Code::Compute, message));
    }
    if nodes > 1 && engine == EngineName::Local {
        let message = format!("`nodes` is {nodes}, and the engine `local` runs one learner, on this machine");
        return Err(Problem::new(Code::Compute, message)
            .hint("leave `nodes` out, or name the engine `slurm`, where an operator has set a cluster up"));
    }
    if app.conductor.engines().get(engine).is_none() {
        let message = "the engine `slurm` is asked for, and this server has none";
        return Err(Problem::new(Code::Compute, message)
            .hint("leave `engine` out; an operator can set a cluster up in `[engine.slurm]`"));
    }
    if engine != EngineName::Local {
        // What the cluster has, it says itself.
        return Ok(demand);
    }
    match app.conductor.queue(|q| q.capacity().refusal(&demand)) {
        None => Ok(demand),
        Some(why) => {
            let message = format!("`{}` cannot run here: {why}", compute.name);
            Err(Problem::new(Code::Compute, message)
                .hint("`trainyard frameworks` lists what fits; an operator can redefine configurations in `[compute]` and capacity in `[local]`"))
        }
    }
}

async fn check_buckets(app: &App, new: &NewRun) -> Answer<()> {
    let (data, results) = (&new.training_data_reference, &new.training_results_reference);
    let (data, results) = tokio::join!(
        app.access.check(&app.http, Role::Data, &data.connection, data.bucket()),
        app.access.check(&app.http, Role::Results, &results.connection, results.bucket()),
    );
    let problems: Vec<Problem> = [data.err(), results.err()].into_iter().flatten().collect();
    if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
}

/// The run, if it is the caller's.
pub(crate) fn find(app: &App, caller: &Caller, id: &str) -> Answer<Record> {
    owned::find(caller, id, |id| app.store.run(&id))
}

/// Query of [`list`] besides the page. Trainyard's own: old clients do not send it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Sought {
    /// How the ids begin. Trainyard's own.
    id: Option<String>,
    /// The name. Trainyard's own.
    name: Option<String>,
}

impl Sought {
    fn which(self) -> Answer<(Which, String)> {
        let query = |key: &str, value: &str| {
            format!(
                "&{}",
                url::form_urlencoded::Serializer::new(String::new()).append_pair(key, value).finish()
            )
        };
        match self {
            Self { id: None, name: None } => Ok((Which::All, String::new())),
            Self { id: Some(id), name: None } => Ok((Which::IdBegins(id.clone()), query("id", &id))),
            Self { id: None, name: Some(name) } => Ok((Which::Named(name.clone()), query("name", &name))),
            Self { .. } => Err(Refusal::new(Code::Request, "ask for `id` or for `name`, not for both")),
        }
    }
}

/// List training runs, newest first. Entries hold no keys and no metrics.
#[utoipa::path(
    get, path = "/v3/models", tag = "training runs", params(Paging, Sought),
    responses((status = 200, description = "A page", body = Page<Run>), Refused),
)]
pub(crate) async fn list(
    State(app): State<App>,
    User(caller): User,
    Query(paging): Query<Paging>,
    Query(sought): Query<Sought>,
) -> Answer<Json<Page<Run>>> {
    let (which, query) = sought.which()?;
    let records = app.store.runs(&caller.owner, which, paging.before()?, paging.limit()? + 1).await?;
    // One that is being deleted is gone for its owner, and counts only for where the page ends.
    let shown = |r: &Record| (!r.run.delete_asked).then(|| render::run(&app, r, Detail::Brief));
    let entries = records.iter().map(|r| (r.number, shown(r))).collect();
    let page = paging.page(&format!("{}/v3/models", app.url), &query, entries)?;
    let resources = page.resources.into_iter().flatten().collect();
    Ok(Json(Page { limit: page.limit, first: page.first, next: page.next, resources }))
}

/// Show a training run.
///
/// Where the original returned secret keys, stand-ins are returned, which this server alone turns back
/// when they are posted. Of the metrics, the newest ten thousand are shown.
#[utoipa::path(
    get, path = "/v3/models/{run}", tag = "training runs",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 200, description = "The run", body = Run), Refused),
)]
pub(crate) async fn show(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<Run>> {
    let record = find(&app, &caller, &id)?;
    if app.metrics.of(&record.id).size() < READ_AT_ONCE {
        return Ok(Json(render::run(&app, &record, Detail::Full(&caller))));
    }
    // Thousands of points are read and parsed: not where other requests wait.
    let shown = tokio::task::spawn_blocking(move || render::run(&app, &record, Detail::Full(&caller)));
    Ok(Json(shown.await.map_err(Refusal::internal)?))
}

/// Cancel a training run: a JSON Patch of `/status/state` to `canceled`, one operation or a list of them.
///
/// What the run wrote is stored. A run that is over stays as it is.
#[utoipa::path(
    patch, path = "/v3/models/{run}", tag = "training runs",
    params(("run" = String, Path, description = "Id of the run")),
    request_body = Vec<PatchOp>,
    responses((status = 204, description = "Asked for"), Refused, Bounded),
)]
pub(crate) async fn change(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
    Body(patch): Body<Value>,
) -> Answer<StatusCode> {
    let record = find(&app, &caller, &id)?;
    let list = if patch.is_array() { patch } else { Value::Array(vec![patch]) };
    let operations: Vec<PatchOp> = serde_json::from_value(list)
        .map_err(|e| Refusal::new(Code::Request, format!("the body is not a JSON Patch: {e}")))?;
    let is_cancel = |op: &PatchOp| {
        op.op == "replace"
            && op.path == "/status/state"
            && matches!(op.value.as_str(), Some("canceled" | "cancelled"))
    };
    if operations.is_empty() || !operations.iter().all(is_cancel) {
        let message = "the only change there is replaces `/status/state` by `canceled`";
        return Err(Refusal::new(Code::Request, message));
    }
    app.conductor.apply(&record.id, vec![stamp(Event::CancelAsked)]).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete the record of a training run; one that is not over is canceled first. The bucket is left alone.
#[utoipa::path(
    delete, path = "/v3/models/{run}", tag = "training runs",
    params(("run" = String, Path, description = "Id of the run")),
    responses((status = 204, description = "Deleted, or about to be"), Refused),
)]
pub(crate) async fn delete(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<StatusCode> {
    let record = find(&app, &caller, &id)?;
    app.conductor.apply(&record.id, vec![stamp(Event::DeleteAsked)]).await?;
    tracing::info!(run = %record.id, at = %Time::now(), "deleted by its owner");
    Ok(StatusCode::NO_CONTENT)
}
