//! Keeps a prefix of a bucket equal to a folder: again and again while files grow, and a last
//! time when they are done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use trainyard_breakpoints::break_point;

use crate::{
    Bucket, Error, Guard, Ledger,
    beneath::{Beneath, Entry},
    ledger::Copied,
    parts::{Uploads, etag_of},
    put::SINGLE,
    walk::{Found, says_gone},
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) size: u64,
    /// Seconds and nanoseconds since 1970.
    pub(crate) modified: (i64, i64),
    pub(crate) inode: u64,
}

impl Version {
    pub(crate) fn of(m: &Metadata) -> Self {
        Self { size: m.size(), modified: (m.mtime(), m.mtime_nsec()), inode: m.ino() }
    }
}

/// A stored file, and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) version: Version,
    pub(crate) stored: Stored,
    /// Absent for what was never a file, and for what cannot be looked for any more.
    pub(crate) source: Option<Source>,
}

/// Where a file is.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) beneath: Beneath,
    /// The folder that `beneath` is.
    pub(crate) folder: PathBuf,
    pub(crate) name: String,
}

impl Source {
    pub(crate) fn is_gone(&self) -> bool {
        self.beneath.look(&self.name).is_err_and(|e| says_gone(&e))
    }
}

/// A file to store.
pub(crate) struct Wanted {
    pub(crate) key: String,
    pub(crate) source: Source,
    pub(crate) version: Version,
    pub(crate) modified: Option<SystemTime>,
    /// When it came into its place, whatever it says itself of when it was written.
    pub(crate) changed: Option<SystemTime>,
}

/// What became of it.
enum Outcome {
    Stored(Stored),
    /// What is there stays, for this reason.
    LeftOut(&'static str),
}

/// Uploads in parts that are open, for the ledger too.
#[derive(Default)]
pub(crate) struct Open {
    pub(crate) ledger: Option<Arc<Ledger>>,
    pub(crate) list: Mutex<Vec<(String, String)>>,
}

/// A file on its way: what happens is noted.
struct OnItsWay<'a> {
    open: &'a Open,
    /// Its line of the ledger.
    copied: Copied,
}

impl Uploads for OnItsWay<'_> {
    fn storing(&self, etag: Option<&str>) {
        if let Some(ledger) = &self.open.ledger {
            ledger.storing(self.copied.clone(), etag);
            break_point("ledger:storing");
        }
    }

    fn began(&self, key: &str, id: &str) {
        let mut list = self.open.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.push((key.to_owned(), id.to_owned()));
        if let Some(ledger) = &self.open.ledger {
            ledger.began(key, id);
        }
    }

    fn ended(&self, key: &str, id: &str) {
        let mut list = self.open.list.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|(k, i)| (&**k, &**i) != (key, id));
        if let Some(ledger) = &self.open.ledger {
            ledger.ended(key, id);
        }
    }
}

/// The upload of one run.
pub struct Upload {
    pub(crate) bucket: Bucket,
    pub(crate) prefix: String,
    pub(crate) stored: BTreeMap<String, Kept>,
    /// Keys that come from elsewhere: files of the same key are not stored.
    pub(crate) elsewhere: BTreeSet<String>,
    /// What was left out, by the key it would have had, with the reason: links that lead out, names that are not
    /// UTF-8, what cannot be read, what another has stored since.
    pub skipped: BTreeMap<String, String>,
    pub(crate) open: Open,
    /// What an earlier runner was about to store when it was lost: perhaps it is there.
    pub(crate) doubtful: BTreeMap<String, Source>,
    /// What may be there of this run, where others store as well: by key, ETags. What has none of them, and came later
    /// than the file, is theirs.
    pub(crate) gives_way: Option<BTreeMap<String, Vec<String>>>,
    /// What is there and was stored by nobody that is known.
    pub(crate) others: Inventory,
    /// Files were stored in parts, or an earlier runner may have begun to.
    pub(crate) in_parts: bool,
    /// Large files that could not be stored, and since when: an upload may have been begun, and nobody heard of it.
    pub(crate) failed: BTreeMap<String, Instant>,
}

impl Upload {
    /// Into `bucket` below `prefix`, which ends in a slash.
    pub fn new(bucket: Bucket, prefix: String) -> Self {
        Self {
            bucket,
            prefix,
            stored: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            skipped: BTreeMap::new(),
            open: Open::default(),
            doubtful: BTreeMap::new(),
            gives_way: None,
            others: Inventory::new(),
            in_parts: false,
            failed: BTreeMap::new(),
        }
    }

    /// With a guard, which is asked before every change.
    #[must_use]
    pub fn guarded(mut self, guard: Option<Guard>) -> Self {
        self.bucket = self.bucket.guarded(guard);
        self
    }

    /// With a ledger for whoever comes after this runner.
    #[must_use]
    pub fn noted_in(mut self, ledger: Arc<Ledger>) -> Self {
        self.open.ledger = Some(ledger);
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
        let source = Source { beneath, folder: folder.to_owned(), name: name.to_owned() };
        self.store(vec![Wanted { key: key.to_owned(), source, version, modified: None, changed: None }]).await
    }

    async fn store(&mut self, wanted: Vec<Wanted>) -> Result<(), Error> {
        let begun = Instant::now();
        self.in_parts |= wanted.iter().any(|w| w.version.size > SINGLE);
        let upload = &*self;
        let results: Vec<_> = stream::iter(wanted)
            .map(|wanted| async move {
                let result = match wanted.source.beneath.file(&wanted.source.name) {
                    Ok(file) => upload.store_one(&wanted, &file).await,
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
                Ok(Outcome::Stored(stored)) => {
                    self.skipped.remove(&key);
                    self.doubtful.remove(&key);
                    self.stored.insert(key, Kept { version, stored, source: Some(source) });
                }
                Ok(Outcome::LeftOut(why)) => {
                    self.doubtful.remove(&key);
                    self.skipped.insert(key, why.to_owned());
                }
                // Temporary files come and go while a program runs.
                Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, key, "a result could not be stored");
                    if version.size > SINGLE {
                        self.failed.entry(key).or_insert(begun);
                    }
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Stores one file, between two lines of the ledger.
    async fn store_one(&self, wanted: &Wanted, file: &File) -> Result<Outcome, Error> {
        let key = format!("{}{}", self.prefix, wanted.key);
        if let Some(known) = &self.gives_way
            && let Some(stays) = self.what_stays(&key, known.get(&key), wanted, file).await?
        {
            return Ok(stays);
        }
        let copied = self.note(&wanted.key, &wanted.source, wanted.version, None);
        let on_its_way = OnItsWay { open: &self.open, copied };
        let (size, etag) = self.bucket.put_opened(&key, file, wanted.version.size, &on_its_way).await?;
        break_point("store:put");
        let stored = Stored { size, etag };
        if let Some(ledger) = &self.open.ledger {
            ledger.copied([Copied { stored: Some(stored.clone()), ..on_its_way.copied }]);
            break_point("ledger:stored");
        }
        Ok(Outcome::Stored(stored))
    }

    /// A line of the ledger.
    pub(crate) fn note(
        &self,
        key: &str,
        source: &Source,
        version: Version,
        stored: Option<Stored>,
    ) -> Copied {
        Copied {
            key: format!("{}{key}", self.prefix),
            folder: self.open.ledger.as_ref().map_or_else(PathBuf::new, |l| l.below(&source.folder)),
            name: source.name.clone(),
            version,
            stored,
        }
    }

    /// Looks at what is there where others store as well: it stays where it is the file already, or where
    /// somebody else stored it later than the file came into its place. `known`: ETags of what may be replaced.
    async fn what_stays(
        &self,
        key: &str,
        known: Option<&Vec<String>>,
        wanted: &Wanted,
        file: &File,
    ) -> Result<Option<Outcome>, Error> {
        let Some(there) = self.bucket.stat(key).await? else { return Ok(None) };
        let size = wanted.version.size;
        if there.size == size
            && etag_of(file, size).map_err(|e| Error::file(Path::new(key), e))? == there.etag
        {
            return Ok(Some(Outcome::Stored(Stored { size, etag: there.etag })));
        }
        if known.is_some_and(|k| k.contains(&there.etag)) {
            return Ok(None);
        }
        let age = wanted.changed.and_then(|m| m.elapsed().ok()).unwrap_or_default();
        let is_later = there.age.is_some_and(|there| there < age);
        Ok(is_later.then_some(Outcome::LeftOut("another run has stored a later one under its name")))
    }

    /// Stores `bytes` under one key below the prefix.
    pub async fn put(&mut self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let size = bytes.len() as u64;
        let etag = self.bucket.put(&format!("{}{key}", self.prefix), bytes).await?;
        let version = Version { size, modified: (0, 0), inode: 0 };
        self.stored.insert(key.to_owned(), Kept { version, stored: Stored { size, etag }, source: None });
        Ok(())
    }

    /// Takes away what was stored, or is in doubt, from files that are no longer there: a checkpoint that the
    /// program replaced is not part of its results.
    pub async fn prune(&mut self) -> Result<(), Error> {
        let kept = self.stored.iter().filter_map(|(key, e)| Some((key, e.source.as_ref()?)));
        let gone = kept.chain(&self.doubtful).filter(|(_, source)| source.is_gone());
        let gone: Vec<String> = gone.map(|(key, _)| key.clone()).collect();
        for key in gone {
            let whole = format!("{}{key}", self.prefix);
            self.bucket.delete(&whole).await?;
            break_point("store:removed");
            if let Some(ledger) = &self.open.ledger {
                ledger.removed(&whole);
            }
            self.stored.remove(&key);
            self.doubtful.remove(&key);
        }
        Ok(())
    }

    /// Takes away what others have stored below the prefix, but for keys below it that are to be kept, and for
    /// what may be a file here that cannot be read.
    pub async fn remove_others(&mut self, keep: &(dyn Fn(&str) -> bool + Sync)) -> Result<(), Error> {
        let unread: BTreeSet<&str> = self.skipped.keys().map(|s| s.trim_end_matches('/')).collect();
        // The key, the folders that it is in, or all.
        let is_unread = |key: &str| {
            let folders = key.match_indices('/').map(|(at, _)| &key[..at]);
            folders.chain(["", key]).any(|k| unread.contains(k))
        };
        for object in self.bucket.list(&self.prefix).await? {
            let below = object.key.strip_prefix(&self.prefix);
            if !below.is_some_and(|k| self.stored.contains_key(k) || keep(k) || is_unread(k)) {
                self.bucket.delete(&object.key).await?;
            }
        }
        Ok(())
    }

    /// What is there, with keys below the prefix.
    pub fn inventory(&self) -> Inventory {
        let stored = self.stored.iter().map(|(k, e)| (k.clone(), e.stored.clone()));
        stored.chain(self.others.clone()).collect()
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
}
