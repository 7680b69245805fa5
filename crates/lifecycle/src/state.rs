//! The states of a run. Each variant carries only what is true in it.

use serde::{Deserialize, Serialize};
use trainyard_api::{
    Failure, Phase, RunState, Time, Transition,
    runner::{EngineName, Exit, Purpose},
};

use crate::Learner;

/// Attempts to run the program that may be lost before it started, until the run is given up.
pub const MAX_TRAIN_ATTEMPTS: u32 = 3;
/// Attempts of both kinds: storing what a run left is worth more tries than that.
pub const MAX_ATTEMPTS: u32 = 10;

/// A run: the fold of its events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Where it stands.
    pub state: State,
    /// The newest attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// Sequence number up to which the newest attempt's reports are in.
    pub reported: u64,
    /// The owner asked for a cancel before the run ended.
    pub cancel_asked: bool,
    /// The record goes as soon as the run has ended.
    pub delete_asked: bool,
    /// When it was accepted.
    pub submitted_at: Time,
    /// When its first attempt had a place.
    pub running_at: Option<Time>,
    /// When it ended.
    pub finished_at: Option<Time>,
    /// When each phase began.
    pub transitions: Vec<Transition>,
    /// How the program ended, once it has.
    pub exit: Option<Exit>,
    /// A runner has had the work order, in this attempt or in an earlier one: its program may
    /// have been started, whether the server heard of it or not.
    #[serde(default)]
    pub claimed: bool,
    /// Jobs of an engine with a queue of its own that were lost.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub losses: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Where a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// Waits for a place.
    Queued,
    /// Has an attempt that somebody works on.
    Active(Active),
    /// Over.
    Ended(Ended),
}

/// An attempt under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// Train, or store what a lost runner left.
    pub purpose: Purpose,
    /// How far it is.
    pub stage: Stage,
    /// GPUs that it holds.
    pub gpus: Vec<String>,
    /// Where, in words for people.
    pub node: String,
    /// Salvage only: what the run failed of.
    pub failure: Option<Failure>,
    /// Who places its runner.
    #[serde(default)]
    pub engine: EngineName,
    /// The attempt that the engine's job began with: later ones are restarts of the job. 0 on an engine
    /// without jobs.
    #[serde(default)]
    pub job: u32,
    /// The attempt whose folder on the node it works in; 0 on an engine that has one for all.
    #[serde(default)]
    pub folder: u32,
    /// It begins in a folder of its own, once it has a place: until then `folder` is that of the one before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fresh: bool,
    /// Its runner was told to stop by something other than this server, and has stored what there was.
    /// The engine says what follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<Failure>,
    /// Its learners, where there are several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learners: Vec<Learner>,
    /// The learner whose failure ends the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ender: Option<u32>,
    /// Salvage only: the learner that the run failed of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blamed: Option<u32>,
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// In an engine's own queue.
    #[default]
    Waiting,
    /// Given to the engine; the runner has not shown up yet.
    Placed,
    /// The runner stages in.
    StagingIn,
    /// The program runs.
    Running,
    /// The program ended; the runner stores.
    StagingOut,
}

impl Stage {
    /// The phase that users see.
    pub fn phase(self) -> Phase {
        match self {
            Self::Waiting => Phase::Queued,
            Self::Placed => Phase::Pending,
            Self::StagingIn => Phase::Downloading,
            Self::Running => Phase::Processing,
            Self::StagingOut => Phase::Storing,
        }
    }
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// How it ended.
    pub outcome: Outcome,
    /// It was given up: what its program wrote was not stored, and is where its last runner was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub abandoned: bool,
    /// The learner that it failed of, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learner: Option<u32>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "how", content = "why")]
pub enum Outcome {
    /// The program exited with 0, and all is stored.
    Completed,
    /// It failed.
    Failed(Failure),
    /// Its owner canceled it. What could not be stored then stands here.
    Canceled(Option<Failure>),
}

impl Run {
    /// A run that was accepted at `at`.
    pub fn submitted(at: Time) -> Self {
        Self {
            state: State::Queued,
            attempt: 0,
            reported: 0,
            cancel_asked: false,
            delete_asked: false,
            submitted_at: at,
            running_at: None,
            finished_at: None,
            transitions: vec![Transition { phase: Phase::Queued, attempt: 0, at }],
            exit: None,
            claimed: false,
            losses: 0,
        }
    }

    /// The finer phase.
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Queued => Phase::Queued,
            State::Active(a) => a.stage.phase(),
            State::Ended(e) => match e.outcome {
                Outcome::Completed => Phase::Completed,
                Outcome::Failed(_) => Phase::Failed,
                Outcome::Canceled(_) => Phase::Halted,
            },
        }
    }

    /// The state that users of the v3 API see.
    pub fn api_state(&self) -> RunState {
        match self.phase() {
            Phase::Queued | Phase::Pending => RunState::Pending,
            Phase::Downloading | Phase::Processing | Phase::Storing => RunState::Running,
            Phase::Completed => RunState::Completed,
            Phase::Failed => RunState::Error,
            Phase::Halted => RunState::Canceled,
        }
    }

    /// Whether nothing changes any more.
    pub fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended(_))
    }

    /// The attempt under way.
    pub fn active(&self) -> Option<&Active> {
        match &self.state {
            State::Active(a) => Some(a),
            _ => None,
        }
    }

    /// Whether it was given up without what its program wrote having been stored.
    pub fn is_abandoned(&self) -> bool {
        matches!(&self.state, State::Ended(e) if e.abandoned)
    }

    /// The learner that it failed of; the first where that is not known, or there is one.
    pub fn failed_learner(&self) -> u32 {
        match &self.state {
            State::Ended(Ended { learner: Some(learner), .. }) => *learner,
            _ => 1,
        }
    }

    /// Why it failed, or what could not be stored on a cancel.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.state {
            State::Ended(Ended { outcome: Outcome::Failed(f) | Outcome::Canceled(Some(f)), .. }) => Some(f),
            _ => None,
        }
    }
}
