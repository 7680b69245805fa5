//! The engine trait.

use std::time::Duration;

use trainyard_api::{
    Code, RunId,
    runner::{Demand, JobOptions, Purpose, Ticket},
};

/// An attempt, as engines know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttemptRef {
    /// The run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The attempt that the engine's job began with: later ones are its restarts. 0 on an engine without
    /// jobs.
    pub job: u32,
}

/// A runner to start.
#[derive(Clone, Debug)]
pub struct Placement {
    /// What the runner is told: where its server is, and who it is. Where the engine has jobs, its attempt
    /// is the job's first, and its token the pass with which each start of the job asks for its own.
    pub ticket: Ticket,
    /// Whose run it is.
    pub owner: String,
    /// Train, or store what is left.
    pub purpose: Purpose,
    /// What each learner needs of a node.
    pub demand: Demand,
    /// How many learners the attempt has: so many runners, each on a node of its own, all or none.
    pub learners: u32,
    /// How the engine's job is asked for, where it has jobs.
    pub options: JobOptions,
    /// The node, or several as Slurm lists them, of an earlier attempt whose files this one goes on with; absent
    /// where there are none.
    pub node: Option<String>,
}

/// An attempt, and what the server knows of its runner.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Which.
    pub at: AttemptRef,
    /// Its runner has shown up.
    pub boarded: bool,
    /// Its runner has been told what to do: where it is gone, something may be left of it.
    pub claimed: bool,
    /// A server before this one placed it: what that one had begun, nobody goes on with.
    pub adopted: bool,
    /// How long nothing was heard of its runner; where it has not shown up, since it was handed in, or since
    /// the server began.
    pub silence: Duration,
}

/// What an engine knows about an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its runner waits or works, or nothing else is known.
    Alive,
    /// Its runner is gone.
    Gone {
        /// In words, how.
        message: String,
        /// What it was, where the engine knows.
        code: Option<Code>,
    },
    /// The engine has no job for it: it never had, or has forgotten it. No runner came of it.
    Missing,
    /// Somebody took it back before its runner came; in words, who and how.
    Withdrawn(String),
    /// The engine starts it again.
    Requeued {
        /// How often the job was started anew so far.
        restarts: u32,
        /// Why, in words.
        message: String,
    },
}

/// What a run that is over may have left on its nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// How many attempts it had.
    pub attempts: u32,
    /// How many learners each had.
    pub learners: u32,
    /// It was stored nowhere, and is put aside.
    pub keep: bool,
}

/// What is left of a run where its engine sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remains {
    /// Whose it is.
    pub run: RunId,
    /// The run was surely this server's. Otherwise it may be another's that works in the same folder.
    pub is_ours: bool,
}

/// The engine will not start this runner. Nothing of the attempt is left behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SubmitError(pub String);

/// Places runners somewhere. All verbs may be called again for the same attempt.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    /// Starts the runner of an attempt, or puts it into the engine's queue. Where it is not known whether
    /// that went well this is no error: [`Engine::poll`] finds out.
    async fn submit(&self, placement: &Placement) -> Result<(), SubmitError>;

    /// What is known of `attempts`, in their order, asked for in one go.
    async fn poll(&self, attempts: &[Watched]) -> Vec<Condition>;

    /// Takes an attempt out of the engine's queue, or has its runner ask the server what to do.
    async fn stop(&self, attempt: &AttemptRef);

    /// What an attempt in the engine's queue waits for, in words.
    fn explain(&self, attempt: &AttemptRef) -> Option<String>;

    /// Throws away what the run left on its nodes, once its runners are gone.
    async fn clean(&self, run: &RunId, left: Left);

    /// Runs that have left something where this engine sees it, and have no runner there now: those that are
    /// over are to be cleaned.
    async fn left(&self) -> Vec<Remains>;
}
