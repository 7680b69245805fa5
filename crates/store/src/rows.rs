//! The questions that every table of things with an owner is asked.
//!
//! Each has versions in a table beside it. A query joins the thing, as `t`, with one version, as `v`: the
//! newest, unless a version is asked for.

use trainyard_api::Uuid;
use trainyard_sqlite::rusqlite::{Connection, Row, params};

use crate::Error;

/// Makes a record of a row.
pub(crate) type Read<T> = fn(&Row<'_>) -> Result<T, Error>;

/// A table of things, its table of versions, and how a row of both is read.
pub(crate) struct Table<T> {
    /// What is selected, of `t` and `v`.
    pub(crate) columns: &'static str,
    /// `things t JOIN thing_versions v ON v.thing = t.id`.
    pub(crate) tables: &'static str,
    /// Picks the newest version of `t`.
    pub(crate) newest: &'static str,
    pub(crate) read: Read<T>,
}

impl<T> Table<T> {
    fn select(&self) -> String {
        format!("SELECT {} FROM {}", self.columns, self.tables)
    }

    /// The thing of this id, with its newest version.
    pub(crate) fn one(&self, c: &Connection, id: Uuid) -> Result<T, Error> {
        let sql = format!("{} WHERE t.id = ?1 AND {}", self.select(), self.newest);
        all(c, &sql, [id.to_string()], self.read)?.pop().ok_or(Error::NotFound)
    }

    /// The thing that this is a version of, with it.
    pub(crate) fn version(&self, c: &Connection, version: Uuid) -> Result<T, Error> {
        let sql = format!("{} WHERE v.id = ?1", self.select());
        all(c, &sql, [version.to_string()], self.read)?.pop().ok_or(Error::NotFound)
    }

    /// The thing once with each version, newest first.
    pub(crate) fn versions(&self, c: &Connection, id: Uuid) -> Result<Vec<T>, Error> {
        let sql = format!("{} WHERE t.id = ?1 ORDER BY v.number DESC", self.select());
        all(c, &sql, [id.to_string()], self.read)
    }

    /// Things of `owner` before number `before`, newest first, at most `limit`.
    pub(crate) fn newest(
        &self,
        c: &Connection,
        owner: &str,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<T>, Error> {
        let sql = format!(
            "{} WHERE t.owner = ?1 AND t.number < ?2 AND {} ORDER BY t.number DESC LIMIT ?3",
            self.select(),
            self.newest
        );
        all(c, &sql, params![owner, before.unwrap_or(i64::MAX), limit], self.read)
    }
}

/// All rows of a query.
pub(crate) fn all<T>(
    c: &Connection,
    sql: &str,
    parameters: impl trainyard_sqlite::rusqlite::Params,
    read: Read<T>,
) -> Result<Vec<T>, Error> {
    let mut query = c.prepare_cached(sql)?;
    let mut rows = query.query(parameters)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// A UUID of a column.
pub(crate) fn uuid(row: &Row<'_>, column: usize) -> Result<Uuid, Error> {
    let text: String = row.get(column)?;
    text.parse().map_err(|_| Error::Record(format!("{text} is not a UUID")))
}
