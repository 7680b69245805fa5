//! What can happen to a run. Each is written to the journal before anything acts on it.

use serde::{Deserialize, Serialize};
use trainyard_api::{
    Failure, Time,
    runner::{EngineName, Exit},
};

use crate::learners::{first, is_first};

/// An event of a run's journal. New variants may be added; what stands here is never changed,
/// because old journals are read for ever.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// The run was accepted. Always the first event, and only the first.
    Submitted,
    /// The attempt was handed to an engine that has a queue of its own.
    Handed {
        /// Counts from 1.
        attempt: u32,
        /// Which engine.
        engine: EngineName,
        /// How many learners begin together, each with a runner of its own.
        #[serde(default = "first", skip_serializing_if = "is_first")]
        learners: u32,
    },
    /// The scheduler gave the attempt a place, and the engine is about to start its runner; or a runner
    /// that an engine's own queue has started says where it is.
    Placed {
        /// Counts from 1.
        attempt: u32,
        /// Where, in words for people.
        node: String,
        /// GPUs given to it.
        gpus: Vec<String>,
    },
    /// The engine could not start a runner.
    PlaceFailed {
        /// The attempt that was to be placed.
        attempt: u32,
        /// Why.
        message: String,
    },
    /// The attempt's runner has its work order; it stages in.
    Claimed {
        /// The attempt.
        attempt: u32,
    },
    /// A learner has staged in, and waits for the others.
    Ready {
        /// The attempt.
        attempt: u32,
        /// Where the others reach it.
        address: String,
        /// A port there that was free.
        port: u16,
    },
    /// The program was started.
    Started {
        /// The attempt.
        attempt: u32,
    },
    /// The program ended; its runner stores what it wrote.
    Exited {
        /// The attempt.
        attempt: u32,
        /// How it ended.
        exit: Exit,
        /// Why it failed, where that does not say it; what it says at its end counts more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<Failure>,
    },
    /// The runner stored what could be stored, and is done.
    Finished {
        /// The attempt.
        attempt: u32,
        /// Why the attempt failed; absent when all went well.
        failure: Option<Failure>,
    },
    /// The engine found that the attempt's runner is gone.
    Lost {
        /// The attempt.
        attempt: u32,
        /// How it was found out.
        message: String,
        /// What it was, where the engine knows: a code of [`trainyard_api::Code`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// The engine starts the run again, as a new attempt of the same job: its node failed, or somebody
    /// asked the engine to. The program runs anew.
    Requeued {
        /// The attempt that the job began with.
        job: u32,
        /// The attempt that begins: the one before it plus the number of restarts.
        attempt: u32,
        /// Why, in words.
        message: String,
    },
    /// The owner asked to cancel.
    CancelAsked,
    /// The owner asked to delete the run; a live run is canceled first.
    DeleteAsked,
}

impl Event {
    /// The attempt that the event speaks of.
    pub fn attempt(&self) -> Option<u32> {
        match self {
            Self::Handed { attempt, .. }
            | Self::Requeued { attempt, .. }
            | Self::Placed { attempt, .. }
            | Self::PlaceFailed { attempt, .. }
            | Self::Claimed { attempt }
            | Self::Ready { attempt, .. }
            | Self::Started { attempt }
            | Self::Exited { attempt, .. }
            | Self::Finished { attempt, .. }
            | Self::Lost { attempt, .. } => Some(*attempt),
            Self::Submitted | Self::CancelAsked | Self::DeleteAsked => None,
        }
    }
}

/// An event, when it happened, and for a runner's report its sequence number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamped {
    /// When it happened, by the clock of whoever saw it.
    pub at: Time,
    /// Sequence number within what the learner reports in the attempt; only reports have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Which learner's runner says so, from 1.
    #[serde(default = "first", skip_serializing_if = "is_first")]
    pub learner: u32,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}
