//! The two questions that every table of things with an owner is asked.

use trainyard_sqlite::rusqlite::{Connection, Row, params};

use crate::Error;

/// Makes a record of a row.
pub(crate) type Read<T> = fn(&Row<'_>) -> Result<T, Error>;

/// The row with this id; `select` is `SELECT … FROM table`.
pub(crate) fn one<T>(c: &Connection, select: &str, id: &str, read: Read<T>) -> Result<T, Error> {
    let mut query = c.prepare_cached(&format!("{select} WHERE id = ?1"))?;
    let mut rows = query.query([id])?;
    rows.next()?.map_or(Err(Error::NotFound), read)
}

/// Rows of `owner` before number `before`, newest first, at most `limit`.
pub(crate) fn newest<T>(
    c: &Connection,
    select: &str,
    owner: &str,
    before: Option<i64>,
    limit: u32,
    read: Read<T>,
) -> Result<Vec<T>, Error> {
    let sql = format!("{select} WHERE owner = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3");
    all(c, &sql, params![owner, before.unwrap_or(i64::MAX), limit], read)
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
