//! The node's cache of objects, shared by all runs and all runners on it.
//!
//! An entry is a file named by the SHA-256 of endpoint, bucket, key, ETag and size: what is
//! named alike is the same, so nothing is ever changed, and runs link to it. A fetch holds a lock
//! on the entry's `.part` file; whoever comes second waits for it and finds the entry made.

use std::{
    fs::{File, OpenOptions, TryLockError},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};

use crate::{Bucket, Error, Object};

/// Cached objects of one node.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// What a look into the cache gave.
pub(crate) enum Lookup {
    /// The entry is there.
    Hit(PathBuf),
    /// It is ours to fetch: into this file, which is locked and empty.
    Fetch(Reserved),
    /// Another fetch of it is under way.
    Busy,
}

/// An entry being made.
pub(crate) struct Reserved {
    pub(crate) file: File,
    pub(crate) part: PathBuf,
    entry: PathBuf,
    done: bool,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.done {
            let _ = std::fs::remove_file(&self.part);
        }
    }
}

impl Reserved {
    /// Makes what was fetched an entry.
    pub(crate) fn keep(mut self) -> Result<PathBuf, Error> {
        // Readable by all, writable by none: entries are never changed. The fixed time lets a
        // look-up see that somebody wrote to one nevertheless.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o444);
        let time = SystemTime::UNIX_EPOCH + Duration::new(ENTRY_SECONDS.unsigned_abs(), boot_mark());
        self.file.set_permissions(permissions).map_err(|e| Error::file(&self.part, e))?;
        self.file.set_modified(time).map_err(|e| Error::file(&self.part, e))?;
        std::fs::rename(&self.part, &self.entry).map_err(|e| Error::file(&self.entry, e))?;
        self.done = true;
        Ok(self.entry.clone())
    }
}

/// Modification time of every entry, in seconds since 1970: 2001-09-09T01:46:40Z.
const ENTRY_SECONDS: i64 = 1_000_000_000;

/// Nanoseconds of an entry's time: they stand for this boot of the machine. Entries are not
/// flushed one by one, so after a power cut a name may be there without its bytes; what an earlier
/// boot left is fetched again.
fn boot_mark() -> u32 {
    static MARK: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *MARK.get_or_init(|| {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let hash = Sha256::digest(id.trim());
        u32::from_le_bytes([hash[0], hash[1], hash[2], 0])
    })
}

impl Cache {
    /// The cache in `folder`, which is made when it is missing.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
        Ok(Self { root: folder.to_owned() })
    }

    /// Removes what was being fetched into the cache in `folder` when its runner was killed: nobody has it locked.
    /// Returns how many. A cache that is not there has none.
    pub fn sweep(folder: &Path) -> usize {
        let folders = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = folders.filter_map(|f| std::fs::read_dir(f.path()).ok()).flatten().flatten();
        let parts = files.map(|f| f.path()).filter(|p| p.extension().is_some_and(|e| e == "part"));
        let remove = |part: &PathBuf| {
            // Locked until it is gone: whoever opens it meanwhile finds that out, and makes another.
            let Ok(file) = File::open(part) else { return false };
            file.try_lock().is_ok() && std::fs::remove_file(part).is_ok()
        };
        parts.filter(remove).count()
    }

    /// Where the entry of `object` is or would be.
    pub(crate) fn entry(&self, bucket: &Bucket, object: &Object) -> PathBuf {
        let mut hash = Sha256::new();
        for text in [bucket.endpoint(), bucket.name(), &object.key, &object.etag] {
            hash.update(text.as_bytes());
            hash.update([0]);
        }
        hash.update(object.size.to_le_bytes());
        let name = hex::encode(hash.finalize());
        self.root.join(&name[..2]).join(name)
    }

    /// Looks for an entry, and reserves it when it is missing.
    pub(crate) fn look(entry: &Path, size: u64) -> Result<Lookup, Error> {
        if is_good(entry, size) {
            return Ok(Lookup::Hit(entry.to_owned()));
        }
        let part = entry.with_extension("part");
        let failed = |e| Error::file(&part, e);
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let opened = match options.open(&part) {
                // The first entry of its two digits.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    let parent = part.parent().unwrap_or(&part);
                    std::fs::create_dir_all(parent).map_err(failed)?;
                    options.open(&part)
                }
                other => other,
            };
            let file = opened.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(Lookup::Busy),
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            }
            // The holder before us may have renamed or removed the file that we opened.
            if is_good(entry, size) {
                return Ok(Lookup::Hit(entry.to_owned()));
            }
            let here = std::fs::metadata(&part).map(|m| m.ino()).ok();
            if here == file.metadata().map(|m| m.ino()).ok() {
                return Ok(Lookup::Fetch(Reserved { file, part, entry: entry.to_owned(), done: false }));
            }
        }
    }
}

/// Whether the entry is as it was made. A program that runs as root can write to what it links
/// to; then the time differs, and the object is fetched anew.
fn is_good(entry: &Path, size: u64) -> bool {
    std::fs::symlink_metadata(entry).is_ok_and(|m| {
        m.is_file()
            && m.size() == size
            && m.mtime() == ENTRY_SECONDS
            && m.mtime_nsec() == i64::from(boot_mark())
    })
}
