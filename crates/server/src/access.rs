//! Asks the object store, at submit, whether the buckets are there and the keys are right.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use trainyard_api::{Code, Connection, Problem};
use trainyard_transfer::{Bucket, Http};

/// How long a good answer is believed: thousands of runs of one user do not ask thousands of times.
const BELIEVED: Duration = Duration::from_secs(30);
/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(10);

type Key = [u8; 32];

/// What a bucket is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Read only.
    Data,
    /// Written to: a run that cannot store what it has learned should not begin.
    Results,
}

/// Good answers of late.
#[derive(Default)]
pub(crate) struct Access {
    good: Mutex<HashMap<Key, Instant>>,
}

impl Access {
    /// Refuses a bucket that cannot be used for what it is for.
    pub(crate) async fn check(
        &self,
        http: &Http,
        role: Role,
        connection: &Connection,
        bucket: &str,
    ) -> Result<(), Problem> {
        let key = key(role, connection, bucket);
        if self
            .good
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .is_some_and(|t| t.elapsed() < BELIEVED)
        {
            return Ok(());
        }
        let name = if role == Role::Data { "data" } else { "results" };
        let named = |p: Problem| Problem { message: format!("the {name} bucket: {}", p.message), ..p };
        let target = Bucket::new(http, connection, bucket).map_err(|e| named(e.problem()))?;
        let asked = async {
            target.check().await?;
            if role == Role::Results { target.check_write().await } else { Ok(()) }
        };
        if let Ok(result) = tokio::time::timeout(ANSWER, asked).await {
            result.map_err(|e| named(e.problem()))?;
        } else {
            let message = format!("the {name} bucket: {} did not answer within 10 s", target.endpoint());
            return Err(Problem::new(Code::StoreEndpoint, message));
        }
        let mut good = self.good.lock().unwrap_or_else(PoisonError::into_inner);
        good.retain(|_, t| t.elapsed() < BELIEVED);
        good.insert(key, Instant::now());
        Ok(())
    }
}

fn key(role: Role, connection: &Connection, bucket: &str) -> Key {
    let mut hash = Sha256::new();
    hash.update([u8::from(role == Role::Results)]);
    for text in
        [&connection.endpoint_url, &connection.access_key_id, connection.secret_access_key.expose(), bucket]
    {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash.finalize().into()
}
