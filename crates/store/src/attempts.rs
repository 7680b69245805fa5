//! Tokens of attempts: only their hashes, and only the newest attempt's is worth anything.

use trainyard_api::{RunId, Time};
use trainyard_breakpoints::break_point;
use trainyard_sqlite::rusqlite::{Connection, OptionalExtension, params};

use crate::{Error, Store, hash_token};

/// The token of an attempt, hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptToken {
    /// The attempt, from 1.
    pub attempt: u32,
    /// SHA-256 of the token, in hexadecimal.
    pub hash: String,
}

pub(crate) fn keep(c: &Connection, run: &RunId, token: &AttemptToken) -> Result<(), Error> {
    c.prepare_cached("INSERT OR REPLACE INTO attempts VALUES (?1, ?2, ?3)")?.execute(params![
        run.as_str(),
        token.attempt,
        token.hash
    ])?;
    Ok(())
}

impl Store {
    /// Whether `token` is the one of this attempt.
    pub fn is_attempt(&self, run: &RunId, attempt: u32, token: &str) -> Result<bool, Error> {
        self.db.read(|c| {
            let mut query =
                c.prepare_cached("SELECT token_hash FROM attempts WHERE run = ?1 AND attempt = ?2")?;
            let kept: Option<String> =
                query.query_row(params![run.as_str(), attempt], |r| r.get(0)).optional()?;
            // Comparing hashes leaks nothing of use about the token.
            Ok(kept.is_some_and(|k| k == hash_token(token)))
        })
    }

    /// Keeps the token of an attempt that is placed without a queue.
    pub async fn keep_attempt(&self, run: &RunId, token: AttemptToken) -> Result<(), Error> {
        let run = run.clone();
        self.db.write(move |c| keep(c, &run, &token)).await?;
        break_point("store:attempt");
        Ok(())
    }

    /// Forgets the tokens of runs that ended before `limit`: no runner of theirs asks any more. Returns how many.
    pub async fn forget_attempts(&self, limit: Time) -> Result<usize, Error> {
        self.db
            .write(move |c| {
                let sql = "DELETE FROM attempts WHERE run IN (SELECT id FROM runs WHERE finished_at < ?1)";
                Ok(c.prepare_cached(sql)?.execute([limit.0])?)
            })
            .await
    }
}
