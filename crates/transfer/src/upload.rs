//! Keeps a prefix of a bucket equal to a folder: again and again while files grow, and a last
//! time when they are done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::{
    Bucket, Error, Guard,
    beneath::{Beneath, Entry},
    put::SINGLE,
};

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
struct Kept {
    version: Version,
    stored: Stored,
    /// Absent for what was never a file.
    source: Option<Source>,
}

/// Where a file is.
#[derive(Clone, Debug)]
struct Source {
    beneath: Beneath,
    name: String,
}

/// A file to store.
struct Wanted {
    key: String,
    source: Source,
    version: Version,
    modified: Option<SystemTime>,
}

/// What a folder holds.
#[derive(Default)]
struct Found {
    /// What is new or changed.
    files: Vec<Wanted>,
    /// Why the machine could not tell everything: nobody may say that all is stored then.
    failed: Option<Error>,
}

/// The upload of one run.
pub struct Upload {
    bucket: Bucket,
    prefix: String,
    stored: BTreeMap<String, Kept>,
    /// Keys that come from elsewhere: files of the same key are not stored.
    elsewhere: BTreeSet<String>,
    /// Links that were left out, by the key they would have had, with the reason.
    pub skipped: BTreeMap<String, String>,
}

impl Upload {
    /// Into `bucket` below `prefix`, which ends in a slash.
    pub fn new(bucket: Bucket, prefix: String) -> Self {
        let (stored, elsewhere, skipped) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { bucket, prefix, stored, elsewhere, skipped }
    }

    /// With a guard, which is asked before every change.
    #[must_use]
    pub fn guarded(mut self, guard: Option<Guard>) -> Self {
        self.bucket = self.bucket.guarded(guard);
        self
    }

    /// From now on, [`Upload::sync`] stores no file under this key: something else is stored there.
    pub fn leave_out(&mut self, key: &str) {
        self.elsewhere.insert(key.to_owned());
    }

    /// Stores what is new or changed below `folder` under `prefix/below`. Files that cannot be
    /// stored do not keep others from it; the first error is returned after all were tried.
    pub async fn sync(&mut self, folder: &Path, below: &str) -> Result<(), Error> {
        let Found { files, failed } = self.collect(folder, below);
        let stored = self.store(files).await;
        failed.map_or(stored, Err)
    }

    /// Stores the file `name` of `folder` under one key, if it changed: at most its first `most`
    /// bytes. A missing file is fine.
    pub async fn sync_file(&mut self, folder: &Path, name: &str, key: &str, most: u64) -> Result<(), Error> {
        let Ok(beneath) = Beneath::new(folder) else { return Ok(()) };
        let Ok(Entry::File(metadata)) = beneath.look(name) else { return Ok(()) };
        let version = Version { size: metadata.len().min(most), ..Version::of(&metadata) };
        if self.stored.get(key).is_some_and(|e| e.version == version) {
            return Ok(());
        }
        let source = Source { beneath, name: name.to_owned() };
        self.store(vec![Wanted { key: key.to_owned(), source, version, modified: None }]).await
    }

    async fn store(&mut self, wanted: Vec<Wanted>) -> Result<(), Error> {
        let bucket = &self.bucket;
        let prefix = &self.prefix;
        let results: Vec<_> = stream::iter(wanted)
            .map(|wanted| async move {
                let key = format!("{prefix}{}", wanted.key);
                let result = match wanted.source.beneath.file(&wanted.source.name) {
                    Ok(file) => bucket.put_opened(&key, &file, wanted.version.size).await,
                    Err(e) => Err(Error::file(Path::new(&wanted.source.name), e)),
                };
                (wanted, result)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut first = None;
        for (Wanted { key, source, version, .. }, result) in results {
            match result {
                Ok((size, etag)) => {
                    let entry = Stored { size, etag };
                    self.stored.insert(key, Kept { version, stored: entry, source: Some(source) });
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
    pub fn adopt(&mut self, folder: &Path, below: &str) {
        self.adopt_older(folder, below, SystemTime::now() + Duration::from_secs(1));
    }

    /// The same for files that were last written before `limit`.
    pub fn adopt_older(&mut self, folder: &Path, below: &str, limit: SystemTime) {
        for Wanted { key, source, version, modified } in self.collect(folder, below).files {
            if modified.is_some_and(|t| t < limit) {
                let stored = Stored { size: version.size, etag: String::new() };
                self.stored.insert(key, Kept { version, stored, source: Some(source) });
            }
        }
    }

    /// Stores `bytes` under one key below the prefix.
    pub async fn put(&mut self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let size = bytes.len() as u64;
        let etag = self.bucket.put(&format!("{}{key}", self.prefix), bytes).await?;
        let version = Version { size, modified: (0, 0), inode: 0 };
        self.stored.insert(key.to_owned(), Kept { version, stored: Stored { size, etag }, source: None });
        Ok(())
    }

    /// Takes away what was stored from files that are no longer there: a checkpoint that the
    /// program replaced is not part of its results.
    pub async fn prune(&mut self) -> Result<(), Error> {
        let is_gone = |e: &Kept| {
            e.source.as_ref().is_some_and(|s| s.beneath.look(&s.name).is_err_and(|e| says_gone(&e)))
        };
        let gone: Vec<String> =
            self.stored.iter().filter(|(_, e)| is_gone(e)).map(|(k, _)| k.clone()).collect();
        for key in gone {
            self.bucket.delete(&format!("{}{key}", self.prefix)).await?;
            self.stored.remove(&key);
        }
        Ok(())
    }

    /// Takes away what others have stored below the prefix, but for keys below it that are to be kept.
    pub async fn remove_others(&mut self, keep: &(dyn Fn(&str) -> bool + Sync)) -> Result<(), Error> {
        for object in self.bucket.list(&self.prefix).await? {
            let below = object.key.strip_prefix(&self.prefix);
            if !below.is_some_and(|k| self.stored.contains_key(k) || keep(k)) {
                self.bucket.delete(&object.key).await?;
            }
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
        for (key, Kept { stored, .. }) in &self.stored {
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

    /// Files below `folder` that are new or changed, with their keys. Links are followed to files
    /// inside, and left out where they lead elsewhere; sockets, pipes and devices are no results.
    fn collect(&mut self, folder: &Path, below: &str) -> Found {
        let mut found = Found::default();
        match Beneath::new(folder) {
            Ok(beneath) => self.collect_in(&beneath, "", below, &mut found),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => self.cannot_read(below, e, &mut found),
        }
        found
    }

    fn skip(&mut self, key: &str, why: String) {
        self.skipped.insert(key.to_owned(), why);
    }

    /// What the program made unreadable is left out; where the machine is to blame, it is an error.
    fn cannot_read(&mut self, key: &str, error: std::io::Error, found: &mut Found) {
        self.skip(key, format!("it cannot be read: {error}"));
        if is_machines(&error) {
            found.failed.get_or_insert(Error::file(Path::new(key), error));
        }
    }

    fn collect_in(&mut self, beneath: &Beneath, at: &str, below: &str, found: &mut Found) {
        let names = match beneath.names(at) {
            Ok(names) => names,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return,
            Err(e) => return self.cannot_read(&format!("{below}{at}"), e, found),
        };
        for name in names {
            let name = match name {
                Ok(name) => format!("{at}{name}"),
                Err(name) => {
                    self.skip(&format!("{below}{at}{name}"), "its name is not UTF-8".to_owned());
                    continue;
                }
            };
            let key = format!("{below}{name}");
            match beneath.look(&name) {
                Ok(Entry::Folder) => self.collect_in(beneath, &format!("{name}/"), below, found),
                Ok(Entry::LinkOut) => {
                    let why = "it is a link, and not one to a file in the same folder of results";
                    self.skip(&key, why.to_owned());
                }
                Ok(Entry::File(metadata)) => {
                    let version = Version::of(&metadata);
                    let wanted = !self.elsewhere.contains(&key);
                    if wanted && self.stored.get(&key).is_none_or(|e| e.version != version) {
                        let source = Source { beneath: beneath.clone(), name };
                        found.files.push(Wanted { key, source, version, modified: metadata.modified().ok() });
                    }
                }
                Ok(Entry::Other) => {}
                // Temporary files come and go while a program runs.
                Err(e) if says_gone(&e) => {}
                Err(e) => self.cannot_read(&key, e, found),
            }
        }
    }
}

/// Whether an error of looking at a file says that it is gone. Not every one does, and what is gone is
/// taken out of the bucket.
fn says_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Whether the machine is to blame for an error: it is out of descriptors or memory, or its disk is bad.
fn is_machines(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EIO))
}
