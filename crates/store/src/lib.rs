//! What the server remembers: runs and their journals, definitions, models, users.
//!
//! [`Store`] is SQLite now. Its methods speak of runs, never of SQL, so that another database
//! can stand behind the same ones. Secrets are sealed before they are written.

mod attempts;
mod definitions;
mod error;
mod models;
mod rows;
mod runs;
mod schema;
mod seal;
mod spec;
mod tokens;
mod users;

use std::path::Path;

use trainyard_sqlite::Database;

pub use attempts::AttemptToken;
pub use definitions::DefinitionRecord;
pub use error::Error;
pub use models::{Archive, ModelRecord};
pub use runs::{Applied, Record, ToRemove, Which};
pub use seal::Sealer;
pub use spec::Spec;
pub use tokens::{Caller, hash_token};
pub use trainyard_sqlite::Error as DatabaseError;
pub use users::User;

/// The server's memory. Clones share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) db: Database,
    pub(crate) sealer: Sealer,
}

impl Store {
    /// Opens or makes the database at `path`; `sealer` holds the key that secrets are sealed with.
    pub fn open(path: &Path, sealer: Sealer) -> Result<Self, Error> {
        Ok(Self { db: Database::open(path, schema::MIGRATIONS)?, sealer })
    }

    /// Opens the database at `path`, which has to be there with the schema of this release: a server may
    /// be using it.
    pub fn open_as_it_is(path: &Path, sealer: Sealer) -> Result<Self, Error> {
        Ok(Self { db: Database::open_as_it_is(path, schema::MIGRATIONS)?, sealer })
    }

    /// Reads something, to see whether that works.
    pub fn is_readable(&self) -> Result<(), Error> {
        self.caller("").map(|_| ())
    }
}
