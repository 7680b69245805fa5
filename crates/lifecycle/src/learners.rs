//! Several learners of one attempt, each with a runner on a node of its own: they begin together, the first
//! that fails ends the others, and the attempt is over when all are.
//!
//! A run with one learner has none of this: its attempt is the learner.

use serde::{Deserialize, Serialize};
use trainyard_api::{Code, Failure, runner::Exit};

use crate::{Active, Run, Stage, State, explain_exit};

/// One learner of the attempt under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learner {
    /// How far it is.
    #[serde(default)]
    pub stage: Stage,
    /// Sequence number up to which its runner's reports are in.
    #[serde(default)]
    pub reported: u64,
    /// A runner of it was lost in this attempt, and another one came.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// Ids of its GPUs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<String>,
    /// Where the others reach it, and a port there that is free; once it has staged in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<(String, u16)>,
    /// How its program ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// It is done and stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub over: bool,
    /// What its runner reported as the reason of a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl Learner {
    fn is_stopped(&self) -> bool {
        self.failure.as_ref().is_some_and(|f| f.code == Code::NodeStopped.as_str())
    }
}

/// What became of the attempt when the last of its learners was done.
pub(crate) enum Sum {
    /// Some are not.
    Open,
    /// All are, because something other than the owner stopped them.
    Stopped(Failure),
    /// All are; why it failed, unless all went well.
    Over(Option<Failure>),
}

impl Active {
    /// How many learners it has.
    pub fn count(&self) -> u32 {
        u32::try_from(self.learners.len()).unwrap_or(u32::MAX).max(1)
    }

    /// A learner, from 1; `None` where there is no such, or it is the only one.
    pub fn learner(&self, number: u32) -> Option<&Learner> {
        self.learners.get((number as usize).checked_sub(1)?)
    }

    fn learner_mut(&mut self, number: u32) -> Option<&mut Learner> {
        self.learners.get_mut((number as usize).checked_sub(1)?)
    }

    /// Addresses of all learners, once all are ready.
    pub fn team(&self) -> Option<Vec<(String, u16)>> {
        self.learners.iter().map(|l| l.address.clone()).collect()
    }

    /// Why `number` is to end its program: another one failed.
    pub fn ended_by(&self, number: u32) -> Option<String> {
        self.ender.filter(|e| *e != number).map(|e| format!("learner {e} failed"))
    }

    /// Why the learner failed that ended the others.
    pub(crate) fn reason(&self) -> Option<Failure> {
        let number = self.ender?;
        let learner = self.learner(number)?;
        let failure = learner.failure.clone().or_else(|| explain_exit(learner.exit?))?;
        Some(Failure { message: format!("learner {number}: {}", failure.message), ..failure })
    }

    /// Those of a new attempt of the same size.
    pub(crate) fn anew(&self) -> Vec<Learner> {
        vec![Learner::default(); self.learners.len()]
    }

    /// Those of an attempt that stores what this one left: who is done needs nothing more.
    pub(crate) fn left(&self) -> Vec<Learner> {
        let again = |l: &Learner| Learner { over: l.over, ..Learner::default() };
        self.learners.iter().map(again).collect()
    }
}

/// A runner of one has come.
pub(crate) fn came(active: &mut Active, number: u32, gpus: &[String]) {
    if let Some(learner) = active.learner_mut(number)
        && !learner.over
    {
        if learner.stage > Stage::Placed {
            // The one before it was lost; what that one has counted is counted anew.
            learner.reported = 0;
            learner.again = true;
        }
        learner.stage = Stage::Placed;
        learner.gpus = gpus.to_vec();
    }
}

/// One is at a stage; stages only go forward.
pub(crate) fn reached(active: &mut Active, number: u32, stage: Stage) {
    if let Some(learner) = active.learner_mut(number) {
        learner.stage = learner.stage.max(stage);
    }
}

/// One waits for the others at this address.
pub(crate) fn ready(active: &mut Active, number: u32, address: &str, port: u16) {
    if let Some(learner) = active.learner_mut(number) {
        learner.address = Some((address.to_owned(), port));
    }
}

/// The program of one has ended; returns how the program as a whole did, once all have.
pub(crate) fn exited(
    active: &mut Active,
    number: u32,
    (exit, why): (Exit, Option<&Failure>),
    canceled: bool,
) -> Option<Exit> {
    reached(active, number, Stage::StagingOut);
    let learner = active.learner_mut(number)?;
    learner.exit = Some(exit);
    learner.failure = why.cloned();
    // What stops one from outside stops all, and is no learner's failure.
    let fails = (exit != Exit::Code(0) || why.is_some()) && !learner.is_stopped();
    if fails && !canceled {
        active.ender.get_or_insert(number);
    }
    let all = active.learners.iter().all(|l| l.exit.is_some() || l.over);
    let decides = active.ender.unwrap_or(number);
    all.then(|| active.learner(decides).and_then(|l| l.exit)).flatten()
}

/// One is done.
pub(crate) fn finished(active: &mut Active, number: u32, failure: Option<&Failure>, canceled: bool) -> Sum {
    let Some(learner) = active.learner_mut(number) else { return Sum::Open };
    learner.over = true;
    learner.stage = Stage::StagingOut;
    learner.failure = failure.cloned();
    let fails = failure.is_some() && !learner.is_stopped();
    if fails && !canceled {
        active.ender.get_or_insert(number);
    }
    if !active.learners.iter().all(|l| l.over) {
        return Sum::Open;
    }
    let stopped = active.learners.iter().find(|l| l.is_stopped()).and_then(|l| l.failure.clone());
    match (active.reason(), stopped) {
        (Some(reason), _) => Sum::Over(Some(reason)),
        (None, Some(stopped)) if !canceled => Sum::Stopped(stopped),
        // What could not be stored is said of a run that was canceled as well.
        (None, _) => Sum::Over(active.learners.iter().find_map(|l| l.failure.clone())),
    }
}

impl Run {
    /// Sequence number up to which the reports of this learner are in.
    pub fn reported_by(&self, learner: u32) -> u64 {
        self.active().and_then(|a| a.learner(learner)).map_or(self.reported, |l| l.reported)
    }

    pub(crate) fn note_report(&mut self, learner: u32, seq: u64) {
        let Self { state, reported, .. } = self;
        match state {
            State::Active(active) if !active.learners.is_empty() => {
                if let Some(learner) = active.learner_mut(learner) {
                    learner.reported = seq;
                }
            }
            _ => *reported = seq,
        }
    }
}

/// Who reports, in what is stamped by runs of one learner and by this server.
pub(crate) fn first() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
pub(crate) fn is_first(learner: &u32) -> bool {
    *learner == 1
}
