//! Where runners come that an engine's own queue has started: with the pass of their job they get the ticket
//! of an attempt. Each start of a job is an attempt, and the one before it is over.

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
};
use trainyard_api::{
    Code, RunId, Secret, random_token,
    runner::{Boarded, Boarding, MUNGE, boarding_text},
};
use trainyard_lifecycle::{Event, Run, Stage, Stamped};
use trainyard_store::{AttemptToken, Record, hash_token};

use crate::{
    auth::token,
    conductor::stamp,
    extract::{Body, Path},
    problem::{Answer, Refusal},
    state::App,
};

/// More often no job is started anew.
const MOST_RESTARTS: u32 = 10_000;

/// A job whose runner has shown its pass.
pub(crate) struct Job {
    run: RunId,
    job: u32,
}

impl FromRequestParts<App> for Job {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let unknown = || Refusal::new(Code::Unauthenticated, "no such job, or not its pass");
        let Path((run, job)) =
            Path::<(String, u32)>::from_request_parts(parts, app).await.map_err(|_| unknown())?;
        let run: RunId = run.parse().map_err(|_| unknown())?;
        let pass = token(parts).ok_or_else(unknown)?;
        let members = app.conductor.engines().slurm.as_ref().and_then(|c| c.members.as_ref());
        let known = match members {
            // To look at a credential costs more than to see that nobody waits for it.
            Some(members) if pass.starts_with(MUNGE) => {
                let record = match app.store.run(&run) {
                    Err(trainyard_store::Error::NotFound) => return Err(unknown()),
                    other => other?,
                };
                if record.run.active().is_none_or(|a| a.job != job) {
                    return Err(unknown());
                }
                let user = members.user_of(&record.owner).await.ok_or_else(unknown)?;
                let proved = members.proves(&pass, user, &boarding_text(&members.id, &run, job)).await?;
                if !proved {
                    tracing::warn!(%run, job, "a runner does not prove with munge whose it is");
                }
                proved
            }
            // Also of jobs that wait since there was a shared folder.
            _ => app.conductor.passes().is(&run, job, &pass),
        };
        if known { Ok(Self { run, job }) } else { Err(unknown()) }
    }
}

/// Takes a runner on. May be asked again when the answer was lost: the token is another then, and the one
/// before it worth nothing.
pub(crate) async fn board(
    State(app): State<App>,
    Job { run: id, job }: Job,
    Body(boarding): Body<Boarding>,
) -> Answer<Json<Boarded>> {
    if boarding.restarts > MOST_RESTARTS {
        return Err(Refusal::new(
            Code::Request,
            format!("a job is not started anew {} times", boarding.restarts),
        ));
    }
    let attempt = job.saturating_add(boarding.restarts);
    if boarding.learner > 1 {
        return board_learner(&app, &id, job, attempt, boarding).await;
    }
    let Record { owner, mut run, .. } = app.store.run(&id)?;
    if run.attempt < attempt && run.active().is_some_and(|a| a.job == job) {
        // This start is the first that we hear of it.
        let message = format!("job {} was started again, on {}", boarding.id, boarding.node);
        run = app.conductor.apply(&id, vec![stamp(Event::Requeued { job, attempt, message })]).await?.run;
    }
    refuse_late(&id, &run, job, attempt)?;
    let event = Event::Placed { attempt, node: boarding.node.clone(), gpus: boarding.gpus };
    let run = app.conductor.apply(&id, vec![stamp(event)]).await?.run;
    let folder = refuse_late(&id, &run, job, attempt)?;
    let token = random_token("tya_");
    app.store.keep_attempt(&id, AttemptToken { attempt, hash: hash_token(&token) }).await?;
    app.conductor.attempts().hear(&id, attempt);
    let Some(active) = run.active() else { return Err(over(&id, attempt)) };
    tracing::info!(run = %id, attempt, job = boarding.id, node = boarding.node, "a runner is there");
    let ticket = app.conductor.ticket(active.engine, (&id, &owner), (attempt, 1), Secret::new(token));
    Ok(Json(Boarded { ticket, folder: Boarded::folder_name(&id, folder, 1), learners: active.count() }))
}

/// Takes the runner of a further learner on, which the first one had started. Where one was lost, another
/// comes and stores what it left.
async fn board_learner(
    app: &App,
    id: &RunId,
    job: u32,
    attempt: u32,
    boarding: Boarding,
) -> Answer<Json<Boarded>> {
    let learner = boarding.learner;
    let is_due = |run: &Run| match run.active() {
        Some(active) if active.job == job && run.attempt == attempt && active.stage > Stage::Waiting => {
            active.learner(learner).is_some_and(|l| !l.over)
        }
        _ => false,
    };
    let Record { owner, run, .. } = app.store.run(id)?;
    if !is_due(&run) {
        return Err(over(id, attempt));
    }
    let event = Event::Placed { attempt, node: boarding.node.clone(), gpus: boarding.gpus };
    let run = app.conductor.apply(id, vec![Stamped { learner, ..stamp(event) }]).await?.run;
    let Some(active) = run.active().filter(|_| is_due(&run)) else { return Err(over(id, attempt)) };
    app.conductor.attempts().hear(id, attempt);
    tracing::info!(run = %id, attempt, learner, job = boarding.id, node = boarding.node, "a runner is there");
    let token = app.conductor.passes().of_learner(id, attempt, learner);
    let ticket = app.conductor.ticket(active.engine, (id, &owner), (attempt, learner), token);
    let folder = Boarded::folder_name(id, active.folder, learner);
    Ok(Json(Boarded { ticket, folder, learners: active.count() }))
}

fn over(id: &RunId, attempt: u32) -> Refusal {
    Refusal::new(Code::Fenced, format!("attempt {attempt} of {id} is over"))
}

/// Refuses a start of a job that another took the place of, or that has a runner already; returns the
/// attempt whose folder it works in.
fn refuse_late(id: &RunId, run: &Run, job: u32, attempt: u32) -> Answer<u32> {
    match run.active() {
        Some(active) if active.job == job && run.attempt == attempt && active.stage <= Stage::Placed => {
            Ok(active.folder)
        }
        _ => Err(over(id, attempt)),
    }
}
