//! The transitions: one arm per event, with every state it can meet.

use serde::{Deserialize, Serialize};
use trainyard_api::{
    Code, Failure, Phase, Time, Transition,
    runner::{EngineName, Exit, Purpose},
};

use crate::{
    Active, Ended, Event, Learner, MAX_ATTEMPTS, MAX_TRAIN_ATTEMPTS, Outcome, Run, Stage, Stamped, State,
    explain_exit,
    learners::{self, Sum},
};

/// What has to be done once an event is durable. Doing it twice is harmless.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Put the run into the queue, in the order of its submission.
    Enqueue,
    /// Take the run out of the queue.
    Dequeue,
    /// Give the engine, which has a queue of its own, a job for this attempt.
    Submit {
        /// The attempt.
        attempt: u32,
    },
    /// Start a runner, past the queue, that stores what attempt `attempt - 1` left on its node.
    Salvage {
        /// The attempt that the salvage is.
        attempt: u32,
    },
    /// Have the runner of this attempt stop its program.
    Stop {
        /// The attempt.
        attempt: u32,
    },
    /// Give back what the attempt held; its runner, if one is left, is refused from now on.
    Release {
        /// The attempt.
        attempt: u32,
    },
    /// The run has ended: wake those who wait for it.
    Announce,
    /// Remove the record.
    Remove,
}

/// Applies one event; returns what is to be done. Nothing to do does not mean nothing changed:
/// compare the runs for that.
pub fn apply(run: &mut Run, stamped: &Stamped) -> Vec<Action> {
    let Stamped { at, seq, learner, event } = stamped;
    if *learner != 1 && run.active().is_none_or(|a| a.learner(*learner).is_none()) {
        return Vec::new();
    }
    if let Some(seq) = seq {
        // Reports of a runner come at least once; only the next one in order counts.
        if event.attempt() != Some(run.attempt) || *seq != run.reported_by(*learner) + 1 {
            return Vec::new();
        }
    }
    let before = run.phase();
    let actions = step(run, event, *learner, *at);
    if let Some(seq) = seq
        && event.attempt() == Some(run.attempt)
    {
        run.note_report(*learner, *seq);
    }
    let phase = run.phase();
    if phase != before {
        run.transitions.push(Transition { phase, attempt: run.attempt, at: *at });
    }
    actions
}

/// The run that a journal tells of; `None` when it does not begin with a submit.
pub fn fold<'a>(journal: impl IntoIterator<Item = &'a Stamped>) -> Option<Run> {
    let mut journal = journal.into_iter();
    let first = journal.next()?;
    if first.event != Event::Submitted {
        return None;
    }
    let mut run = Run::submitted(first.at);
    for stamped in journal {
        apply(&mut run, stamped);
    }
    Some(run)
}

fn step(run: &mut Run, event: &Event, learner: u32, at: Time) -> Vec<Action> {
    match event {
        // The fold starts from it; a second one is a duplicate.
        Event::Submitted => Vec::new(),
        Event::Handed { attempt, engine, learners } => {
            let several = if *learners > 1 { *learners } else { 0 };
            handed(run, *attempt, *engine, vec![Learner::default(); several as usize])
        }
        Event::Placed { attempt, node, gpus } => placed(run, *attempt, learner, (node, gpus), at),
        Event::PlaceFailed { attempt, message } => place_failed(run, *attempt, message, at),
        Event::Claimed { attempt } => {
            run.claimed |= current(run, *attempt).is_some();
            advance(run, *attempt, learner, Stage::StagingIn)
        }
        Event::Ready { attempt, address, port } => {
            if let Some(active) = current(run, *attempt) {
                learners::ready(active, learner, address, *port);
            }
            Vec::new()
        }
        Event::Started { attempt } => advance(run, *attempt, learner, Stage::Running),
        Event::Exited { attempt, exit, why } => exited(run, *attempt, learner, (*exit, why.as_ref())),
        Event::Finished { attempt, failure } => finished(run, *attempt, learner, failure.as_ref(), at),
        Event::Lost { attempt, message, code } => lost(run, *attempt, message, code.as_deref(), at),
        Event::Requeued { job, attempt, .. } => requeued(run, *job, *attempt),
        Event::CancelAsked => cancel(run, at),
        Event::DeleteAsked => delete(run, at),
    }
}

/// The active attempt, when it is this one.
fn current(run: &mut Run, attempt: u32) -> Option<&mut Active> {
    match &mut run.state {
        State::Active(active) if run.attempt == attempt => Some(active),
        _ => None,
    }
}

fn handed(run: &mut Run, attempt: u32, engine: EngineName, learners: Vec<Learner>) -> Vec<Action> {
    if run.state != State::Queued || attempt != run.attempt + 1 {
        return Vec::new();
    }
    run.attempt = attempt;
    run.reported = 0;
    run.state = State::Active(Active {
        purpose: Purpose::Train,
        stage: Stage::Waiting,
        gpus: Vec::new(),
        node: String::new(),
        failure: None,
        engine,
        job: attempt,
        folder: attempt,
        fresh: false,
        interrupted: None,
        learners,
        ender: None,
        blamed: None,
    });
    Vec::new()
}

/// The engine's job begins anew. Attempts that nobody heard of, because the server was away, are passed over.
fn requeued(run: &mut Run, job: u32, attempt: u32) -> Vec<Action> {
    let before = run.attempt;
    let State::Active(active) = &mut run.state else { return Vec::new() };
    if attempt <= before || active.job != job || active.engine == EngineName::Local {
        return Vec::new();
    }
    // Where nobody has come yet, there is nothing that this start could be in the way of.
    let came = active.stage > Stage::Waiting;
    *active = Active {
        fresh: active.fresh || (came && active.purpose == Purpose::Train),
        stage: Stage::Waiting,
        gpus: Vec::new(),
        interrupted: None,
        // A salvage that begins again need not look at what is stored.
        learners: if active.purpose == Purpose::Train { active.anew() } else { active.left() },
        ender: None,
        ..active.clone()
    };
    run.attempt = attempt;
    run.reported = 0;
    if active.purpose == Purpose::Train {
        run.exit = None;
    }
    let mut actions: Vec<Action> = (before..attempt).map(|attempt| Action::Release { attempt }).collect();
    if run.cancel_asked {
        // The attempt before it was told; this one is not to begin.
        actions.push(Action::Stop { attempt });
    }
    actions
}

fn placed(
    run: &mut Run,
    attempt: u32,
    learner: u32,
    (node, gpus): (&str, &[String]),
    at: Time,
) -> Vec<Action> {
    if let Some(active) = current(run, attempt) {
        learners::came(active, learner, gpus);
    }
    if let Some(active) = current(run, attempt)
        && active.stage == Stage::Waiting
    {
        if learner != 1 {
            // The first one has the others started.
            return Vec::new();
        }
        active.stage = Stage::Placed;
        if active.fresh {
            // Until now there was only what an earlier one left, and who stores that goes on with it.
            (active.folder, active.fresh) = (attempt, false);
        }
        node.clone_into(&mut active.node);
        active.gpus = gpus.to_vec();
        run.running_at = run.running_at.or(Some(at));
        return Vec::new();
    }
    // Only the attempt after the last one, and only from the queue: a placement that raced with
    // a cancel finds the run ended, and the scheduler takes its place back.
    if run.state != State::Queued || attempt != run.attempt + 1 {
        return Vec::new();
    }
    run.attempt = attempt;
    run.reported = 0;
    run.running_at = run.running_at.or(Some(at));
    run.state = State::Active(here(node, gpus));
    Vec::new()
}

/// A place on this machine.
fn here(node: &str, gpus: &[String]) -> Active {
    Active {
        purpose: Purpose::Train,
        stage: Stage::Placed,
        gpus: gpus.to_vec(),
        node: node.to_owned(),
        failure: None,
        engine: EngineName::Local,
        job: 0,
        folder: 0,
        fresh: false,
        interrupted: None,
        learners: Vec::new(),
        ender: None,
        blamed: None,
    }
}

fn place_failed(run: &mut Run, attempt: u32, message: &str, at: Time) -> Vec<Action> {
    let Run { cancel_asked, claimed, losses, .. } = *run;
    let Some(active) = current(run, attempt) else { return Vec::new() };
    if active.engine != EngineName::Local {
        let failure = active.failure.take().unwrap_or_else(|| failure(Code::Placement, message));
        if cancel_asked && !claimed {
            return end(run, None, at);
        }
        if !claimed || losses + 1 >= MAX_ATTEMPTS {
            return give_up(run, failure, claimed, at);
        }
        // It was not to begin again, but what it had written before is worth storing.
        let last = active.clone();
        run.losses += 1;
        return vec![Action::Release { attempt }, salvage_next(run, last, failure)];
    }
    if claimed {
        // There is something on the node that has to be looked after: try on.
        return lost(run, attempt, message, None, at);
    }
    let Some(active) = current(run, attempt) else { return Vec::new() };
    let failure = active.failure.take().unwrap_or_else(|| failure(Code::Placement, message));
    end(run, Some(failure), at)
}

/// Stages only go forward: a late report changes nothing. The first of several learners counts.
fn advance(run: &mut Run, attempt: u32, learner: u32, stage: Stage) -> Vec<Action> {
    if let Some(active) = current(run, attempt) {
        learners::reached(active, learner, stage);
        active.stage = active.stage.max(stage);
    }
    Vec::new()
}

/// The program of a learner ended. Of several, all have to.
fn exited(run: &mut Run, attempt: u32, learner: u32, (exit, why): (Exit, Option<&Failure>)) -> Vec<Action> {
    let canceled = run.cancel_asked;
    let Some(active) = current(run, attempt) else { return Vec::new() };
    let ended = if active.learners.is_empty() {
        Some(exit)
    } else {
        learners::exited(active, learner, (exit, why), canceled)
    };
    if ended.is_some() {
        active.stage = Stage::StagingOut;
        run.exit = ended;
    }
    Vec::new()
}

fn finished(run: &mut Run, attempt: u32, learner: u32, reported: Option<&Failure>, at: Time) -> Vec<Action> {
    let cancel_asked = run.cancel_asked;
    let Some(active) = current(run, attempt) else { return Vec::new() };
    if active.learners.is_empty() {
        return all_finished(run, attempt, reported, at);
    }
    match learners::finished(active, learner, reported, cancel_asked) {
        Sum::Open => Vec::new(),
        Sum::Stopped(failure) => all_finished(run, attempt, Some(&failure), at),
        Sum::Over(failure) => all_finished(run, attempt, failure.as_ref(), at),
    }
}

fn all_finished(run: &mut Run, attempt: u32, reported: Option<&Failure>, at: Time) -> Vec<Action> {
    let (exit, cancel_asked) = (run.exit, run.cancel_asked);
    let Some(active) = current(run, attempt) else { return Vec::new() };
    let stopped = reported.filter(|f| f.code == Code::NodeStopped.as_str());
    if let Some(stopped) = stopped
        && active.engine != EngineName::Local
        && active.purpose == Purpose::Train
        && !cancel_asked
    {
        // Its node goes away, somebody needs the place, or the job was ended: the engine knows which.
        active.stage = Stage::StagingOut;
        active.interrupted = Some(stopped.clone());
        return Vec::new();
    }
    // That its runner was lost is no error of a run that nobody wants any more, where all that it wrote is stored.
    let is_well = |f: &&Failure| cancel_asked && f.code == Code::RunnerLost.as_str();
    let reported = reported.filter(|f| !is_well(f));
    let failure = match active.purpose {
        Purpose::Salvage if cancel_asked => reported.cloned(),
        // A salvage that went well still belongs to a run that failed.
        Purpose::Salvage => active.failure.clone().map(|lost| match reported {
            Some(f) => Failure { message: format!("{}; then {}", lost.message, f.message), ..lost },
            None => lost,
        }),
        Purpose::Train => reported.cloned().or_else(|| match exit {
            Some(exit) => explain_exit(exit),
            None if cancel_asked => None,
            None => Some(failure(Code::Internal, "the runner finished without having run the program")),
        }),
    };
    end(run, failure, at)
}

fn lost(run: &mut Run, attempt: u32, message: &str, code: Option<&str>, at: Time) -> Vec<Action> {
    let Run { cancel_asked, claimed, losses, .. } = *run;
    let Some(active) = current(run, attempt) else { return Vec::new() };
    let mut lost = failure(Code::RunnerLost, message);
    if let Some(code) = code {
        code.clone_into(&mut lost.code);
    }
    if let Some(stopped) = active.interrupted.take() {
        // All is stored. What the engine says of it is what the run failed of.
        if cancel_asked {
            return end(run, None, at);
        }
        let failure = if code.is_some() { lost } else { Failure { message: message.to_owned(), ..stopped } };
        return end(run, Some(failure), at);
    }
    // The learner that failed before that is the reason.
    let reason = active.reason();
    let release = Action::Release { attempt };
    let salvage = active.purpose == Purpose::Salvage;
    let local = active.engine == EngineName::Local;
    // Restarts by the engine are no failures: a run may be preempted every day.
    let attempt = if local { attempt } else { losses + 1 };
    let program_ran = active.stage >= Stage::Running || salvage;
    // Once a runner has had the order it may have started the program, and died before it could
    // say so. To try again is safe, because the next runner finds that out on the node; to end
    // the run is not, because nobody would.
    let may_have_run = claimed || salvage;
    let given_up = attempt >= MAX_TRAIN_ATTEMPTS && !program_ran;
    if attempt >= MAX_ATTEMPTS || (given_up && !may_have_run) {
        let failure = active.failure.take().or(reason).unwrap_or(lost);
        return give_up(run, failure, may_have_run, at);
    }
    let failure = active.failure.take().or(reason).unwrap_or(lost);
    let last = active.clone();
    if program_ran || (may_have_run && (cancel_asked || given_up)) {
        // The program may have trained for weeks: never start it again, store what it left.
        run.losses += u32::from(!local);
        return vec![release, salvage_next(run, last, failure)];
    }
    if cancel_asked {
        return end(run, None, at);
    }
    run.state = State::Queued;
    if local {
        return vec![release, Action::Enqueue];
    }
    run.losses += 1;
    let next = run.attempt + 1;
    handed(run, next, last.engine, last.anew());
    if let State::Active(active) = &mut run.state {
        // The program may have been started without the server hearing of it: the next runner finds that
        // out where the last one was.
        (active.folder, active.fresh, active.node) = (last.folder, last.fresh, last.node);
    }
    vec![release, Action::Submit { attempt: next }]
}

/// Begins an attempt that stores what earlier ones left.
fn salvage_next(run: &mut Run, last: Active, failure: Failure) -> Action {
    run.attempt += 1;
    run.reported = 0;
    let queued = last.engine != EngineName::Local;
    run.state = State::Active(Active {
        purpose: Purpose::Salvage,
        stage: if queued { Stage::Waiting } else { Stage::Placed },
        gpus: Vec::new(),
        failure: Some(failure),
        job: if queued { run.attempt } else { 0 },
        learners: last.left(),
        blamed: last.blamed.or(last.ender),
        // Of that the run has failed.
        ender: None,
        ..last
    });
    let attempt = run.attempt;
    if queued { Action::Submit { attempt } } else { Action::Salvage { attempt } }
}

fn cancel(run: &mut Run, at: Time) -> Vec<Action> {
    match &run.state {
        State::Ended(_) => Vec::new(),
        State::Queued if run.claimed => {
            run.cancel_asked = true;
            let lost = failure(Code::RunnerLost, "an earlier runner of the run was lost");
            let last = here("this machine", &[]);
            vec![Action::Dequeue, salvage_next(run, last, lost)]
        }
        State::Queued => {
            run.cancel_asked = true;
            let mut actions = vec![Action::Dequeue];
            actions.extend(end(run, None, at));
            actions
        }
        State::Active(_) if run.cancel_asked => Vec::new(),
        State::Active(_) => {
            run.cancel_asked = true;
            vec![Action::Stop { attempt: run.attempt }]
        }
    }
}

fn delete(run: &mut Run, at: Time) -> Vec<Action> {
    run.delete_asked = true;
    if run.is_ended() { vec![Action::Remove] } else { cancel(run, at) }
}

/// Ends a run whose runners were lost again and again; `may_have_run`: its program may have written something.
fn give_up(run: &mut Run, failure: Failure, may_have_run: bool, at: Time) -> Vec<Action> {
    let actions = end(run, Some(failure), at);
    if let State::Ended(ended) = &mut run.state {
        ended.abandoned = may_have_run;
    }
    actions
}

/// Ends the run. A cancel that was asked for before the end wins, whatever the program did.
fn end(run: &mut Run, failure: Option<Failure>, at: Time) -> Vec<Action> {
    let outcome = match failure {
        failure if run.cancel_asked => Outcome::Canceled(failure.filter(|f| !is_exit(f))),
        Some(failure) => Outcome::Failed(failure),
        None => Outcome::Completed,
    };
    let was_active = matches!(run.state, State::Active(_));
    let learner = run.active().and_then(|a| a.blamed.or(a.ender));
    run.state = State::Ended(Ended { outcome, abandoned: false, learner });
    run.finished_at = Some(at);
    let mut actions = Vec::new();
    if was_active {
        actions.push(Action::Release { attempt: run.attempt });
    }
    actions.push(Action::Announce);
    if run.delete_asked {
        actions.push(Action::Remove);
    }
    actions
}

/// Whether the failure only says how the program ended: on a cancel that is no news.
fn is_exit(failure: &Failure) -> bool {
    [Code::ProgramFailed, Code::ProgramKilled].iter().any(|c| c.as_str() == failure.code)
}

fn failure(code: Code, message: &str) -> Failure {
    Failure { code: code.as_str().to_owned(), message: message.to_owned(), exit_code: None, signal: None }
}

impl Run {
    /// Whether a runner of `attempt` may still work and report.
    pub fn accepts(&self, attempt: u32) -> bool {
        self.attempt == attempt && matches!(self.state, State::Active(_))
    }

    /// The phase of the v3 API's finer kind, for a run that has this state.
    pub fn is_waiting(&self) -> bool {
        self.phase() == Phase::Queued
    }
}
