//! What a folder of results holds that is new or changed, and what of it can be no result.

use std::{
    fs::Metadata,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use nix::errno::Errno;

use crate::{
    Error, Upload,
    beneath::{Beneath, Entry},
    upload::{Source, Version, Wanted},
};

/// What a folder holds.
#[derive(Default)]
pub(crate) struct Found {
    /// What is new or changed.
    pub(crate) files: Vec<Wanted>,
    /// Why the machine could not tell everything: nobody may say that all is stored then.
    pub(crate) failed: Option<Error>,
}

/// A folder, and where it is.
struct Place<'a> {
    beneath: &'a Beneath,
    folder: &'a Path,
    /// What keys begin with.
    below: &'a str,
}

impl Upload {
    /// Files below `folder` that are new or changed, with their keys. Links are followed to files
    /// inside, and left out where they lead elsewhere; sockets, pipes and devices are no results.
    pub(crate) fn collect(&mut self, folder: &Path, below: &str) -> Found {
        let mut found = Found::default();
        match Beneath::new(folder) {
            Ok(beneath) => self.collect_in(&Place { beneath: &beneath, folder, below }, "", &mut found),
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

    fn collect_in(&mut self, place: &Place<'_>, at: &str, found: &mut Found) {
        let Place { beneath, folder, below } = *place;
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
                Ok(Entry::Folder) => self.collect_in(place, &format!("{name}/"), found),
                Ok(Entry::LinkOut) => {
                    let why = "it is a link, and not one to a file in the same folder of results";
                    self.skip(&key, why.to_owned());
                }
                Ok(Entry::File(metadata)) => {
                    let version = Version::of(&metadata);
                    let wanted = !self.elsewhere.contains(&key);
                    if wanted && self.stored.get(&key).is_none_or(|e| e.version != version) {
                        let source = Source { beneath: beneath.clone(), folder: folder.to_owned(), name };
                        found.files.push(Wanted {
                            key,
                            source,
                            version,
                            modified: metadata.modified().ok(),
                            changed: changed(&metadata),
                        });
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

/// When a file was last written, renamed or given other rights, as the machine noted it: nobody can set that.
fn changed(metadata: &Metadata) -> Option<SystemTime> {
    let seconds = Duration::from_secs(u64::try_from(metadata.ctime()).ok()?);
    let rest = Duration::from_nanos(u64::try_from(metadata.ctime_nsec()).ok()?);
    UNIX_EPOCH.checked_add(seconds + rest)
}

/// Whether an error of looking at a file says that it is gone. Not every one does, and what is gone is
/// taken out of the bucket.
pub(crate) fn says_gone(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

/// Whether the machine is to blame for an error: it is out of descriptors or memory, or its disk is bad.
fn is_machines(error: &std::io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::EIO))
}
