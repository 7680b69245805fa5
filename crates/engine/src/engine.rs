//! The engine trait.

use trainyard_api::{RunId, runner::Ticket};

/// An attempt, as engines know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttemptRef {
    /// The run.
    pub run: RunId,
    /// The attempt, from 1.
    pub attempt: u32,
}

/// A runner to start.
#[derive(Clone, Debug)]
pub struct Placement {
    /// What the runner is told: where its server is, and who it is.
    pub ticket: Ticket,
}

/// What an engine knows about an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its runner works, or is about to.
    Alive,
    /// Its runner is gone; in words, how.
    Gone(String),
}

/// The engine could not start a runner. Nothing of the attempt is left behind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SubmitError(pub String);

/// Places runners somewhere. All verbs may be called again for the same attempt.
#[async_trait::async_trait]
pub trait Engine: Send + Sync {
    /// Starts the runner of an attempt.
    async fn submit(&self, placement: &Placement) -> Result<(), SubmitError>;

    /// What is known of `attempts`, in their order.
    async fn poll(&self, attempts: &[AttemptRef]) -> Vec<Condition>;

    /// Nudges the runner of an attempt, so that it asks its server what to do.
    async fn nudge(&self, attempt: &AttemptRef);

    /// Throws away what the run left on its node.
    async fn clean(&self, run: &RunId);
}
