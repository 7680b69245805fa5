//! Records as the API shows them.

use trainyard_api::{
    ContentStatus, DataReference, Definition, DefinitionEntity, DefinitionVersion, LearnerStatus, Location,
    Metadata, ModelEntity, ModelVersion, Run, RunEntity, RunId, Secret, Status, StatusError, StoredModel,
    Time,
};
use trainyard_store::{Archive, Caller, DefinitionRecord, ModelRecord, Record};

use crate::{points, state::App};

/// Log lines of a failed run that its details quote.
const QUOTED_LINES: usize = 10;
/// Bytes that are looked at for them.
const QUOTED_BYTES: usize = 8 * 1024;

/// How much of a run is shown.
#[derive(Clone, Copy)]
pub(crate) enum Detail<'a> {
    /// For its owner, with stand-ins for the keys: clients hand them back when they store a model.
    Full(&'a Caller),
    /// An entry of a list: no keys, nothing that has to be looked up.
    Brief,
}

pub(crate) fn run(app: &App, record: &Record, detail: Detail<'_>) -> Run {
    let now = Time::now();
    let id = &record.id;
    let started = record.run.attempt > 0;
    let mut entity = RunEntity {
        model_definition: record.spec.new_run.model_definition.clone(),
        training_data_reference: located(&record.spec.new_run.training_data_reference, None),
        training_results_reference: located(
            &record.spec.new_run.training_results_reference,
            started.then(|| id.to_string()),
        ),
        status: status(app, record, detail, now),
    };
    for reference in [&mut entity.training_data_reference, &mut entity.training_results_reference] {
        match detail {
            Detail::Full(caller) => reference.connection = app.stand_ins.give(caller, reference),
            Detail::Brief => reference.connection.secret_access_key = Secret::new("***"),
        }
    }
    Run { metadata: metadata(record), entity }
}

/// Identity of a run.
pub(crate) fn metadata(record: &Record) -> Metadata<RunId> {
    let run = &record.run;
    Metadata {
        guid: record.id.clone(),
        url: format!("/v3/models/{}", record.id),
        created_at: run.submitted_at,
        modified_at: run.transitions.last().map_or(run.submitted_at, |t| t.at),
    }
}

fn located(reference: &DataReference, folder: Option<String>) -> DataReference {
    let location = Location { bucket: reference.bucket().to_owned(), model_location: folder };
    DataReference { location: Some(location), ..reference.clone() }
}

fn status(app: &App, record: &Record, detail: Detail<'_>, now: Time) -> Status {
    let run = &record.run;
    let failure = run.failure().cloned();
    let full = matches!(detail, Detail::Full(_));
    let said = failure.as_ref().map_or("", |f| f.message.as_str());
    let last_log_lines = if full && failure.is_some() { last_lines(app, record) } else { Vec::new() };
    Status {
        state: run.api_state(),
        message: format!("{}: {said}", record.id),
        metrics: if full { points::newest(app, record) } else { Vec::new() },
        submitted_at: run.submitted_at,
        running_at: run.running_at,
        finished_at: run.finished_at,
        current_at: now,
        error: failure.map(|f| StatusError { errors: vec![f] }),
        phase: run.phase(),
        attempt: run.attempt,
        canceling: run.cancel_asked && !run.is_ended(),
        waits_for: if full { app.conductor.explain(record) } else { None },
        transitions: if full { run.transitions.clone() } else { Vec::new() },
        last_log_lines,
        environment: Some(record.spec.environment.label.clone()),
        learners: if full { learners(run) } else { Vec::new() },
    }
}

fn learners(run: &trainyard_lifecycle::Run) -> Vec<LearnerStatus> {
    let all = run.active().map_or(&[][..], |a| a.learners.as_slice());
    let status = |(number, l): (u32, &trainyard_lifecycle::Learner)| LearnerStatus {
        number,
        phase: l.stage.phase(),
        stored: l.over,
        address: l.address.as_ref().map(|(address, _)| address.clone()),
    };
    (1..).zip(all).map(status).collect()
}

fn last_lines(app: &App, record: &Record) -> Vec<String> {
    let log = app.logs.of_learner(&record.id, record.run.failed_learner());
    let start = log.last_lines(QUOTED_LINES);
    let bytes = log.read(start, QUOTED_BYTES);
    if record.run.is_ended() {
        app.logs.close(&record.id);
    }
    String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
}

pub(crate) fn definition(app: &App, record: DefinitionRecord) -> Definition {
    let url = format!("{}/v3/ml_assets/training_definitions/{}", app.url, record.id);
    let version = format!("{url}/versions/{}", record.version);
    let state = if record.content.is_some() { "persisted" } else { "initialized" };
    let body = record.body;
    Definition {
        metadata: Metadata {
            guid: record.id,
            url,
            created_at: record.created_at,
            modified_at: record.modified_at,
        },
        entity: DefinitionEntity {
            name: body.name,
            description: body.description,
            author: body.author,
            framework: body.framework,
            command: body.command,
            training_data_reference: body.training_data_reference,
            training_definition_version: DefinitionVersion {
                guid: record.version,
                content_url: format!("{version}/content"),
                url: version,
                created_at: record.version_created_at,
                content_status: ContentStatus { state: state.to_owned(), message: None },
            },
        },
    }
}

pub(crate) fn model(app: &App, record: ModelRecord) -> StoredModel {
    let url = format!("{}/v3/ml_assets/models/{}", app.url, record.id);
    let version = format!("{url}/versions/{}", record.version);
    let state = record.archive.state().to_owned();
    let (size, message) = match record.archive {
        Archive::Kept { size } => (Some(size), None),
        Archive::Failed { message } => (None, Some(message)),
        Archive::Awaited | Archive::Copying => (None, None),
    };
    StoredModel {
        metadata: Metadata {
            guid: record.id,
            url,
            created_at: record.created_at,
            modified_at: record.modified_at,
        },
        entity: ModelEntity {
            name: record.body.name,
            description: record.body.description,
            author: record.body.author,
            framework: record.body.framework,
            training_run: record.run,
            size,
            model_version: ModelVersion {
                guid: record.version,
                content_url: format!("{version}/content"),
                url: version,
                created_at: record.version_created_at,
                content_status: ContentStatus { state, message },
            },
            other: record.body.other,
        },
    }
}
