//! Tokens of users: only their hashes are kept.

use sha2::{Digest, Sha256};
use trainyard_api::Time;
use trainyard_sqlite::rusqlite::{OptionalExtension, params};

use crate::{Error, Store};

/// Who a token belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The user's name.
    pub owner: String,
    /// May do what administrators may.
    pub admin: bool,
    /// The user's generation now.
    pub generation: u64,
}

/// SHA-256 of a token, in hexadecimal. Tokens are 256 random bits, so no slow hash is needed.
pub fn hash_token(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

impl Store {
    /// The owner of `token`.
    pub fn caller(&self, token: &str) -> Result<Option<Caller>, Error> {
        self.db.read(|c| {
            let mut query = c.prepare_cached(
                "SELECT t.owner, t.admin, u.generation FROM tokens t JOIN users u ON u.name = t.owner
                 WHERE t.hash = ?1",
            )?;
            let found = query.query_row([hash_token(token)], |r| {
                Ok(Caller { owner: r.get(0)?, admin: r.get(1)?, generation: r.get(2)? })
            });
            Ok(found.optional()?)
        })
    }

    /// Accepts `token` as the user's from now on.
    pub async fn add_token(&self, token: &str, owner: &str, admin: bool, at: Time) -> Result<(), Error> {
        let (hash, owner) = (hash_token(token), owner.to_owned());
        self.db
            .write(move |c| {
                c.execute(
                    "INSERT OR REPLACE INTO tokens VALUES (?1, ?2, ?3, ?4)",
                    params![hash, owner, admin, at.0],
                )?;
                Ok(())
            })
            .await
    }
}
