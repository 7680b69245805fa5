//! Read-only connections, made when they are needed and kept for the next reader.

use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;

use crate::Error;

type Open = Box<dyn Fn() -> Result<Connection, rusqlite::Error> + Send + Sync>;

/// Connections kept for reuse; more are opened under load and closed again after it.
const KEPT: usize = 4;

pub(crate) struct Readers {
    open: Open,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(open: Open) -> Self {
        Self { open, idle: Mutex::new(Vec::new()) }
    }

    pub(crate) fn with<T, E: From<Error>>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => (self.open)().map_err(Error::from)?,
        };
        let result = query(&connection);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
        result
    }
}
