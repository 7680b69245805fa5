//! The way to Slurm.

use super::{listing::Listed, script::JobRequest};

/// Why Slurm did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TransportError {
    /// It will not: another try would change nothing.
    #[error("{0}")]
    Rejected(String),
    /// It did not answer, or not now. Whether it has done it is not known.
    #[error("{0}")]
    Unknown(String),
}

/// Each verb is one call, for as many jobs as there are.
#[async_trait::async_trait]
pub(crate) trait Transport: Send + Sync {
    /// Submits a job; returns its number. Leaves nothing behind where it is rejected.
    async fn submit(&self, job: &JobRequest) -> Result<u64, TransportError>;

    /// All jobs that Slurm's controller knows, of this user at least.
    async fn list(&self) -> Result<Vec<Listed>, TransportError>;

    /// What the cluster's accounting knows of the jobs of these names; nothing where there is none.
    async fn history(&self, names: &[String]) -> Result<Vec<Listed>, TransportError>;

    /// Takes those of these jobs out of the queue that are in it. Others are left alone.
    async fn withdraw(&self, jobs: &[u64]) -> Result<(), TransportError>;

    /// Sends TERM to the runners of those of these jobs that run. The jobs go on.
    async fn nudge(&self, jobs: &[u64]) -> Result<(), TransportError>;
}
