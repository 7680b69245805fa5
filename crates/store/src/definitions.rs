//! Training definitions and their versions. Zips lie in files named by content; here is which is whose.

use trainyard_api::{NewDefinition, Time, Uuid, runner::Package};
use trainyard_sqlite::rusqlite::{Connection, Row, params};

use crate::{
    Error, Store,
    rows::{Table, uuid},
};

/// A definition as it is kept, with one of its versions.
#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionRecord {
    /// Its id.
    pub id: Uuid,
    /// Id of the version.
    pub version: Uuid,
    /// Counts definitions; the order of lists.
    pub number: i64,
    /// Whose it is.
    pub owner: String,
    /// When it was made.
    pub created_at: Time,
    /// When it last changed.
    pub modified_at: Time,
    /// As it came.
    pub body: NewDefinition,
    /// When the version was made.
    pub version_created_at: Time,
    /// The version's zip, when it is there.
    pub content: Option<Package>,
}

const TABLE: Table<DefinitionRecord> = Table {
    columns: "t.id, v.id, t.number, t.owner, t.created_at, t.modified_at, v.body, v.created_at, v.sha256, v.size",
    tables: "definitions t JOIN definition_versions v ON v.definition = t.id",
    newest: "v.number = (SELECT number FROM definition_versions WHERE definition = t.id
                         ORDER BY sha256 IS NULL, number DESC LIMIT 1)",
    read: record,
};

fn record(row: &Row<'_>) -> Result<DefinitionRecord, Error> {
    let sha256: Option<String> = row.get(8)?;
    let size: Option<u64> = row.get(9)?;
    Ok(DefinitionRecord {
        id: uuid(row, 0)?,
        version: uuid(row, 1)?,
        number: row.get(2)?,
        owner: row.get(3)?,
        created_at: Time(row.get(4)?),
        modified_at: Time(row.get(5)?),
        body: serde_json::from_str(&row.get::<_, String>(6)?)?,
        version_created_at: Time(row.get(7)?),
        content: sha256.zip(size).map(|(sha256, size)| Package { sha256, size }),
    })
}

fn add_version(c: &Connection, version: Uuid, id: Uuid, at: Time, body: &str) -> Result<(), Error> {
    let sql = "INSERT INTO definition_versions (id, definition, created_at, body) VALUES (?1, ?2, ?3, ?4)";
    c.prepare_cached(sql)?.execute(params![version.to_string(), id.to_string(), at.0, body])?;
    Ok(())
}

impl Store {
    /// Keeps a new definition with a version, without its zip.
    pub async fn add_definition(
        &self,
        owner: &str,
        body: NewDefinition,
        at: Time,
    ) -> Result<DefinitionRecord, Error> {
        let (id, version) = (Uuid::new_v4(), Uuid::new_v4());
        let (owner, text) = (owner.to_owned(), serde_json::to_string(&body)?);
        self.db
            .write(move |c| {
                c.prepare_cached(
                    "INSERT INTO definitions (id, owner, created_at, modified_at) VALUES (?1, ?2, ?3, ?3)",
                )?
                .execute(params![id.to_string(), owner, at.0])?;
                add_version(c, version, id, at, &text)
            })
            .await?;
        self.definition_version(version)
    }

    /// Keeps a new version of a definition, without its zip; `body` is what it is from this version on.
    pub async fn add_definition_version(
        &self,
        id: Uuid,
        body: NewDefinition,
        at: Time,
    ) -> Result<DefinitionRecord, Error> {
        let (version, text) = (Uuid::new_v4(), serde_json::to_string(&body)?);
        self.db
            .write(move |c| {
                c.prepare_cached("UPDATE definitions SET modified_at = ?2 WHERE id = ?1")?
                    .execute(params![id.to_string(), at.0])?;
                add_version(c, version, id, at, &text)
            })
            .await?;
        self.definition_version(version)
    }

    /// One definition, with its newest version that has its zip, or the newest where none has.
    pub fn definition(&self, id: Uuid) -> Result<DefinitionRecord, Error> {
        self.db.read(|c| TABLE.one(c, id))
    }

    /// The definition that this is a version of, with it.
    pub fn definition_version(&self, version: Uuid) -> Result<DefinitionRecord, Error> {
        self.db.read(|c| TABLE.version(c, version))
    }

    /// A definition once with each version, newest first.
    pub async fn definition_versions(&self, id: Uuid) -> Result<Vec<DefinitionRecord>, Error> {
        self.db.read_long(move |c| TABLE.versions(c, id)).await
    }

    /// Definitions of `owner` with their newest versions, newest first.
    pub async fn definitions(
        &self,
        owner: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DefinitionRecord>, Error> {
        let owner = owner.to_owned();
        self.db.read_long(move |c| TABLE.newest(c, &owner, before, limit)).await
    }

    /// Notes that the zip of a version is there.
    pub async fn set_definition_content(
        &self,
        version: Uuid,
        content: Package,
        at: Time,
    ) -> Result<(), Error> {
        self.db
            .write(move |c| {
                let changed = c
                    .prepare_cached("UPDATE definition_versions SET sha256 = ?2, size = ?3 WHERE id = ?1")?
                    .execute(params![version.to_string(), content.sha256, content.size])?;
                c.prepare_cached(
                    "UPDATE definitions SET modified_at = ?2
                     WHERE id = (SELECT definition FROM definition_versions WHERE id = ?1)",
                )?
                .execute(params![version.to_string(), at.0])?;
                if changed == 1 { Ok(()) } else { Err(Error::NotFound) }
            })
            .await
    }

    /// Removes a definition and its versions.
    pub async fn remove_definition(&self, id: Uuid) -> Result<(), Error> {
        self.db
            .write(move |c| {
                c.execute("DELETE FROM definitions WHERE id = ?1", [id.to_string()])?;
                Ok(())
            })
            .await
    }

    /// Whether a definition, or a run that has not ended, still needs the zip.
    pub async fn is_content_needed(&self, sha256: &str) -> Result<bool, Error> {
        let sha256 = sha256.to_owned();
        self.db
            .read_long(move |c| {
                let mut query = c.prepare_cached(
                    "SELECT 1 FROM definition_versions WHERE sha256 = ?1 UNION ALL
                     SELECT 1 FROM runs WHERE finished_at IS NULL
                       AND json_extract(spec, '$.definition.sha256') = ?1 LIMIT 1",
                )?;
                Ok(query.exists([sha256])?)
            })
            .await
    }
}
