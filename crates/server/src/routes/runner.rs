//! What runners ask and tell. Each shows the token of its attempt; an attempt that is over is
//! refused, and its runner leaves.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::Response,
};
use serde::Deserialize;
use tokio::sync::watch;
use trainyard_api::{
    Code, RunId,
    runner::{
        Ack, Allotment, EngineName, LEARNER_HEADER, Purpose, Reported, RunnerEvent, Store, Team, WorkOrder,
    },
};
use trainyard_lifecycle::{Active, Event, Run, Stamped};
use trainyard_store::Record;

use super::{Stops, files::file_answer};
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
    /// Which of its learners it is, from 1.
    learner: u32,
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
        let learner = match parts.headers.get(LEARNER_HEADER) {
            None => 1,
            Some(number) => number.to_str().ok().and_then(|n| n.parse().ok()).ok_or_else(unknown)?,
        };
        let known = match learner {
            1 => app.store.is_attempt(&run, attempt, &token)?,
            _ => app.conductor.passes().is_learner(&run, attempt, learner, &token),
        };
        if !known {
            return Err(unknown());
        }
        let record = app.store.run(&run)?;
        app.conductor.attempts().hear(&run, attempt);
        Ok(Self { run, attempt, learner, record })
    }
}

impl Attempt {
    fn refuse_fenced(&self) -> Answer<&Active> {
        match self.record.run.active() {
            Some(active) if self.record.run.attempt == self.attempt && !self.is_over(active) => Ok(active),
            _ => Err(Refusal::new(Code::Fenced, format!("attempt {} of {} is over", self.attempt, self.run))),
        }
    }

    /// Whether the learner was done in an earlier attempt; one that is done in this one may ask again.
    fn is_over(&self, active: &Active) -> bool {
        active.learner(self.learner).is_some_and(|l| l.over && l.reported == 0)
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
    let learner = active.learner(attempt.learner);
    let earlier_log = begin(&app.logs.of_learner(&attempt.run, attempt.learner))?;
    let earlier_metrics = if attempt.learner == 1 { begin(&app.metrics.of(&attempt.run))? } else { 0 };
    // What a lost runner of this very attempt has delivered is not an earlier attempt's.
    let again_here = learner.is_some_and(|l| l.again);
    let earlier = |bytes: u64| if again_here { 0 } else { bytes };
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
            gpus: learner.map_or_else(|| active.gpus.clone(), |l| l.gpus.clone()),
            pretended,
        },
        max_run_time: spec.max_run_time,
        grace: app.config.grace,
        learner: attempt.learner,
        learners: active.count(),
        listen: active.count() > 1
            || (active.engine == EngineName::Slurm
                && app.conductor.engines().slurm.as_ref().is_some_and(|c| c.listen)),
        canceled: run.cancel_asked,
        earlier_log: earlier(earlier_log),
        earlier_metrics: earlier(earlier_metrics),
        again,
    };
    let claimed = stamp(Event::Claimed { attempt: attempt.attempt });
    app.conductor.apply(&attempt.run, vec![Stamped { learner: attempt.learner, ..claimed }]).await?;
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
    let log = app.logs.of_learner(&attempt.run, attempt.learner);
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
    let learner = attempt.learner;
    let event = |r: Reported| Stamped {
        at: r.at,
        seq: Some(r.seq),
        learner,
        event: match r.event {
            RunnerEvent::Ready { address, port } => Event::Ready { attempt: number, address, port },
            RunnerEvent::Started => Event::Started { attempt: number },
            RunnerEvent::Exited { exit, why } => Event::Exited { attempt: number, exit, why },
            RunnerEvent::Finished { failure } => Event::Finished { attempt: number, failure },
        },
    };
    let events: Vec<Stamped> = reported.into_iter().map(event).collect();
    let run = if events.is_empty() {
        attempt.record.run
    } else {
        app.conductor.apply(&attempt.run, events).await?.run
    };
    Ok(Json(ack(&app, &attempt.run, (number, learner), &run)))
}

/// How far the server is.
fn ack(app: &App, id: &RunId, (attempt, learner): (u32, u32), run: &Run) -> Ack {
    let log = app.logs.of_learner(id, learner).length(attempt);
    let metrics = if learner == 1 { app.metrics.of(id).length(attempt) } else { 0 };
    let end = run.active().and_then(|a| a.ended_by(learner));
    Ack { seq: run.reported_by(learner), log, metrics, cancel: run.cancel_asked, end }
}

/// Wait for more to happen, before a run is looked at anew.
const GATHER: Duration = Duration::from_millis(20);
/// Longest wait for news.
const NEWS: Duration = Duration::from_secs(20);

/// Answers when there is something to do for a learner, or it has been a while: one hears of a cancel, and of
/// the failure of another, as soon as that is known.
pub(crate) async fn news(
    State(app): State<App>,
    Extension(Stops(stops)): Extension<Stops>,
    attempt: Attempt,
) -> Answer<Json<Ack>> {
    let (run, at) = (attempt.run.clone(), (attempt.attempt, attempt.learner));
    let told = |ack: &Ack| ack.cancel || ack.end.is_some();
    let look = |app: &App, record: &Record| Some(ack(app, &run, at, &record.run)).filter(told);
    let news = match until(&app, stops, attempt, look).await? {
        Some(news) => news,
        None => ack(&app, &run, at, &app.store.run(&run)?.run),
    };
    Ok(Json(news))
}

/// Where the learners reach each other: answers when all are ready, and with nothing when it has been a while.
pub(crate) async fn team(
    State(app): State<App>,
    Extension(Stops(stops)): Extension<Stops>,
    attempt: Attempt,
) -> Answer<Json<Option<Team>>> {
    let found = until(&app, stops, attempt, |_, record| {
        let team = record.run.active()?.team()?;
        let port = team.first()?.1;
        Some(Team { addresses: team.into_iter().map(|(address, _)| address).collect(), port })
    });
    Ok(Json(found.await?))
}

/// Looks again at every change of the run, until there is something or it has been a while.
async fn until<T>(
    app: &App,
    mut stops: watch::Receiver<bool>,
    mut attempt: Attempt,
    find: impl Fn(&App, &Record) -> Option<T>,
) -> Answer<Option<T>> {
    // Before anything is remembered for a run that may be over.
    attempt.refuse_fenced()?;
    let mut turns = app.logs.of(&attempt.run).follow_state();
    let deadline = tokio::time::Instant::now() + NEWS;
    loop {
        turns.borrow_and_update();
        attempt.record = app.store.run(&attempt.run)?;
        attempt.refuse_fenced()?;
        if let Some(found) = find(app, &attempt.record) {
            return Ok(Some(found));
        }
        tokio::select! {
            changed = turns.changed() => if changed.is_err() { return Ok(None) },
            () = tokio::time::sleep_until(deadline) => return Ok(None),
            _ = stops.wait_for(|s| *s) => return Ok(None),
        }
        // Many learners turn at the same time, and each of them asks.
        tokio::time::sleep(GATHER).await;
    }
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
    let log = app.logs.of_learner(&attempt.run, attempt.learner);
    log.append(attempt.attempt, offset, &bytes).map_err(disk)?;
    if attempt.learner > 1 {
        // Those who follow a learner wait for the run.
        app.logs.of(&attempt.run).wake();
    }
    Ok(Json(ack(&app, &attempt.run, (attempt.attempt, attempt.learner), &attempt.record.run)))
}

/// Bytes of metrics at an offset: lines, each a [`trainyard_api::runner::Point`].
pub(crate) async fn metrics(
    State(app): State<App>,
    attempt: Attempt,
    Query(Offset { offset }): Query<Offset>,
    bytes: Bytes,
) -> Answer<Json<Ack>> {
    attempt.refuse_fenced()?;
    if attempt.learner > 1 {
        return Err(Refusal::new(Code::Request, "the metrics of a run are those of its first learner"));
    }
    app.metrics.of(&attempt.run).append(attempt.attempt, offset, &bytes).map_err(disk)?;
    // Those who follow the run wait for its log.
    app.logs.of(&attempt.run).wake();
    Ok(Json(ack(&app, &attempt.run, (attempt.attempt, 1), &attempt.record.run)))
}

/// The definition's zip.
pub(crate) async fn definition(State(app): State<App>, attempt: Attempt) -> Answer<Response> {
    attempt.refuse_fenced()?;
    file_answer(&app.folder.definition(&attempt.record.spec.definition.sha256), "application/zip").await
}
