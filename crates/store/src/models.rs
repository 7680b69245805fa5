//! Stored models. Their archives lie in files named by id.

use serde::{Deserialize, Serialize};
use trainyard_api::{Framework, RunId, Time, Uuid};
use trainyard_sqlite::rusqlite::{Row, params};

use crate::{Error, Store, rows};

/// A stored model as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRecord {
    /// Its id.
    pub id: Uuid,
    /// Id of its only version.
    pub version: Uuid,
    /// Counts models; the order of lists.
    pub number: i64,
    /// Whose it is.
    pub owner: String,
    /// When it was made.
    pub created_at: Time,
    /// When its state last changed.
    pub modified_at: Time,
    /// The run it came from.
    pub run: Option<RunId>,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// The framework of the run.
    pub framework: Framework,
    /// `persisting`, `persisted` or `persisting_failed`.
    pub state: String,
    /// Why it failed.
    pub message: Option<String>,
    /// Bytes of the archive, once it is there.
    pub size: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    name: String,
    description: Option<String>,
    framework: Framework,
}

const SELECT: &str =
    "SELECT id, version, number, owner, created_at, modified_at, run, body, state, message, size FROM models";

fn record(row: &Row<'_>) -> Result<ModelRecord, Error> {
    let uuid = |text: String| text.parse().map_err(|_| Error::Record(format!("{text} is not a UUID")));
    let body: Body = serde_json::from_str(&row.get::<_, String>(7)?)?;
    let run: Option<String> = row.get(6)?;
    Ok(ModelRecord {
        id: uuid(row.get(0)?)?,
        version: uuid(row.get(1)?)?,
        number: row.get(2)?,
        owner: row.get(3)?,
        created_at: Time(row.get(4)?),
        modified_at: Time(row.get(5)?),
        run: run.and_then(|r| r.parse().ok()),
        name: body.name,
        description: body.description,
        framework: body.framework,
        state: row.get(8)?,
        message: row.get(9)?,
        size: row.get(10)?,
    })
}

impl Store {
    /// Keeps a model whose archive is being made.
    pub async fn add_model(
        &self,
        owner: &str,
        run: &RunId,
        name: String,
        description: Option<String>,
        framework: Framework,
        at: Time,
    ) -> Result<ModelRecord, Error> {
        let (id, version) = (Uuid::new_v4(), Uuid::new_v4());
        let (owner, run) = (owner.to_owned(), run.clone());
        let body = serde_json::to_string(&Body { name, description, framework })?;
        self.db
            .write(move |c| {
                c.execute(
                    "INSERT INTO models (id, version, owner, created_at, modified_at, run, body, state)
                     VALUES (?1, ?2, ?3, ?4, ?4, ?5, ?6, 'persisting')",
                    params![id.to_string(), version.to_string(), owner, at.0, run.as_str(), body],
                )?;
                Ok::<_, Error>(())
            })
            .await?;
        self.model(id)
    }

    /// One model.
    pub fn model(&self, id: Uuid) -> Result<ModelRecord, Error> {
        self.db.read(|c| rows::one(c, SELECT, &id.to_string(), record))
    }

    /// Models of `owner`, newest first.
    pub async fn models(
        &self,
        owner: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ModelRecord>, Error> {
        let owner = owner.to_owned();
        self.db.read_long(move |c| rows::newest(c, SELECT, &owner, before, limit, record)).await
    }

    /// Models whose archive was being made when the server stopped.
    pub fn unfinished_models(&self) -> Result<Vec<ModelRecord>, Error> {
        let sql = format!("{SELECT} WHERE state = 'persisting'");
        self.db.read(|c| rows::all(c, &sql, [], record))
    }

    /// Notes how the archive came out: its size, or why there is none.
    pub async fn finish_model(&self, id: Uuid, result: Result<u64, String>, at: Time) -> Result<(), Error> {
        let (state, message, size) = match result {
            Ok(size) => ("persisted", None, Some(size)),
            Err(message) => ("persisting_failed", Some(message), None),
        };
        self.db
            .write(move |c| {
                c.execute(
                    "UPDATE models SET state = ?2, message = ?3, size = ?4, modified_at = ?5 WHERE id = ?1",
                    params![id.to_string(), state, message, size, at.0],
                )?;
                Ok(())
            })
            .await
    }

    /// Removes a model.
    pub async fn remove_model(&self, id: Uuid) -> Result<(), Error> {
        self.db
            .write(move |c| {
                c.execute("DELETE FROM models WHERE id = ?1", [id.to_string()])?;
                Ok(())
            })
            .await
    }
}
