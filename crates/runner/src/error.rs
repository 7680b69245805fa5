//! What can go wrong in an attempt, and which reason code a run gets from it.

use trainyard_api::{Code, Failure};
use trainyard_definition as definition;
use trainyard_environment::MakeError;
use trainyard_transfer as transfer;

/// An attempt cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the run cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// Another runner works in this folder.
    #[error("another runner holds the lock of this run")]
    Locked,
    /// The server refuses this attempt: another one took its place.
    #[error("this attempt is over: {0}")]
    Fenced(String),
    /// Data could not be fetched.
    #[error("{0}")]
    StageIn(transfer::Error),
    /// Results could not be stored.
    #[error("{0}")]
    StageOut(transfer::Error),
    /// The definition could not be fetched or unpacked.
    #[error("{0}")]
    Definition(definition::Error),
    /// The definition that came is not the one that was ordered.
    #[error("the definition that came has another checksum than the one that was stored")]
    WrongDefinition,
    /// The environment could not be made.
    #[error("{0}")]
    Environment(MakeError),
    /// The program could not be started.
    #[error("the program cannot be started: {0}")]
    Start(std::io::Error),
    /// The owner canceled the run.
    #[error("the run was canceled")]
    Canceled,
    /// Another learner failed: this one is to end its program. Said by the server, in words.
    #[error("{0}; this one is ended")]
    Ended(String),
    /// The node has no munge to prove with whose job this is.
    #[error("{0}; install munge on the nodes, or share a folder with them")]
    Munge(trainyard_munge::Error),
    /// The runners of the other learners could not be started, or their step of the job ended.
    #[error("the runners of the other learners cannot go on: {0}")]
    Others(String),
    /// The job is about to reach its engine's time limit.
    #[error("the job is about to reach its time limit on the cluster")]
    TimeLimit,
    /// The node wants the runner to go.
    #[error("the node asked the runner to stop")]
    NodeStopped,
}

impl Error {
    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    /// Why the run failed; `None` when it did not fail of this.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let code = match self {
            Self::Canceled | Self::Fenced(_) | Self::Ended(_) => return None,
            Self::File { .. } | Self::Locked => Code::Internal,
            Self::StageIn(_) => Code::StageIn,
            Self::StageOut(_) => Code::StageOut,
            Self::Definition(_) | Self::WrongDefinition => Code::Unpack,
            Self::Environment(_) => Code::Environment,
            Self::Start(_) => Code::ProgramStart,
            Self::Others(_) | Self::Munge(_) => Code::RunnerLost,
            Self::TimeLimit => Code::TimeLimit,
            Self::NodeStopped => Code::NodeStopped,
        };
        Some(failure(code, self.to_string()))
    }
}

pub(crate) fn failure(code: Code, message: String) -> Failure {
    Failure { code: code.as_str().to_owned(), message, exit_code: None, signal: None }
}
