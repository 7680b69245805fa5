//! The index: which buckets, objects and uploads there are. All of it in SQL, keys as bytes.

use serde::{Deserialize, Serialize};
use trainyard_sqlite::{
    Migration,
    rusqlite::{Connection, OptionalExtension, Row, params},
};

use crate::error::{Failure, no_such_bucket};

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
    name: "buckets, objects, uploads",
    sql: "
    CREATE TABLE buckets (name TEXT PRIMARY KEY, created INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    -- Small objects lie in `inline`, larger ones in the files that `segments` lists.
    CREATE TABLE objects (
        bucket TEXT NOT NULL REFERENCES buckets (name),
        key BLOB NOT NULL,
        etag TEXT NOT NULL,
        size INTEGER NOT NULL,
        modified INTEGER NOT NULL,
        inline INTEGER,
        segments TEXT NOT NULL,
        headers TEXT NOT NULL,
        PRIMARY KEY (bucket, key)) STRICT, WITHOUT ROWID;
    CREATE TABLE inline (id INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
    CREATE TABLE uploads (
        id TEXT PRIMARY KEY,
        bucket TEXT NOT NULL REFERENCES buckets (name),
        key BLOB NOT NULL,
        started INTEGER NOT NULL,
        headers TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE INDEX uploads_by_key ON uploads (bucket, key, id);
    CREATE TABLE parts (
        upload TEXT NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        etag TEXT NOT NULL,
        modified INTEGER NOT NULL,
        size INTEGER NOT NULL,
        segments TEXT NOT NULL,
        PRIMARY KEY (upload, number)) STRICT, WITHOUT ROWID;
    ",
}];

/// A stretch of a file that holds a stretch of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Segment {
    /// Name of the file in the store's folder of objects.
    pub(crate) file: String,
    /// Bytes in it.
    pub(crate) size: u64,
}

/// What a client said about an object, returned as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Headers {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_disposition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) content_language: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) metadata: Vec<(String, String)>,
    /// Base64 of the checksums that the client sent and that were right, by their S3 name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) checksums: Vec<(String, String)>,
}

/// An object without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) key: String,
    pub(crate) etag: String,
    pub(crate) size: u64,
    /// Milliseconds since 1970.
    pub(crate) modified: i64,
    pub(crate) inline: Option<i64>,
    pub(crate) segments: Vec<Segment>,
    pub(crate) headers: Headers,
}

const COLUMNS: &str = "key, etag, size, modified, inline, segments, headers";

fn object(row: &Row<'_>) -> Result<Object, Failure> {
    let key: Vec<u8> = row.get(0)?;
    let (segments, headers): (String, String) = (row.get(5)?, row.get(6)?);
    Ok(Object {
        key: String::from_utf8_lossy(&key).into_owned(),
        etag: row.get(1)?,
        size: row.get(2)?,
        modified: row.get(3)?,
        inline: row.get(4)?,
        segments: serde_json::from_str(&segments)?,
        headers: serde_json::from_str(&headers)?,
    })
}

pub(crate) fn require_bucket(c: &Connection, bucket: &str) -> Result<(), Failure> {
    let mut query = c.prepare_cached("SELECT 1 FROM buckets WHERE name = ?1")?;
    if query.exists([bucket])? { Ok(()) } else { Err(no_such_bucket(bucket).into()) }
}

pub(crate) fn find(c: &Connection, bucket: &str, key: &str) -> Result<Option<Object>, Failure> {
    let mut query =
        c.prepare_cached(&format!("SELECT {COLUMNS} FROM objects WHERE bucket = ?1 AND key = ?2"))?;
    let mut rows = query.query(params![bucket, key.as_bytes()])?;
    let found = rows.next()?.map(object).transpose()?;
    if found.is_none() {
        require_bucket(c, bucket)?;
    }
    Ok(found)
}

pub(crate) fn inline_bytes(c: &Connection, id: i64) -> Result<Option<Vec<u8>>, Failure> {
    let mut query = c.prepare_cached("SELECT bytes FROM inline WHERE id = ?1")?;
    Ok(query.query_row([id], |r| r.get(0)).optional()?)
}

/// Where an object's bytes are.
#[derive(Debug)]
pub(crate) enum Content {
    Inline(Vec<u8>),
    Segments(Vec<Segment>),
}

/// Puts an object in the place of what was there; returns the segments that are free now.
pub(crate) fn replace(
    c: &Connection,
    bucket: &str,
    new: &Object,
    content: Content,
) -> Result<Vec<Segment>, Failure> {
    require_bucket(c, bucket)?;
    let freed = remove(c, bucket, &new.key)?;
    let (inline, segments) = match content {
        Content::Inline(bytes) if bytes.is_empty() => (None, Vec::new()),
        Content::Inline(bytes) => {
            c.prepare_cached("INSERT INTO inline (bytes) VALUES (?1)")?.execute([bytes])?;
            (Some(c.last_insert_rowid()), Vec::new())
        }
        Content::Segments(segments) => (None, segments),
    };
    c.prepare_cached("INSERT INTO objects VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?.execute(params![
        bucket,
        new.key.as_bytes(),
        new.etag,
        new.size,
        new.modified,
        inline,
        serde_json::to_string(&segments)?,
        serde_json::to_string(&new.headers)?,
    ])?;
    Ok(freed)
}

/// Takes an object out; returns the segments that are free now.
pub(crate) fn remove(c: &Connection, bucket: &str, key: &str) -> Result<Vec<Segment>, Failure> {
    let mut delete =
        c.prepare_cached("DELETE FROM objects WHERE bucket = ?1 AND key = ?2 RETURNING inline, segments")?;
    let gone: Option<(Option<i64>, String)> =
        delete.query_row(params![bucket, key.as_bytes()], |r| Ok((r.get(0)?, r.get(1)?))).optional()?;
    let Some((inline, segments)) = gone else { return Ok(Vec::new()) };
    if let Some(id) = inline {
        c.prepare_cached("DELETE FROM inline WHERE id = ?1")?.execute([id])?;
    }
    Ok(serde_json::from_str(&segments)?)
}

/// Objects of a bucket whose key is at least `from` and less than `below`, in order of keys.
pub(crate) fn scan(
    c: &Connection,
    bucket: &str,
    from: &[u8],
    below: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<Object>, Failure> {
    let mut query = c.prepare_cached(&scan_query(below.is_some()))?;
    let mut rows = query.query(params![bucket, from, below, limit as i64])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(object(row)?);
    }
    Ok(found)
}

/// The query of [`scan`]. The bound has to stand alone for the index to end the scan: where nothing
/// lies below it, an `OR` would read the bucket to its end.
fn scan_query(bounded: bool) -> String {
    let end = if bounded { "key < ?3" } else { "?3 IS NULL" };
    format!("SELECT {COLUMNS} FROM objects WHERE bucket = ?1 AND key >= ?2 AND {end} ORDER BY key LIMIT ?4")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_a_prefix_reads_what_has_it_and_no_more() {
        let c = Connection::open_in_memory().unwrap();
        c.execute_batch(MIGRATIONS[0].sql).unwrap();
        for (bounded, expected) in [(true, "bucket=? AND key>? AND key<?"), (false, "bucket=? AND key>?")] {
            let sql = format!("EXPLAIN QUERY PLAN {}", scan_query(bounded));
            let plan: String = c.query_row(&sql, params!["b", b"a", b"c", 10], |r| r.get(3)).unwrap();
            assert!(plan.contains(expected), "{plan}");
        }
    }
}
