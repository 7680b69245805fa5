//! Keeps a prefix of a bucket equal to a folder: again and again while files grow, and a last
//! time when they are done.

use std::{
    collections::BTreeMap,
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::{Bucket, Error, put::SINGLE};

/// Files on the way at once.
const AT_ONCE: usize = 4;

/// One stored file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Bytes.
    pub size: u64,
    /// As the store gave it.
    pub etag: String,
}

/// What a marker lists: everything that belongs to a run's results.
pub type Inventory = BTreeMap<String, Stored>;

/// When a file was last looked at: stored again only when this differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    size: u64,
    modified: (i64, i64),
    inode: u64,
}

impl Version {
    fn of(m: &Metadata) -> Self {
        Self { size: m.size(), modified: (m.mtime(), m.mtime_nsec()), inode: m.ino() }
    }
}

/// A stored file, and where it came from.
#[derive(Clone, Debug)]
struct Entry {
    version: Version,
    stored: Stored,
    /// Absent for what was never a file.
    source: Option<PathBuf>,
}

/// The upload of one run.
pub struct Upload {
    bucket: Bucket,
    prefix: String,
    stored: BTreeMap<String, Entry>,
    /// Links that were left out, by the key they would have had, with the reason.
    pub skipped: BTreeMap<String, String>,
}

impl Upload {
    /// Into `bucket` below `prefix`, which ends in a slash.
    pub fn new(bucket: Bucket, prefix: String) -> Self {
        Self { bucket, prefix, stored: BTreeMap::new(), skipped: BTreeMap::new() }
    }

    /// Stores what is new or changed below `folder` under `prefix/below`. Files that cannot be
    /// stored do not keep others from it; the first error is returned after all were tried.
    pub async fn sync(&mut self, folder: &Path, below: &str) -> Result<(), Error> {
        let mut wanted = Vec::new();
        self.collect(folder, folder, below, &mut wanted)?;
        self.store(wanted).await
    }

    /// Stores the file at `path` under one key, if it changed; a missing file is fine.
    pub async fn sync_file(&mut self, path: &Path, key: &str) -> Result<(), Error> {
        let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
        let version = Version::of(&metadata);
        if self.stored.get(key).is_some_and(|e| e.version == version) {
            return Ok(());
        }
        self.store(vec![(key.to_owned(), path.to_owned(), version)]).await
    }

    async fn store(&mut self, wanted: Vec<(String, PathBuf, Version)>) -> Result<(), Error> {
        let bucket = &self.bucket;
        let prefix = &self.prefix;
        let results: Vec<_> = stream::iter(wanted)
            .map(|(key, path, version)| async move {
                let result = bucket.put_file(&format!("{prefix}{key}"), &path).await;
                (key, path, version, result)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut first = None;
        for (key, path, version, result) in results {
            match result {
                Ok((size, etag)) => {
                    let entry = Entry { version, stored: Stored { size, etag }, source: Some(path) };
                    self.stored.insert(key, entry);
                }
                // Temporary files come and go while a program runs.
                Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, key, "a result could not be stored");
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Takes what is in `folder` now for stored: it was fetched from there.
    pub fn adopt(&mut self, folder: &Path, below: &str) -> Result<(), Error> {
        self.adopt_older(folder, below, SystemTime::now() + Duration::from_secs(1))
    }

    /// The same for files that were last written before `limit`.
    pub fn adopt_older(&mut self, folder: &Path, below: &str, limit: SystemTime) -> Result<(), Error> {
        let mut found = Vec::new();
        self.collect(folder, folder, below, &mut found)?;
        let older = |p: &PathBuf| std::fs::metadata(p).and_then(|m| m.modified()).is_ok_and(|t| t < limit);
        for (key, path, version) in found.into_iter().filter(|(_, p, _)| older(p)) {
            let stored = Stored { size: version.size, etag: String::new() };
            self.stored.insert(key, Entry { version, stored, source: Some(path) });
        }
        Ok(())
    }

    /// Stores `bytes` under one key below the prefix.
    pub async fn put(&mut self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let size = bytes.len() as u64;
        let etag = self.bucket.put(&format!("{}{key}", self.prefix), bytes).await?;
        let version = Version { size, modified: (0, 0), inode: 0 };
        self.stored.insert(key.to_owned(), Entry { version, stored: Stored { size, etag }, source: None });
        Ok(())
    }

    /// Takes away what was stored from files that are no longer there: a checkpoint that the
    /// program replaced is not part of its results.
    pub async fn prune(&mut self) -> Result<(), Error> {
        let is_gone = |e: &Entry| e.source.as_ref().is_some_and(|s| std::fs::symlink_metadata(s).is_err());
        let gone: Vec<String> =
            self.stored.iter().filter(|(_, e)| is_gone(e)).map(|(k, _)| k.clone()).collect();
        for key in gone {
            self.bucket.delete(&format!("{}{key}", self.prefix)).await?;
            self.stored.remove(&key);
        }
        Ok(())
    }

    /// What is stored, with keys below the prefix.
    pub fn inventory(&self) -> Inventory {
        self.stored.iter().map(|(k, e)| (k.clone(), e.stored.clone())).collect()
    }

    /// Makes sure that what was put together from parts is there as a whole: asks the store for
    /// what it has below the prefix, and compares. Files of one request need no second look, as
    /// the store checked the MD5 that came with each before it said yes.
    pub async fn verify(&self) -> Result<(), Error> {
        if self.stored.values().all(|e| e.stored.size <= SINGLE) {
            return Ok(());
        }
        let there: BTreeMap<String, u64> =
            self.bucket.list(&self.prefix).await?.into_iter().map(|o| (o.key, o.size)).collect();
        for (key, Entry { stored, .. }) in &self.stored {
            let found = there.get(&format!("{}{key}", self.prefix));
            if found != Some(&stored.size) {
                return Err(Error::Corrupt {
                    what: format!("{}/{}{key}", self.bucket.name(), self.prefix),
                    expected: format!("{} bytes", stored.size),
                    found: found.map_or_else(|| "nothing".to_owned(), |n| format!("{n} bytes")),
                });
            }
        }
        Ok(())
    }

    /// Files below `dir` that are new or changed. Links are followed to files inside `root`, and
    /// left out where they lead elsewhere; sockets, pipes and devices are no results.
    fn collect(
        &mut self,
        root: &Path,
        dir: &Path,
        below: &str,
        wanted: &mut Vec<(String, PathBuf, Version)>,
    ) -> Result<(), Error> {
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            // The program may have taken its own rights away: give them back once.
            Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                let rights = std::os::unix::fs::PermissionsExt::from_mode(0o700);
                let opened = std::fs::set_permissions(dir, rights).and_then(|()| std::fs::read_dir(dir));
                match opened {
                    Ok(entries) => entries,
                    Err(e) => {
                        self.skipped.insert(below.to_owned(), format!("it cannot be read: {e}"));
                        return Ok(());
                    }
                }
            }
            Err(e) => {
                self.skipped.insert(below.to_owned(), format!("it cannot be read: {e}"));
                return Ok(());
            }
        };
        for entry in entries {
            let Ok(entry) = entry else { continue };
            let path = entry.path();
            let Some(name) = entry.file_name().to_str().map(|n| format!("{below}{n}")) else {
                self.skipped.insert(
                    format!("{below}{}", entry.file_name().to_string_lossy()),
                    "its name is not UTF-8".into(),
                );
                continue;
            };
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() {
                self.collect(root, &path, &format!("{name}/"), wanted)?;
                continue;
            }
            if kind.is_symlink() && !leads_inside(root, &path) {
                self.skipped
                    .insert(name, "it is a link that leads out of the results folder or to a folder".into());
                continue;
            }
            let Ok(metadata) = std::fs::metadata(&path) else { continue };
            if !metadata.is_file() {
                continue;
            }
            let version = Version::of(&metadata);
            if self.stored.get(&name).is_none_or(|e| e.version != version) {
                wanted.push((name, path, version));
            }
        }
        Ok(())
    }
}

fn leads_inside(root: &Path, link: &Path) -> bool {
    let (Ok(root), Ok(target)) = (root.canonicalize(), link.canonicalize()) else { return false };
    target.starts_with(root) && target.is_file()
}
