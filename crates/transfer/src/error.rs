//! What can go wrong between here and an object store.

use trainyard_api::{Code, Problem};

use crate::BadName;

/// A transfer failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The endpoint is not a URL of a host.
    #[error("`{0}` is not the address of an S3 endpoint")]
    BadEndpoint(String),
    /// Nothing answered.
    #[error("{endpoint} cannot be reached: {cause}")]
    Unreachable {
        /// Scheme, host and port.
        endpoint: String,
        /// The chain of causes.
        cause: String,
    },
    /// The store answered with an error.
    #[error("{what}: the object store answered {status} {code}{}", if message.is_empty() { String::new() } else { format!(": {message}") })]
    Answer {
        /// What was asked for: `bucket data`, `data/images.gz`.
        what: String,
        /// HTTP status.
        status: u16,
        /// S3's name for the error; the status text when there was none.
        code: String,
        /// S3's sentence.
        message: String,
    },
    /// The connection broke in the middle of an answer.
    #[error("{what}: the connection broke off: {cause}")]
    Broken {
        /// The object.
        what: String,
        /// The chain of causes.
        cause: String,
    },
    /// The bytes are not the ones that the store has.
    #[error("{what}: {expected} expected, {found} found")]
    Corrupt {
        /// The object.
        what: String,
        /// What the store said.
        expected: String,
        /// What came.
        found: String,
    },
    /// The object changed while it was fetched, again and again where that was tried again.
    #[error("{0} was changed in the bucket while it was being fetched")]
    Changed(String),
    /// The store's XML could not be read.
    #[error("{what}: the answer of the object store could not be read: {cause}")]
    Unreadable {
        /// What was asked for.
        what: String,
        /// Why.
        cause: String,
    },
    /// Object names that cannot be files.
    #[error("{}", list_names(.0))]
    Names(Vec<BadName>),
    /// The bucket's guard does not allow it now.
    #[error("{what} is not changed: {why}")]
    Withheld {
        /// The object.
        what: String,
        /// What the guard says.
        why: String,
    },
    /// A file here cannot be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Names that are said in full; past that, their number.
const NAMES_SAID: usize = 5;

fn list_names(names: &[BadName]) -> String {
    let said: Vec<String> = names.iter().take(NAMES_SAID).map(ToString::to_string).collect();
    let more = names.len().saturating_sub(NAMES_SAID);
    let tail = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!(
        "nothing was fetched, because the bucket holds objects that cannot be files: {}{tail}",
        said.join("; ")
    )
}

impl Error {
    pub(crate) fn file(path: &std::path::Path, source: std::io::Error) -> Self {
        Self::File { path: path.display().to_string(), source }
    }

    /// Whether another try may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Broken { .. } | Self::Corrupt { .. } | Self::Withheld { .. } => {
                true
            }
            Self::Answer { status, code, .. } => {
                // A full store too: somebody will make room, and results exist only once.
                // Some say 200 first, and the error in the body.
                matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504 | 507)
                    || matches!(
                        code.as_str(),
                        "RequestTimeout" | "BadDigest" | "InternalError" | "SlowDown" | "ServiceUnavailable"
                    )
            }
            _ => false,
        }
    }

    /// Whether doing all of it anew may help: what was begun in the store is gone.
    pub fn is_worth_repeating(&self) -> bool {
        self.is_transient() || matches!(self, Self::Answer { code, .. } if code == "NoSuchUpload")
    }

    /// Whether what was listed is not there any more as it was: another version of it is, or none.
    pub fn is_moved(&self) -> bool {
        match self {
            Self::Changed(_) => true,
            Self::Answer { status: 404, code, .. } => code != "NoSuchBucket",
            _ => false,
        }
    }

    /// Whether the disk here is full.
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::File { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// Whether the store said that the bucket is missing.
    pub fn is_no_bucket(&self) -> bool {
        matches!(self, Self::Answer { code, .. } if code == "NoSuchBucket")
    }

    /// Whether the store said that the object is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Answer { status: 404, .. })
    }

    /// The error as one for users, with its code and what helps.
    pub fn problem(&self) -> Problem {
        let message = self.to_string();
        match self {
            Self::BadEndpoint(_) => Problem::new(Code::StoreEndpoint, message)
                .hint("`endpoint_url` looks like https://s3.example.net or http://127.0.0.1:9000"),
            Self::Unreachable { .. } | Self::Broken { .. } => Problem::new(Code::StoreEndpoint, message)
                .hint("check `endpoint_url`, and that this machine can reach it"),
            Self::Answer { status, code, .. } => match code.as_str() {
                "NoSuchBucket" => {
                    Problem::new(Code::StoreBucket, message).hint("create the bucket, or correct its name")
                }
                "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied" | "InvalidToken" => {
                    Problem::new(Code::StoreCredentials, message).hint(
                        "check `access_key_id` and `secret_access_key`, and that they may use this bucket",
                    )
                }
                _ if matches!(status, 401 | 403) => Problem::new(Code::StoreCredentials, message),
                _ if *status == 404 => Problem::new(Code::StoreBucket, message),
                _ => Problem::new(Code::StoreAnswer, message),
            },
            Self::Names(_) => Problem::new(Code::StageIn, message).hint("rename or remove these objects"),
            Self::File { .. } => Problem::new(Code::LocalFile, message),
            _ => Problem::new(Code::StoreAnswer, message),
        }
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
