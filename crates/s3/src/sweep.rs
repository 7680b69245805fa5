//! Removes files that no index entry names: what a kill or a power cut left half-written.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime},
};

use trainyard_sqlite::rusqlite::Connection;

use crate::{EmbeddedStore, error::Failure, index::Segment};

/// Younger files may belong to a request that is being served.
const MIN_AGE: Duration = Duration::from_hours(1);

/// Sweeps once, in the background.
pub(crate) fn start(store: &EmbeddedStore) {
    let store = store.clone();
    let sweep = move || match sweep(&store) {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed object files that nothing refers to"),
        Err(error) => tracing::warn!(%error, "cannot sweep the object files"),
    };
    if let Err(error) = std::thread::Builder::new().name("s3-sweep".into()).spawn(sweep) {
        tracing::warn!(%error, "cannot start the sweep of object files");
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
    let named: HashSet<String> = store.index.read(named).map_err(|e| match e {
        Failure::Index(e) => std::io::Error::other(e),
        Failure::S3(e) => std::io::Error::other(e),
    })?;
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
