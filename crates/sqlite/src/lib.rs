//! An embedded SQLite database with one writer thread and group commit.
//!
//! Writes are closures sent to the one thread that owns the write connection. It runs as many as
//! are waiting inside one transaction, each in a savepoint of its own, and answers them after the
//! commit is on disk: one disk flush serves them all. Reads use read-only connections beside it.

mod error;
mod migrate;
mod readers;
mod writer;

use std::{path::Path, sync::Arc};

pub use error::Error;
pub use migrate::Migration;
pub use rusqlite;
use rusqlite::{Connection, OpenFlags, config::DbConfig};

use crate::{readers::Readers, writer::Writer};

/// Statements that a connection keeps: more than any of our databases asks, so that none is parsed twice.
const STATEMENTS: usize = 64;

/// Has a connection keep its statements, and the plan of each: without the second, a statement is parsed
/// again whenever a value is bound that could have led to another plan.
fn keep_statements(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// A handle to the database; clones share it.
#[derive(Clone)]
pub struct Database {
    writer: Writer,
    readers: Arc<Readers>,
}

impl Database {
    /// Opens or makes the database at `path` and brings its schema up to the last of `migrations`.
    pub fn open(path: &Path, migrations: &[Migration]) -> Result<Self, Error> {
        Self::open_with(path, |connection| migrate::run(connection, migrations))
    }

    /// Opens the database at `path`, whose schema has to be that of `migrations` already.
    pub fn open_as_it_is(path: &Path, migrations: &[Migration]) -> Result<Self, Error> {
        if !path.exists() {
            return Err(Error::Missing(path.display().to_string()));
        }
        Self::open_with(path, |connection| migrate::check(connection, migrations))
    }

    fn open_with(
        path: &Path,
        prepare: impl FnOnce(&mut Connection) -> Result<(), Error>,
    ) -> Result<Self, Error> {
        let mut connection = Connection::open(path)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;
             PRAGMA busy_timeout = 5000;
             PRAGMA cache_size = -4000;
             PRAGMA journal_size_limit = 16777216;",
        )?;
        prepare(&mut connection)?;
        keep_statements(&connection)?;
        let path = path.to_owned();
        let reader = move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&path, flags)?;
            keep_statements(&connection)?;
            connection.execute_batch(
                "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON; PRAGMA cache_size = -2000;",
            )?;
            Ok(connection)
        };
        Ok(Self { writer: Writer::start(connection), readers: Arc::new(Readers::new(Box::new(reader))) })
    }

    /// Runs `change` on the writer thread and returns once it is on disk. When it returns an
    /// error, nothing of it is kept.
    pub async fn write<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.writer.run(change).await
    }

    /// The same for a thread of its own, which waits.
    pub fn write_now<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.writer.run_now(change)
    }

    /// Runs a short query on this thread. For queries of microseconds; longer ones would hold up
    /// the runtime and belong into [`Database::read_long`].
    pub fn read<T, E: From<Error>>(&self, query: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        self.readers.with(query)
    }

    /// Runs a query that may take long on a thread of its own.
    pub async fn read_long<T, E, F>(&self, query: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let readers = Arc::clone(&self.readers);
        match tokio::task::spawn_blocking(move || readers.with(query)).await {
            Ok(result) => result,
            Err(_) => Err(Error::Panicked.into()),
        }
    }
}
