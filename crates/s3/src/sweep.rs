//! Removes what nobody will use any more: uploads that were begun long ago and never completed, and
//! files that no index entry names, because a kill or a power cut left them half-written.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use trainyard_sqlite::rusqlite::{Connection, params};

use crate::{EmbeddedStore, error::Failure, index::Segment, multipart::segments_of, service::now};

/// Younger files may belong to a request that is being served.
const MIN_AGE: Duration = Duration::from_hours(1);
/// Milliseconds after which an upload that was not completed is given up: a week.
const UPLOAD_AGE: i64 = 7 * 86_400_000;
/// Time between sweeps.
const PAUSE: Duration = Duration::from_hours(24);

/// Sweeps now and every day, in the background.
pub(crate) fn start(store: &EmbeddedStore) {
    let store = store.clone();
    let sweep = move || loop {
        match expire(&store, now() - UPLOAD_AGE).and_then(|expired| Ok((expired, sweep(&store)?))) {
            Ok((0, 0)) => {}
            Ok((uploads, files)) => tracing::info!(uploads, files, "removed what was left unfinished"),
            Err(error) => tracing::warn!(%error, "cannot sweep the object store"),
        }
        std::thread::sleep(PAUSE);
    };
    if let Err(error) = std::thread::Builder::new().name("s3-sweep".into()).spawn(sweep) {
        tracing::warn!(%error, "cannot start the sweep of object files");
    }
}

/// Gives uploads up that were begun before `limit`, in milliseconds since 1970; returns how many.
fn expire(store: &EmbeddedStore, limit: i64) -> std::io::Result<usize> {
    let change = move |c: &Connection| -> Result<(usize, Vec<Segment>), Failure> {
        let mut old = c.prepare_cached("SELECT id FROM uploads WHERE started < ?1")?;
        let ids: Vec<String> = old.query_map([limit], |r| r.get(0))?.collect::<Result<_, _>>()?;
        let mut freed = Vec::new();
        for id in &ids {
            freed.extend(segments_of(c, id)?);
            c.prepare_cached("DELETE FROM uploads WHERE id = ?1")?.execute(params![id])?;
        }
        Ok((ids.len(), freed))
    };
    let (uploads, freed) = store.index.write_now(change).map_err(other)?;
    store.folder.discard(&freed);
    Ok(uploads)
}

fn other(failure: Failure) -> std::io::Error {
    match failure {
        Failure::Index(e) => std::io::Error::other(e),
        Failure::S3(e) => std::io::Error::other(e),
    }
}

fn sweep(store: &EmbeddedStore) -> std::io::Result<usize> {
    let limit = SystemTime::now() - MIN_AGE;
    let mut old = Vec::new();
    for folder in std::fs::read_dir(store.folder.root())? {
        for file in std::fs::read_dir(folder?.path())? {
            let file = file?;
            if file.metadata()?.modified()? < limit {
                old.push(file.file_name().to_string_lossy().into_owned());
            }
        }
    }
    if old.is_empty() {
        return Ok(0);
    }
    let named: HashSet<String> = store.index.read(named).map_err(other)?;
    let stale: Vec<Segment> =
        old.into_iter().filter(|f| !named.contains(f)).map(|file| Segment { file, size: 0 }).collect();
    store.folder.discard(&stale);
    Ok(stale.len())
}

/// Names of all files that objects and parts refer to.
fn named(c: &Connection) -> Result<HashSet<String>, Failure> {
    let mut names = HashSet::new();
    let mut query = c.prepare(
        "SELECT json_extract(s.value, '$.file') FROM objects, json_each(objects.segments) s
         UNION ALL
         SELECT json_extract(s.value, '$.file') FROM parts, json_each(parts.segments, '$.segments') s",
    )?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        names.insert(row.get(0)?);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_that_was_never_completed_goes_with_its_parts() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).unwrap();
        let (file, mut opened) = store.folder.create().unwrap();
        std::io::Write::write_all(&mut opened, b"part").unwrap();
        let segments = format!("{{\"segments\": [{{\"file\": \"{file}\", \"size\": 4}}], \"crc64\": \"\"}}");
        let begun = now();
        let fill = move |c: &Connection| -> Result<(), Failure> {
            c.execute("INSERT INTO buckets VALUES ('b', 0)", [])?;
            for (id, started) in [("old", begun - 9_000), ("new", begun - 1_000)] {
                c.execute("INSERT INTO uploads VALUES (?1, 'b', x'6b', ?2, '{}')", params![id, started])?;
            }
            c.execute("INSERT INTO parts VALUES ('old', 1, 'e', 0, 4, ?1)", [segments])?;
            Ok(())
        };
        store.index.write_now(fill).map_err(other).unwrap();
        assert_eq!(expire(&store, begun - 5_000).unwrap(), 1);
        assert!(!store.folder.path(&file).exists());
        let left: Vec<String> = store
            .index
            .read(|c| {
                let mut query = c.prepare("SELECT id FROM uploads UNION ALL SELECT upload FROM parts")?;
                let rows = query.query_map([], |r| r.get(0))?;
                Ok::<_, Failure>(rows.collect::<Result<_, _>>()?)
            })
            .map_err(other)
            .unwrap();
        assert_eq!(left, ["new"]);
    }
}
