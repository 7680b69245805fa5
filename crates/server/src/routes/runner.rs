//! What runners ask and tell. Each shows the token of its attempt; an attempt that is over is
//! refused, and its runner leaves.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::Response,
};
use serde::Deserialize;
use trainyard_api::{
    Code, RunId,
    runner::{Ack, Allotment, EngineName, Purpose, Reported, RunnerEvent, Store, WorkOrder},
};
use trainyard_lifecycle::{Active, Event, Run, Stamped};
use trainyard_store::Record;

use super::files::file_answer;
use crate::{
    auth::token,
    conductor::stamp,
    extract::{Body, Path, Query},
    problem::{Answer, Refusal},
    state::App,
    uploads::disk,
};

/// An attempt whose runner has shown its token and is not fenced.
pub(crate) struct Attempt {
    run: RunId,
    attempt: u32,
    record: Record,
}

impl FromRequestParts<App> for Attempt {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let unknown = || Refusal::new(Code::Unauthenticated, "no such attempt, or not its token");
        let Path((run, attempt)) =
            Path::<(String, u32)>::from_request_parts(parts, app).await.map_err(|_| unknown())?;
        let run: RunId = run.parse().map_err(|_| unknown())?;
        let token = token(parts).ok_or_else(unknown)?;
        if !app.store.is_attempt(&run, attempt, &token)? {
            return Err(unknown());
        }
        let record = app.store.run(&run)?;
        app.conductor.attempts().hear(&run, attempt);
        Ok(Self { run, attempt, record })
    }
}

impl Attempt {
    fn refuse_fenced(&self) -> Answer<&Active> {
        match self.record.run.active() {
            Some(active) if self.record.run.attempt == self.attempt => Ok(active),
            _ => Err(Refusal::new(Code::Fenced, format!("attempt {} of {} is over", self.attempt, self.run))),
        }
    }
}

/// The work order. May be asked for again: the answer is the same.
pub(crate) async fn claim(State(app): State<App>, attempt: Attempt) -> Answer<Json<WorkOrder>> {
    let active = attempt.refuse_fenced()?;
    let begin = |log: &crate::logs::RunLog| {
        let earlier = if attempt.attempt > 1 { log.length(attempt.attempt - 1) } else { 0 };
        log.begin(attempt.attempt, active.purpose == Purpose::Salvage).map_err(disk)?;
        Ok::<_, Refusal>(earlier)
    };
    let earlier_log = begin(&app.logs.of(&attempt.run))?;
    let earlier_metrics = begin(&app.metrics.of(&attempt.run))?;
    // Where a queue of its own starts the program again, its log goes on with that of the attempt before.
    let again = match active.engine {
        EngineName::Local => None,
        EngineName::Slurm if active.purpose == Purpose::Salvage || attempt.attempt == 1 => None,
        EngineName::Slurm => why_again(&app, &attempt.run)?,
    };
    let pretended = active.engine == EngineName::Local && app.conductor.queue(|q| q.capacity().pretended);
    let Record { spec, run, .. } = &attempt.record;
    let store = |reference: &trainyard_api::DataReference| Store {
        connection: reference.connection.clone(),
        bucket: reference.bucket().to_owned(),
    };
    let order = WorkOrder {
        run: attempt.run.clone(),
        attempt: attempt.attempt,
        purpose: active.purpose,
        command: spec.new_run.model_definition.execution.command.clone(),
        definition: spec.definition.clone(),
        environment: spec.environment.clone(),
        data: store(&spec.new_run.training_data_reference),
        results: store(&spec.new_run.training_results_reference),
        allotment: Allotment {
            cpus: spec.demand.cpus,
            memory: spec.demand.memory,
            gpus: active.gpus.clone(),
            pretended,
        },
        max_run_time: spec.max_run_time,
        grace: app.config.grace,
        canceled: run.cancel_asked,
        earlier_log,
        earlier_metrics,
        again,
    };
    app.conductor.apply(&attempt.run, vec![stamp(Event::Claimed { attempt: attempt.attempt })]).await?;
    Ok(Json(order))
}

/// Why there was an attempt before the newest one.
fn why_again(app: &App, run: &RunId) -> Answer<Option<String>> {
    let journal = app.store.journal(run)?;
    Ok(journal.into_iter().rev().find_map(|s| match s.event {
        Event::Requeued { message, .. } | Event::Lost { message, .. } => Some(message),
        _ => None,
    }))
}

/// Bytes of earlier attempts' log that are read at a time.
const EARLIER: usize = 1 << 20;

/// What attempts before this one have logged, from an offset on: a piece, and nothing at the end.
pub(crate) async fn earlier_log(
    State(app): State<App>,
    attempt: Attempt,
    Query(Offset { offset }): Query<Offset>,
) -> Answer<Vec<u8>> {
    attempt.refuse_fenced()?;
    let log = app.logs.of(&attempt.run);
    let most = log.begins(attempt.attempt).saturating_sub(offset).min(EARLIER as u64);
    Ok(log.read(offset, most as usize))
}

/// Events, in order; those that are journaled already change nothing.
pub(crate) async fn events(
    State(app): State<App>,
    attempt: Attempt,
    Body(reported): Body<Vec<Reported>>,
) -> Answer<Json<Ack>> {
    let number = attempt.attempt;
    // A runner whose last report was journaled, but whose answer was lost, asks again.
    if attempt.record.run.is_ended() && attempt.record.run.attempt == number {
        let seq = reported.iter().map(|r| r.seq).max().unwrap_or(0);
        return Ok(Json(Ack { seq, ..Ack::default() }));
    }
    attempt.refuse_fenced()?;
    let event = |r: Reported| Stamped {
        at: r.at,
        seq: Some(r.seq),
        event: match r.event {
            RunnerEvent::Started => Event::Started { attempt: number },
            RunnerEvent::Exited { exit } => Event::Exited { attempt: number, exit },
            RunnerEvent::Finished { failure } => Event::Finished { attempt: number, failure },
        },
    };
    let events: Vec<Stamped> = reported.into_iter().map(event).collect();
    let run = if events.is_empty() {
        attempt.record.run
    } else {
        app.conductor.apply(&attempt.run, events).await?.run
    };
    Ok(Json(ack(&app, &attempt.run, number, &run)))
}

/// How far the server is.
fn ack(app: &App, id: &RunId, attempt: u32, run: &Run) -> Ack {
    let (log, metrics) = (app.logs.of(id).length(attempt), app.metrics.of(id).length(attempt));
    Ack { seq: run.reported, log, metrics, cancel: run.cancel_asked }
}

/// Query of [`log`] and [`metrics`].
#[derive(Debug, Deserialize)]
pub(crate) struct Offset {
    offset: u64,
}

/// Log bytes at an offset.
pub(crate) async fn log(
    State(app): State<App>,
    attempt: Attempt,
    Query(Offset { offset }): Query<Offset>,
    bytes: Bytes,
) -> Answer<Json<Ack>> {
    attempt.refuse_fenced()?;
    app.logs.of(&attempt.run).append(attempt.attempt, offset, &bytes).map_err(disk)?;
    Ok(Json(ack(&app, &attempt.run, attempt.attempt, &attempt.record.run)))
}

/// Bytes of metrics at an offset: lines, each a [`trainyard_api::runner::Point`].
pub(crate) async fn metrics(
    State(app): State<App>,
    attempt: Attempt,
    Query(Offset { offset }): Query<Offset>,
    bytes: Bytes,
) -> Answer<Json<Ack>> {
    attempt.refuse_fenced()?;
    app.metrics.of(&attempt.run).append(attempt.attempt, offset, &bytes).map_err(disk)?;
    // Those who follow the run wait for its log.
    app.logs.of(&attempt.run).wake();
    Ok(Json(ack(&app, &attempt.run, attempt.attempt, &attempt.record.run)))
}

/// The definition's zip.
pub(crate) async fn definition(State(app): State<App>, attempt: Attempt) -> Answer<Response> {
    attempt.refuse_fenced()?;
    file_answer(&app.folder.definition(&attempt.record.spec.definition.sha256), "application/zip").await
}
