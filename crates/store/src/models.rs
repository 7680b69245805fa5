//! Stored models and their versions. Archives lie in files; here is which is whose.

use trainyard_api::{NewModel, RunId, Time, Uuid};
use trainyard_sqlite::rusqlite::{Connection, Row, params};

use crate::{
    Error, Store,
    rows::{Table, all, uuid},
};

/// How far the archive of a version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Archive {
    /// It is waited for: the client uploads it.
    Awaited,
    /// It is being copied out of a bucket.
    Copying,
    /// It is there.
    Kept {
        /// Its size in bytes.
        size: u64,
    },
    /// It could not be copied.
    Failed {
        /// Why.
        message: String,
    },
}

/// A stored model as it is kept, with one of its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelRecord {
    /// Its id.
    pub id: Uuid,
    /// Id of the version.
    pub version: Uuid,
    /// Counts models; the order of lists.
    pub number: i64,
    /// Whose it is.
    pub owner: String,
    /// When it was made.
    pub created_at: Time,
    /// When it last changed.
    pub modified_at: Time,
    /// As it came, without keys.
    pub body: NewModel,
    /// The run that the version came from.
    pub run: Option<RunId>,
    /// When the version was made.
    pub version_created_at: Time,
    /// How far the version's archive is.
    pub archive: Archive,
    /// Names the file of the archive.
    pub file: Uuid,
}

const TABLE: Table<ModelRecord> = Table {
    columns: "t.id, v.id, t.number, t.owner, t.created_at, t.modified_at, t.body, v.run, v.created_at, \
              v.state, v.message, v.size, v.file",
    tables: "models t JOIN model_versions v ON v.model = t.id",
    newest: "v.number = (SELECT number FROM model_versions WHERE model = t.id
                         ORDER BY state = 'initialized', number DESC LIMIT 1)",
    read: record,
};

fn record(row: &Row<'_>) -> Result<ModelRecord, Error> {
    let run: Option<String> = row.get(7)?;
    let state: String = row.get(9)?;
    let message: Option<String> = row.get(10)?;
    let size: Option<u64> = row.get(11)?;
    Ok(ModelRecord {
        id: uuid(row, 0)?,
        version: uuid(row, 1)?,
        number: row.get(2)?,
        owner: row.get(3)?,
        created_at: Time(row.get(4)?),
        modified_at: Time(row.get(5)?),
        body: serde_json::from_str(&row.get::<_, String>(6)?)?,
        run: run.and_then(|r| r.parse().ok()),
        version_created_at: Time(row.get(8)?),
        archive: match (state.as_str(), size) {
            ("initialized", _) => Archive::Awaited,
            ("persisting", _) => Archive::Copying,
            ("persisted", Some(size)) => Archive::Kept { size },
            _ => Archive::Failed { message: message.unwrap_or_default() },
        },
        file: uuid(row, 12)?,
    })
}

fn add_version(
    c: &Connection,
    version: Uuid,
    id: Uuid,
    run: Option<&RunId>,
    state: &str,
    at: Time,
) -> Result<(), Error> {
    let version = version.to_string();
    c.execute(
        "INSERT INTO model_versions (id, model, created_at, run, state, file) VALUES (?1, ?2, ?3, ?4, ?5, ?1)",
        params![version, id.to_string(), at.0, run.map(RunId::as_str), state],
    )?;
    Ok(())
}

impl Store {
    /// Keeps a new model with a version whose archive is being copied, or is waited for.
    pub async fn add_model(
        &self,
        owner: &str,
        body: &NewModel,
        run: Option<&RunId>,
        archive: Archive,
        at: Time,
    ) -> Result<ModelRecord, Error> {
        let (id, version) = (Uuid::new_v4(), Uuid::new_v4());
        let (owner, run) = (owner.to_owned(), run.cloned());
        let body = serde_json::to_string(body)?;
        self.db
            .write(move |c| {
                c.execute(
                    "INSERT INTO models (id, owner, created_at, modified_at, body) VALUES (?1, ?2, ?3, ?3, ?4)",
                    params![id.to_string(), owner, at.0, body],
                )?;
                add_version(c, version, id, run.as_ref(), archive.state(), at)
            })
            .await?;
        self.model(id)
    }

    /// Keeps a new version of a model, whose archive is waited for.
    pub async fn add_model_version(&self, id: Uuid, at: Time) -> Result<ModelRecord, Error> {
        let version = Uuid::new_v4();
        self.db
            .write(move |c| {
                c.execute("UPDATE models SET modified_at = ?2 WHERE id = ?1", params![id.to_string(), at.0])?;
                add_version(c, version, id, None, Archive::Awaited.state(), at)
            })
            .await?;
        self.model_version(version)
    }

    /// One model, with its newest version that has its archive or will have it, or the newest where none has.
    pub fn model(&self, id: Uuid) -> Result<ModelRecord, Error> {
        self.db.read(|c| TABLE.one(c, id))
    }

    /// The model that this is a version of, with it.
    pub fn model_version(&self, version: Uuid) -> Result<ModelRecord, Error> {
        self.db.read(|c| TABLE.version(c, version))
    }

    /// A model once with each version, newest first.
    pub async fn model_versions(&self, id: Uuid) -> Result<Vec<ModelRecord>, Error> {
        self.db.read_long(move |c| TABLE.versions(c, id)).await
    }

    /// Models of `owner` with their newest versions, newest first.
    pub async fn models(
        &self,
        owner: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<ModelRecord>, Error> {
        let owner = owner.to_owned();
        self.db.read_long(move |c| TABLE.newest(c, &owner, before, limit)).await
    }

    /// How many models `owner` has.
    pub fn count_models(&self, owner: &str) -> Result<u64, Error> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT count(*) FROM models WHERE owner = ?1")?;
            Ok(query.query_row([owner], |r| r.get(0))?)
        })
    }

    /// Versions whose archive was being copied when the server stopped.
    pub fn unfinished_models(&self) -> Result<Vec<ModelRecord>, Error> {
        let sql = format!("SELECT {} FROM {} WHERE v.state = 'persisting'", TABLE.columns, TABLE.tables);
        self.db.read(|c| all(c, &sql, [], record))
    }

    /// Notes how the archive of a version came out.
    pub async fn set_archive(&self, version: Uuid, archive: Archive, at: Time) -> Result<(), Error> {
        self.db
            .write(move |c| {
                let (message, size) = match &archive {
                    Archive::Kept { size } => (None, Some(*size)),
                    Archive::Failed { message } => (Some(message.as_str()), None),
                    Archive::Awaited | Archive::Copying => (None, None),
                };
                let changed = c.execute(
                    "UPDATE model_versions SET state = ?2, message = ?3, size = ?4 WHERE id = ?1",
                    params![version.to_string(), archive.state(), message, size],
                )?;
                c.execute(
                    "UPDATE models SET modified_at = ?2 WHERE id = (SELECT model FROM model_versions WHERE id = ?1)",
                    params![version.to_string(), at.0],
                )?;
                if changed == 1 { Ok(()) } else { Err(Error::NotFound) }
            })
            .await
    }

    /// Notes that the archive of a version has been uploaded, to the file called `file`. [`Error::Exists`]:
    /// the version has one already, or is being given one.
    pub async fn keep_upload(&self, version: Uuid, file: Uuid, size: u64, at: Time) -> Result<(), Error> {
        self.db
            .write(move |c| {
                let version = version.to_string();
                let changed = c.execute(
                    "UPDATE model_versions SET state = ?2, size = ?3, file = ?4
                     WHERE id = ?1 AND state = 'initialized'",
                    params![version, Archive::Kept { size }.state(), size, file.to_string()],
                )?;
                c.execute(
                    "UPDATE models SET modified_at = ?2 WHERE id = (SELECT model FROM model_versions WHERE id = ?1)",
                    params![version, at.0],
                )?;
                let mut find = c.prepare_cached("SELECT 1 FROM model_versions WHERE id = ?1")?;
                match (changed, find.exists([version])?) {
                    (1, _) => Ok(()),
                    (_, true) => Err(Error::Exists),
                    (_, false) => Err(Error::NotFound),
                }
            })
            .await
    }

    /// Whether a version has its archive in the file called `file`.
    pub async fn is_archive_needed(&self, file: Uuid) -> Result<bool, Error> {
        self.db
            .read_long(move |c| {
                let mut query = c.prepare_cached("SELECT 1 FROM model_versions WHERE file = ?1")?;
                Ok(query.exists([file.to_string()])?)
            })
            .await
    }

    /// Removes a model and its versions.
    pub async fn remove_model(&self, id: Uuid) -> Result<(), Error> {
        self.db
            .write(move |c| {
                c.execute("DELETE FROM models WHERE id = ?1", [id.to_string()])?;
                Ok(())
            })
            .await
    }
}

impl Archive {
    /// The word used on the wire.
    pub fn state(&self) -> &'static str {
        match self {
            Self::Awaited => "initialized",
            Self::Copying => "persisting",
            Self::Kept { .. } => "persisted",
            Self::Failed { .. } => "persisting_failed",
        }
    }
}
