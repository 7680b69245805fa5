//! What can go wrong.

/// The store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such thing.
    #[error("not found")]
    NotFound,
    /// There is one of that id already.
    #[error("exists already")]
    Exists,
    /// The database failed.
    #[error(transparent)]
    Database(#[from] trainyard_sqlite::Error),
    /// A record cannot be read.
    #[error("a record cannot be read: {0}")]
    Record(String),
    /// The sealed secrets cannot be opened: the key is not the one they were sealed with.
    #[error(
        "sealed secrets cannot be opened: the key file is not the one that this data folder was made with"
    )]
    Sealed,
}

impl From<trainyard_sqlite::rusqlite::Error> for Error {
    fn from(error: trainyard_sqlite::rusqlite::Error) -> Self {
        use trainyard_sqlite::rusqlite::{Error as Sql, ErrorCode::ConstraintViolation};
        match error {
            Sql::QueryReturnedNoRows => Self::NotFound,
            e if e.sqlite_error_code() == Some(ConstraintViolation) => Self::Exists,
            e => Self::Database(e.into()),
        }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Record(error.to_string())
    }
}
