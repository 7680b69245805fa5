//! Training definitions. Their zips lie in files named by content; here is which is whose.

use trainyard_api::{NewDefinition, Time, Uuid, runner::Package};
use trainyard_sqlite::rusqlite::{Row, params};

use crate::{Error, Store, rows};

/// A definition as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct DefinitionRecord {
    /// Its id.
    pub id: Uuid,
    /// Id of its only version.
    pub version: Uuid,
    /// Counts definitions; the order of lists.
    pub number: i64,
    /// Whose it is.
    pub owner: String,
    /// When it was made.
    pub created_at: Time,
    /// When its content came.
    pub modified_at: Time,
    /// As it came.
    pub body: NewDefinition,
    /// The zip, when it is there.
    pub content: Option<Package>,
}

const SELECT: &str =
    "SELECT id, version, number, owner, created_at, modified_at, body, sha256, size FROM definitions";

fn record(row: &Row<'_>) -> Result<DefinitionRecord, Error> {
    let uuid = |text: String| text.parse().map_err(|_| Error::Record(format!("{text} is not a UUID")));
    let sha256: Option<String> = row.get(7)?;
    let size: Option<u64> = row.get(8)?;
    Ok(DefinitionRecord {
        id: uuid(row.get(0)?)?,
        version: uuid(row.get(1)?)?,
        number: row.get(2)?,
        owner: row.get(3)?,
        created_at: Time(row.get(4)?),
        modified_at: Time(row.get(5)?),
        body: serde_json::from_str(&row.get::<_, String>(6)?)?,
        content: sha256.zip(size).map(|(sha256, size)| Package { sha256, size }),
    })
}

impl Store {
    /// Keeps a new definition, without its zip.
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
                    "INSERT INTO definitions (id, version, owner, created_at, modified_at, body)
                     VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
                )?
                .execute(params![id.to_string(), version.to_string(), owner, at.0, text])?;
                Ok::<_, Error>(())
            })
            .await?;
        self.definition(id)
    }

    /// One definition.
    pub fn definition(&self, id: Uuid) -> Result<DefinitionRecord, Error> {
        self.db.read(|c| rows::one(c, SELECT, &id.to_string(), record))
    }

    /// Definitions of `owner`, newest first.
    pub async fn definitions(
        &self,
        owner: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<DefinitionRecord>, Error> {
        let owner = owner.to_owned();
        self.db.read_long(move |c| rows::newest(c, SELECT, &owner, before, limit, record)).await
    }

    /// Notes that the zip of a definition is there.
    pub async fn set_definition_content(&self, id: Uuid, content: Package, at: Time) -> Result<(), Error> {
        self.db
            .write(move |c| {
                let changed = c
                    .prepare_cached(
                        "UPDATE definitions SET sha256 = ?2, size = ?3, modified_at = ?4 WHERE id = ?1",
                    )?
                    .execute(params![id.to_string(), content.sha256, content.size, at.0])?;
                if changed == 1 { Ok(()) } else { Err(Error::NotFound) }
            })
            .await
    }

    /// Removes a definition.
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
                    "SELECT 1 FROM definitions WHERE sha256 = ?1 UNION ALL
                     SELECT 1 FROM runs WHERE finished_at IS NULL
                       AND json_extract(spec, '$.definition.sha256') = ?1 LIMIT 1",
                )?;
                Ok(query.exists([sha256])?)
            })
            .await
    }
}
