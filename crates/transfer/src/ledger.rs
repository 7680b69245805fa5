//! What a runner fetched and stored, on disk: whoever comes after it knows from here what is its to change in
//! the bucket, and what is not.
//!
//! A line of JSON each, of files as they were fetched, of objects before they are stored and after, of uploads
//! in parts while they are open. Losing the last lines is no harm: what is in doubt is looked at. Keys are whole.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    upload::{Stored, Version},
};

/// A file, the version of it that was looked at, and the object that it is or was made to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(crate) key: String,
    /// The file's folder, below the ledger's own.
    pub(crate) folder: PathBuf,
    /// The file, below that.
    pub(crate) name: String,
    pub(crate) version: Version,
    /// Absent: not stored yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stored: Option<Stored>,
}

/// A file that is about to be stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Storing {
    #[serde(flatten)]
    file: Copied,
    /// The ETag that the object gets, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
}

/// One line. New kinds may be added; a reader passes over what it does not know.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The file came from the bucket, or went there.
    Copied(Copied),
    /// The file is about to be stored.
    Storing(Storing),
    /// The object was taken away.
    Removed(String),
    /// An upload in parts was begun: key, and the store's name for it.
    Began(String, String),
    /// It is over.
    Ended(String, String),
}

/// Bytes of a ledger from which on it is written anew where most of it is out of date: a program that runs for weeks
/// writes its log all the time.
const LARGE: u64 = 1 << 20;
/// ETags of one key that are remembered: a store may refuse each for days.
const MOST_ETAGS: usize = 32;
/// How much larger than what is still true a ledger may become.
const MOST_WASTE: u64 = 4;

/// Writes a ledger. What a full disk has no room for is held, and written with the next line.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    file: File,
    held: Vec<u8>,
    /// What all lines come to.
    past: Past,
    /// Bytes from which on it is written anew.
    limit: u64,
}

/// What the lines of a ledger come to.
#[derive(Debug, Default, PartialEq)]
pub struct Past {
    /// By key.
    pub(crate) copied: BTreeMap<String, Copied>,
    /// ETags that each key may have of this run: what it was last known to have first, then what was to be stored
    /// since.
    pub(crate) etags: BTreeMap<String, Vec<String>>,
    /// Uploads that are open: keys, and the store's names for them.
    pub(crate) open: Vec<(String, String)>,
}

impl Writer {
    /// Writes what is held; returns the size of the file then. What finds no room is held on.
    fn write_held(&mut self) -> std::io::Result<u64> {
        let before = self.file.metadata()?.len();
        if let Err(error) = self.file.write_all(&self.held) {
            // A part of it may have found room.
            let _ = self.file.set_len(before);
            return Err(error);
        }
        let size = before + self.held.len() as u64;
        self.held.clear();
        Ok(size)
    }
}

impl Ledger {
    /// Begins the ledger at `path` anew. Files are named by where they are below its folder.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let file = open(path).and_then(|file| {
            // Not by opening: to cut a file that is empty already makes some file systems flush it.
            if file.metadata()?.len() > 0 {
                file.set_len(0)?;
            }
            Ok(file)
        });
        Ok(Self::of(path, file.map_err(|e| Error::file(path, e))?, Past::default()))
    }

    /// Goes on with the ledger at `path`.
    pub fn go_on(path: &Path) -> Result<Self, Error> {
        let failed = |e| Error::file(path, e);
        let past = Past::read(path)?.unwrap_or_default();
        let mut file = open(path).map_err(failed)?;
        // What a full disk or a power cut tore off is one line, and what follows another.
        let size = file.metadata().map_err(failed)?.len();
        let mut last = [b'\n'];
        if size > 0 {
            file.read_exact_at(&mut last, size - 1).map_err(failed)?;
        }
        if last != *b"\n" {
            file.write_all(b"\n").map_err(failed)?;
        }
        Ok(Self::of(path, file, past))
    }

    fn of(path: &Path, file: File, past: Past) -> Self {
        let writer = Writer { file, held: Vec::new(), past, limit: LARGE };
        Self { path: path.to_owned(), writer: Mutex::new(writer) }
    }

    /// Flushes all that was noted to the disk, where that is anything.
    pub fn flush(&self) -> std::io::Result<()> {
        let mut writer = self.writer();
        writer.write_held()?;
        if writer.file.metadata()?.len() == 0 { Ok(()) } else { writer.file.sync_data() }
    }

    /// Where `folder` is below this ledger's.
    pub(crate) fn below(&self, folder: &Path) -> PathBuf {
        self.path.parent().and_then(|root| folder.strip_prefix(root).ok()).unwrap_or(folder).to_owned()
    }

    pub(crate) fn copied(&self, copied: impl IntoIterator<Item = Copied>) {
        self.append(copied.into_iter().map(Line::Copied));
    }

    pub(crate) fn storing(&self, copied: Copied, etag: Option<&str>) {
        let file = Copied { stored: None, ..copied };
        self.append([Line::Storing(Storing { file, etag: etag.map(str::to_owned) })]);
    }

    pub(crate) fn removed(&self, key: &str) {
        self.append([Line::Removed(key.to_owned())]);
    }

    pub(crate) fn began(&self, key: &str, id: &str) {
        self.append([Line::Began(key.to_owned(), id.to_owned())]);
    }

    pub(crate) fn ended(&self, key: &str, id: &str) {
        self.append([Line::Ended(key.to_owned(), id.to_owned())]);
    }

    fn append(&self, lines: impl IntoIterator<Item = Line>) {
        let mut writer = self.writer();
        for line in lines {
            write(&mut writer.held, &line);
            writer.past.see(line);
        }
        match writer.write_held() {
            Ok(size) if size > writer.limit => match rewrite(&self.path, &writer.past) {
                Ok((new, size)) => {
                    (writer.file, writer.limit) = (new, LARGE.max(size * MOST_WASTE));
                }
                Err(error) => {
                    tracing::warn!(%error, "the ledger stays as long as it is");
                    writer.limit = size * 2;
                }
            },
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "what is stored cannot be noted now"),
        }
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)
}

/// A line of JSON; what these are made of can always be written as that.
fn write(text: &mut Vec<u8>, line: &Line) {
    if let Ok(json) = serde_json::to_vec(line) {
        text.extend(json);
        text.push(b'\n');
    }
}

/// Puts a ledger of what is still true into the place of the one at `path`, at once; returns it, and its size.
fn rewrite(path: &Path, past: &Past) -> std::io::Result<(File, u64)> {
    let mut text = Vec::new();
    for copied in past.copied.values() {
        if copied.stored.is_some() {
            write(&mut text, &Line::Copied(copied.clone()));
            continue;
        }
        let storing = |etag| Line::Storing(Storing { file: copied.clone(), etag });
        let etags = past.etags.get(&copied.key).cloned().unwrap_or_default();
        if etags.is_empty() {
            write(&mut text, &storing(None));
        }
        for etag in etags {
            write(&mut text, &storing(Some(etag)));
        }
    }
    for (key, id) in &past.open {
        write(&mut text, &Line::Began(key.clone(), id.clone()));
    }
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let mut file = open(&part)?;
    file.write_all(&text)?;
    file.sync_data()?;
    fs::rename(part, path)?;
    Ok((file, text.len() as u64))
}

impl Past {
    /// Reads the ledger at `path`; `None` where there is none. A torn line is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::file(path, e)),
        };
        let mut past = Self::default();
        for line in text.split(|b| *b == b'\n') {
            if let Ok(line) = serde_json::from_slice(line) {
                past.see(line);
            }
        }
        Ok(Some(past))
    }

    fn see(&mut self, line: Line) {
        match line {
            Line::Copied(copied) => {
                if let Some(stored) = &copied.stored {
                    self.etags.insert(copied.key.clone(), vec![stored.etag.clone()]);
                }
                self.copied.insert(copied.key.clone(), copied);
            }
            Line::Storing(Storing { file, etag }) => {
                let known = self.etags.entry(file.key.clone()).or_default();
                known.extend(etag.filter(|e| !known.contains(e)));
                if known.len() > MOST_ETAGS {
                    // What is there is what was there last, or came with one of the tries since: the latest, most likely.
                    known.remove(1);
                }
                self.copied.insert(file.key.clone(), file);
            }
            Line::Removed(key) => {
                self.copied.remove(&key);
                self.etags.remove(&key);
            }
            Line::Began(key, id) => self.open.push((key, id)),
            Line::Ended(key, id) => self.open.retain(|o| *o != (key.clone(), id.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copied(key: &str, size: u64, etag: Option<&str>) -> Copied {
        Copied {
            key: key.to_owned(),
            folder: PathBuf::from("job/results"),
            name: key.to_owned(),
            version: Version { size, modified: (1, 2), inode: 3 },
            stored: etag.map(|e| Stored { size, etag: e.to_owned() }),
        }
    }

    #[test]
    fn the_last_word_on_each_key_counts_and_a_torn_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        assert_eq!(Past::read(&path).unwrap(), None);
        let ledger = Ledger::create(&path).unwrap();
        ledger.copied([copied("a", 1, Some("x")), copied("b", 1, Some("y"))]);
        ledger.storing(copied("a", 2, Some("x")), None);
        ledger.storing(copied("a", 2, Some("x")), Some("v"));
        ledger.storing(copied("c", 1, None), Some("u"));
        ledger.copied([copied("c", 1, Some("z"))]);
        ledger.removed("b");
        ledger.began("a", "1");
        ledger.began("c", "2");
        ledger.ended("c", "2");
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"removed\":\"a").unwrap();
        let past = Past::read(&path).unwrap().unwrap();
        assert_eq!(past.copied["a"], copied("a", 2, None), "in doubt");
        assert_eq!(past.etags["a"], ["x", "v"], "it may be there as it was, or as it was to be");
        assert_eq!(past.etags["c"], ["z"]);
        assert_eq!(past.copied["c"].stored.as_ref().unwrap().etag, "z");
        assert_eq!(past.copied.len(), 2);
        assert_eq!(past.open, [("a".to_owned(), "1".to_owned())]);
        Ledger::go_on(&path).unwrap().removed("c");
        assert_eq!(Past::read(&path).unwrap().unwrap().copied.len(), 1, "a line behind a torn one is lost");
        drop(Ledger::create(&path).unwrap());
        assert_eq!(Past::read(&path).unwrap(), Some(Past::default()));
    }

    #[test]
    fn a_ledger_of_weeks_stays_small_and_true() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.jsonl");
        let ledger = Ledger::create(&path).unwrap();
        ledger.began("c", "1");
        ledger.copied([copied("kept", 1, Some("k"))]);
        for n in 0..20_000 {
            ledger.storing(copied("log", n, None), Some("y"));
            ledger.copied([copied("log", n, Some("x"))]);
        }
        ledger.storing(copied("log", 20_000, None), Some("y"));
        ledger.storing(copied("begun", 1, None), None);
        // The keys to the bucket were taken away.
        ledger.copied([copied("refused", 1, Some("there"))]);
        for n in 0..20_000 {
            ledger.storing(copied("refused", n, None), Some(&n.to_string()));
        }
        let size = fs::metadata(&path).unwrap().len();
        assert!(size < 2 * LARGE, "it has {size} bytes");
        let past = Past::read(&path).unwrap().unwrap();
        assert_eq!(past, ledger.writer().past, "what is written is not what is known");
        assert_eq!(past.copied["log"], copied("log", 20_000, None));
        assert_eq!(past.etags["log"], ["x", "y"]);
        assert_eq!(past.etags["kept"], ["k"]);
        assert_eq!(past.etags["refused"].len(), MOST_ETAGS);
        assert_eq!((&*past.etags["refused"][0], &*past.etags["refused"][MOST_ETAGS - 1]), ("there", "19999"));
        assert_eq!(past.open.len(), 1);
        let (file, _) = rewrite(&path, &past).unwrap();
        drop(file);
        assert_eq!(Past::read(&path).unwrap().unwrap(), past);
    }
}
