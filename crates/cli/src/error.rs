//! Errors of the command line: problems with codes, manifest reports, and the reader being gone.

use trainyard_api::{Code, Problem};
use trainyard_client::Failed;
use trainyard_manifest::Report;

/// Why a verb did not do its work.
#[derive(Debug)]
pub enum Error {
    /// What the user or the world did.
    Problems(Vec<Problem>),
    /// The manifest has problems.
    Manifest(Report),
    /// Whoever read our output has stopped reading: nothing is left to say.
    Closed,
    /// A verb has said everything itself; only the exit code is left.
    Exit(u8),
}

impl Error {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self::Problems(vec![Problem::new(code, message)])
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::new(Code::LocalFile, format!("{}: {error}", path.display()))
    }

    /// Exit code of the process.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Problems(problems) => problems.first().map_or(1, |p| p.code.exit_code()),
            Self::Manifest(_) => Code::Manifest.exit_code(),
            Self::Closed => 0,
            Self::Exit(code) => *code,
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        Self::Problems(failed.0)
    }
}

impl From<Report> for Error {
    fn from(report: Report) -> Self {
        Self::Manifest(report)
    }
}
