//! Brings the objects below a prefix into a folder, through the cache, while others may change them.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use futures::{StreamExt, stream};
use trainyard_breakpoints::break_point;

use crate::{
    Bucket, Cache, Error, Object,
    cache::Lookup,
    check_names,
    fetch::{Permits, fetch},
};

/// Requests on the way at once.
const AT_ONCE: usize = 64;
/// Pause between looks at an entry that another runner is fetching.
const BUSY_PAUSE: Duration = Duration::from_millis(20);

/// How far a stage-in is. Shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that are there, whether from the network or from the cache.
    pub done: AtomicU64,
    /// Bytes that there will be; 0 until the bucket has been listed.
    pub total: AtomicU64,
}

/// What a stage-in did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staged {
    /// Files in the folder.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files that came over the network.
    pub fetched_files: u64,
    /// Bytes that came over the network.
    pub fetched_bytes: u64,
    /// Connections that broke and were taken up again.
    pub resumed: u32,
}

impl Staged {
    fn add(self, other: Self) -> Self {
        Self {
            files: self.files + other.files,
            bytes: self.bytes + other.bytes,
            fetched_files: self.fetched_files + other.fetched_files,
            fetched_bytes: self.fetched_bytes + other.fetched_bytes,
            resumed: self.resumed + other.resumed,
        }
    }
}

/// Rounds of [`stage_in`], and the pause between two.
const ROUNDS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(100);
/// How often an object is fetched at once in the version that is there by then, until its round goes on.
const CHASES: u32 = 5;

/// Brings all objects below `prefix` into `folder`, which exists and is empty. With a cache, files
/// are links to its entries and must not be written to; without one they are the caller's own.
pub async fn stage_in(
    bucket: &Bucket,
    prefix: &str,
    cache: Option<&Cache>,
    folder: &Path,
    progress: &Progress,
) -> Result<Staged, Error> {
    let mut stage = StageIn::new(bucket, prefix, cache, folder);
    let mut rounds = 0;
    loop {
        rounds += 1;
        match stage.round(progress).await? {
            None => return Ok(stage.staged()),
            Some(key) if rounds == ROUNDS => return Err(Error::Changed(bucket.what(Some(&key)))),
            Some(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// A folder that is made equal to what is below a prefix, while others change that: in rounds, of which each lists
/// and fetches what differs. What is here is whole in every file, also when a round fails.
pub struct StageIn<'a> {
    bucket: &'a Bucket,
    prefix: &'a str,
    cache: Option<&'a Cache>,
    folder: &'a Path,
    /// What each file is, by key.
    have: BTreeMap<String, Object>,
    /// Keys that were fetched in the last round in a later version than was listed.
    chased: HashSet<String>,
    fetched: Staged,
    permits: Permits,
}

/// What became of one object.
enum Got {
    /// It is here; `chased`: in a later version than was listed.
    Here { object: Object, staged: Staged, chased: bool },
    /// It is gone from the bucket, or changed faster than it could be fetched.
    Moved(Object),
}

impl<'a> StageIn<'a> {
    /// Nothing is here yet: `folder` exists and is empty.
    pub fn new(bucket: &'a Bucket, prefix: &'a str, cache: Option<&'a Cache>, folder: &'a Path) -> Self {
        let (have, chased, fetched) = (BTreeMap::new(), HashSet::new(), Staged::default());
        Self { bucket, prefix, cache, folder, have, chased, fetched, permits: Permits::new(AT_ONCE) }
    }

    /// Lists, and fetches what differs; what is gone from the bucket goes here as well. `None`: all is here.
    /// `Some`: this key was changed or taken away meanwhile, so that another round has to look.
    pub async fn round(&mut self, progress: &Progress) -> Result<Option<String>, Error> {
        let objects = self.bucket.list(self.prefix).await?;
        let names: Vec<String> =
            objects.iter().map(|o| self.name(o).to_owned()).filter(|n| !n.is_empty()).collect();
        check_names(names.iter().map(String::as_str)).map_err(Error::Names)?;
        progress.total.store(objects.iter().map(|o| o.size).sum(), Relaxed);

        let files = objects.iter().filter(|o| !self.name(o).is_empty() && !o.key.ends_with('/'));
        let listed: BTreeMap<&str, &Object> = files.map(|o| (&*o.key, o)).collect();
        let gone: Vec<String> =
            self.have.keys().filter(|k| !listed.contains_key(k.as_str())).cloned().collect();
        let wanted: Vec<Object> =
            listed.values().filter(|o| self.have.get(&o.key) != Some(**o)).map(|o| (**o).clone()).collect();
        // One that is written all the time is here in a version of its own: nothing else has changed.
        let only_restless = gone.is_empty()
            && wanted.iter().all(|o| self.chased.contains(&o.key) && self.have.contains_key(&o.key));
        if only_restless && !self.have.is_empty() {
            return Ok(None);
        }
        for key in gone {
            self.forget(&key);
        }
        for object in &wanted {
            self.forget(&object.key);
        }
        make_folders(self.folder, &names)?;
        progress.done.store(self.have.values().map(|o| o.size).sum(), Relaxed);
        self.fetch(wanted, progress).await
    }

    /// Fetches objects side by side; returns a key that moved.
    async fn fetch(&mut self, wanted: Vec<Object>, progress: &Progress) -> Result<Option<String>, Error> {
        self.chased.clear();
        let of = Fetching { bucket: self.bucket, cache: self.cache, permits: &self.permits };
        let (folder, prefix) = (self.folder, self.prefix);
        let mut results = stream::iter(wanted)
            .map(|object| async move {
                let target = folder.join(&object.key[prefix.len()..]);
                of.chase(object, &target).await
            })
            .buffer_unordered(AT_ONCE);
        let (mut moved, mut gone, mut failed) = (None, Vec::new(), None);
        while let Some(result) = results.next().await {
            match result {
                Ok(Got::Here { object, staged, chased }) => {
                    progress.done.fetch_add(object.size, Relaxed);
                    self.fetched = self.fetched.add(staged);
                    if chased {
                        self.chased.insert(object.key.clone());
                        moved.get_or_insert_with(|| object.key.clone());
                    }
                    self.have.insert(object.key.clone(), object);
                }
                Ok(Got::Moved(object)) => gone.push(object.key),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        // Only when nothing is on its way: others may belong into the same folders.
        drop(results);
        for key in &gone {
            remove_empty_folders(folder, &folder.join(&key[prefix.len()..]));
        }
        failed.map_or(Ok(moved.or(gone.pop())), Err)
    }

    /// What is here now, of which every file is whole.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.have.values()
    }

    /// What was done so far.
    pub fn staged(&self) -> Staged {
        let bytes = self.have.values().map(|o| o.size).sum();
        Staged { files: self.have.len() as u64, bytes, ..self.fetched }
    }

    /// Bytes that came over the network so far, also of what was fetched in vain.
    pub fn received(&self) -> u64 {
        self.permits.received.load(Relaxed)
    }

    fn name<'o>(&self, object: &'o Object) -> &'o str {
        &object.key[self.prefix.len()..]
    }

    /// Takes a file away, and folders that have nothing in them then.
    fn forget(&mut self, key: &str) {
        if self.have.remove(key).is_none() {
            return;
        }
        let path = self.folder.join(&key[self.prefix.len()..]);
        let _ = std::fs::remove_file(&path);
        remove_empty_folders(self.folder, &path);
    }
}

/// Removes the folders between `root` and the file at `path`, which is not there, that hold nothing else. Those
/// that the bucket names are made again.
fn remove_empty_folders(root: &Path, path: &Path) {
    for folder in path.ancestors().skip(1).take_while(|f| *f != root) {
        if std::fs::remove_dir(folder).is_err() {
            break;
        }
    }
}

/// What fetching one object takes.
#[derive(Clone, Copy)]
struct Fetching<'a> {
    bucket: &'a Bucket,
    cache: Option<&'a Cache>,
    permits: &'a Permits,
}

impl Fetching<'_> {
    /// Fetches an object, in the version that is there by then where it changes meanwhile.
    async fn chase(self, listed: Object, target: &Path) -> Result<Got, Error> {
        let mut object = listed.clone();
        for chase in 0..=CHASES {
            match self.one(&object, target).await {
                Ok(staged) => return Ok(Got::Here { chased: object != listed, object, staged }),
                Err(error) if error.is_moved() || matches!(error, Error::Corrupt { .. }) => {
                    let Some(there) = self.bucket.stat(&object.key).await? else { break };
                    if (&there.etag, there.size) == (&object.etag, object.size) && !error.is_moved() {
                        // It is what it was: the bytes are wrong.
                        return Err(error);
                    }
                    tracing::info!(%error, chase, "another version is fetched");
                    object = Object { size: there.size, etag: there.etag, ..object };
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Got::Moved(listed))
    }

    async fn one(self, object: &Object, target: &Path) -> Result<Staged, Error> {
        match self.cache {
            Some(cache) => through(cache, self.bucket, object, target, self.permits).await,
            None => directly(self.bucket, object, target, self.permits).await,
        }
    }
}

fn make_folders(folder: &Path, names: &[String]) -> Result<(), Error> {
    let mut made: HashSet<PathBuf> = HashSet::new();
    for name in names {
        let path = folder.join(name);
        let wanted = if name.ends_with('/') { Some(path.as_path()) } else { path.parent() };
        if let Some(wanted) = wanted
            && wanted != folder
            && made.insert(wanted.to_owned())
        {
            std::fs::create_dir_all(wanted).map_err(|e| Error::file(wanted, e))?;
        }
    }
    Ok(())
}

async fn through(
    cache: &Cache,
    bucket: &Bucket,
    object: &Object,
    target: &Path,
    permits: &Permits,
) -> Result<Staged, Error> {
    let mut staged = Staged::default();
    let path = cache.entry(bucket, object);
    let entry = loop {
        match Cache::look(&path, object.size)? {
            Lookup::Hit(entry) => break entry,
            Lookup::Busy => tokio::time::sleep(BUSY_PAUSE).await,
            Lookup::Fetch(reserved) => {
                let fetched = fetch(bucket, object, &reserved.file, &reserved.part, permits).await?;
                break_point("cache:fetched");
                staged.fetched_files = 1;
                staged.fetched_bytes = fetched.bytes;
                staged.resumed = fetched.resumed;
                break reserved.keep()?;
            }
        }
    };
    match std::fs::hard_link(&entry, target) {
        Ok(()) => {}
        // What stands there may be a link to an entry: writing to it would spoil that.
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => return Err(Error::file(target, e)),
        // Another file system, or too many links: a copy serves as well.
        Err(_) => std::fs::copy(&entry, target).map(|_| ()).map_err(|e| Error::file(target, e))?,
    }
    Ok(staged)
}

async fn directly(
    bucket: &Bucket,
    object: &Object,
    target: &Path,
    permits: &Permits,
) -> Result<Staged, Error> {
    let file = std::fs::File::create(target).map_err(|e| Error::file(target, e))?;
    let partial = Partial(Some(target));
    let fetched = fetch(bucket, object, &file, target, permits).await?;
    partial.keep();
    Ok(Staged {
        fetched_files: 1,
        fetched_bytes: fetched.bytes,
        resumed: fetched.resumed,
        ..Staged::default()
    })
}

/// A file that goes again, unless it is kept: what is not whole is taken for nothing.
struct Partial<'a>(Option<&'a Path>);

impl Partial<'_> {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Partial<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            let _ = std::fs::remove_file(path);
        }
    }
}
