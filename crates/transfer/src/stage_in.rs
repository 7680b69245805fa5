//! Brings the objects below a prefix into a folder, through the cache.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::Semaphore;

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

/// Brings all objects below `prefix` into `folder`, which exists and is empty. With a cache, files
/// are links to its entries and must not be written to; without one they are the caller's own.
pub async fn stage_in(
    bucket: &Bucket,
    prefix: &str,
    cache: Option<&Cache>,
    folder: &Path,
    progress: &Progress,
) -> Result<Staged, Error> {
    let objects = bucket.list(prefix).await?;
    let relative = |o: &Object| o.key[prefix.len()..].to_owned();
    let names: Vec<String> = objects.iter().map(relative).filter(|n| !n.is_empty()).collect();
    check_names(names.iter().map(String::as_str)).map_err(Error::Names)?;
    progress.total.store(objects.iter().map(|o| o.size).sum(), Relaxed);
    make_folders(folder, &names)?;

    let permits: Permits = Arc::new(Semaphore::new(AT_ONCE));
    let wanted = objects.into_iter().filter(|o| !o.key.ends_with('/') && o.key.len() > prefix.len());
    stream::iter(wanted)
        .map(|object| {
            let target = folder.join(&object.key[prefix.len()..]);
            let permits = &permits;
            async move {
                let staged = match cache {
                    Some(cache) => through(cache, bucket, &object, &target, permits).await?,
                    None => directly(bucket, &object, &target, permits).await?,
                };
                progress.done.fetch_add(object.size, Relaxed);
                Ok(staged)
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_fold(Staged::default(), |sum, one| async move { Ok(sum.add(one)) })
        .await
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
    let mut staged = Staged { files: 1, bytes: object.size, ..Staged::default() };
    let path = cache.entry(bucket, object);
    let entry = loop {
        match Cache::look(&path, object.size)? {
            Lookup::Hit(entry) => break entry,
            Lookup::Busy => tokio::time::sleep(BUSY_PAUSE).await,
            Lookup::Fetch(reserved) => {
                let fetched = fetch(bucket, object, &reserved.file, &reserved.part, permits).await?;
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
    let fetched = fetch(bucket, object, &file, target, permits).await?;
    Ok(Staged {
        files: 1,
        bytes: object.size,
        fetched_files: 1,
        fetched_bytes: fetched.bytes,
        resumed: fetched.resumed,
    })
}
