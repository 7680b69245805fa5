//! Failures of the embedded store, and how S3 names them.

use s3s::{S3Error, S3ErrorCode};

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The index cannot be opened.
    #[error(transparent)]
    Index(#[from] trainyard_sqlite::Error),
}

/// A failure inside a change of the index: an answer for the client, or the database's own.
#[derive(Debug)]
pub(crate) enum Failure {
    S3(S3Error),
    Index(trainyard_sqlite::Error),
}

impl From<trainyard_sqlite::Error> for Failure {
    fn from(error: trainyard_sqlite::Error) -> Self {
        Self::Index(error)
    }
}

impl From<trainyard_sqlite::rusqlite::Error> for Failure {
    fn from(error: trainyard_sqlite::rusqlite::Error) -> Self {
        Self::Index(error.into())
    }
}

impl From<S3Error> for Failure {
    fn from(error: S3Error) -> Self {
        Self::S3(error)
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::S3(S3Error::internal_error(error))
    }
}

impl From<Failure> for S3Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::S3(error) => error,
            Failure::Index(error) => {
                tracing::error!(%error, "object index failed");
                if matches!(error, trainyard_sqlite::Error::Disk(_)) {
                    full()
                } else {
                    S3Error::internal_error(error)
                }
            }
        }
    }
}

/// A file of the store cannot be read or written.
pub(crate) fn io_error(doing: &str, error: &std::io::Error) -> S3Error {
    tracing::error!(%error, "{doing} failed");
    // ENOSPC, EDQUOT
    if matches!(error.raw_os_error(), Some(28 | 122)) {
        return full();
    }
    S3Error::with_message(S3ErrorCode::InternalError, "the object store cannot use its files")
}

fn full() -> S3Error {
    let message = "the disk of the object store is full or cannot be written";
    let mut answer = S3Error::with_message(S3ErrorCode::InternalError, message);
    answer.set_status_code(hyper::StatusCode::INSUFFICIENT_STORAGE);
    answer
}

pub(crate) fn no_such_bucket(bucket: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchBucket, format!("the bucket {bucket} does not exist"))
}

pub(crate) fn no_such_key(key: &str) -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchKey, format!("the key {key} does not exist"))
}

pub(crate) fn no_such_upload() -> S3Error {
    S3Error::with_message(S3ErrorCode::NoSuchUpload, "the multipart upload does not exist")
}
