//! What can go wrong below the queries themselves.

/// A failure of the database.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// SQLite refused or failed.
    #[error("database: {0}")]
    Sqlite(String),
    /// The disk is full or cannot be written.
    #[error("database: the disk is full or cannot be written: {0}")]
    Disk(String),
    /// The file was written by a newer release.
    #[error(
        "the database has schema {found}, this release knows up to {known}: use the newer release, or another data folder"
    )]
    Newer {
        /// Schema number in the file.
        found: u32,
        /// Newest number known here.
        known: u32,
    },
    /// The file was written by an older release.
    #[error(
        "the database has schema {found}, this release has {known}: start the server of this release once"
    )]
    Older {
        /// Schema number in the file.
        found: u32,
        /// Number of this release.
        known: u32,
    },
    /// There is no database.
    #[error("there is no database {0}")]
    Missing(String),
    /// A migration that already ran has another text now.
    #[error("migration {number} in the database differs from the one in this release")]
    Changed {
        /// Its number.
        number: u32,
    },
    /// A closure panicked; its change was undone.
    #[error("database: a query panicked")]
    Panicked,
    /// The writer thread has ended.
    #[error("database: closed")]
    Closed,
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode::{CannotOpen, DiskFull, ReadOnly, SystemIoFailure};
        match error.sqlite_error_code() {
            Some(DiskFull | SystemIoFailure | CannotOpen | ReadOnly) => Self::Disk(error.to_string()),
            _ => Self::Sqlite(error.to_string()),
        }
    }
}
