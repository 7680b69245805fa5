//! Folders of runs on this node: made, found, and used again for the next run.
//!
//! To make and remove files and folders is the most expensive thing that a short run does, so the
//! folder of a run that is over becomes a spare: its runner's files are cut to nothing, the folders
//! that its runner has emptied stay.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use trainyard_api::{
    RunId,
    runner::{KEEP_MARK, KEPT_FOLDER, OUTPUT},
};
use trainyard_remains::{put_aside, remove_tree};

/// Spares kept; more are removed.
const MOST_SPARES: usize = 32;
/// Files in the folder of a run that went well; one with more is not used again.
const MOST_FILES: usize = 10;
/// Files of an earlier release, whose being there said something.
const SPEAKING: [&str; 2] = ["started", "log-base"];

/// Where the files of a run are on its node.
pub fn run_folder(node: &Path, run: &RunId) -> PathBuf {
    node.join("runs").join(run.as_str())
}

/// The folders of one node.
pub(crate) struct Folders {
    node: PathBuf,
    /// Numbers of the spares; absent until they were looked for.
    spares: Mutex<Option<Vec<u64>>>,
}

impl Folders {
    pub(crate) fn new(node: PathBuf) -> Self {
        Self { node, spares: Mutex::default() }
    }

    /// The run's folder.
    pub(crate) fn of(&self, run: &RunId) -> PathBuf {
        run_folder(&self.node, run)
    }

    /// Runs that have a folder.
    pub(crate) fn of_runs(&self) -> Vec<RunId> {
        let entries = fs::read_dir(self.node.join("runs")).into_iter().flatten().flatten();
        entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect()
    }

    fn spare(&self, number: u64) -> PathBuf {
        self.node.join("spare").join(number.to_string())
    }

    /// The run's folder, which is there afterwards.
    pub(crate) fn make(&self, run: &RunId) -> io::Result<PathBuf> {
        let folder = self.of(run);
        if folder.is_dir() {
            return Ok(folder);
        }
        let spare = self.spares.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(Vec::pop);
        if let Some(number) = spare
            && fs::rename(self.spare(number), &folder).is_ok()
        {
            return Ok(folder);
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(folder)
    }

    /// Makes the folder of a run that is over a spare, or removes it.
    pub(crate) fn take_back(&self, run: &RunId) -> io::Result<()> {
        let folder = self.of(run);
        if !folder.exists() {
            return Ok(());
        }
        if folder.join(KEEP_MARK).exists() {
            // They are an operator's to look after.
            return put_aside(&folder, &self.node.join(KEPT_FOLDER), run.as_str());
        }
        if matches!(clear(&folder), Ok(true)) && matches!(self.keep(&folder), Ok(true)) {
            return Ok(());
        }
        remove_tree(&folder)
    }

    /// Makes `folder` a spare; `false`: there are enough.
    fn keep(&self, folder: &Path) -> io::Result<bool> {
        let mut spares = self.spares.lock().unwrap_or_else(PoisonError::into_inner);
        let spares = match &mut *spares {
            Some(spares) => spares,
            none => none.insert(self.find_spares()?),
        };
        if spares.len() >= MOST_SPARES {
            return Ok(false);
        }
        let mut numbers = 0..2 * MOST_SPARES as u64;
        let Some(number) = numbers.find(|n| !spares.contains(n) && !self.spare(*n).exists()) else {
            return Ok(false);
        };
        fs::rename(folder, self.spare(number))?;
        spares.push(number);
        Ok(true)
    }

    /// Spares that an earlier server left.
    fn find_spares(&self) -> io::Result<Vec<u64>> {
        let root = self.node.join("spare");
        DirBuilder::new().recursive(true).mode(0o700).create(&root)?;
        let mut spares = Vec::new();
        for entry in fs::read_dir(root)?.flatten() {
            // Once more: a power cut may have undone what was cut.
            let number = entry.file_name().to_str().and_then(|n| n.parse().ok());
            match number.filter(|_| matches!(clear(&entry.path()), Ok(true))) {
                Some(number) => spares.push(number),
                None => fs::remove_dir_all(entry.path())?,
            }
        }
        Ok(spares)
    }
}

/// Cuts the files in `folder` to nothing; `false`: it is not as a run that went well leaves it.
fn clear(folder: &Path) -> io::Result<bool> {
    let mut files = Vec::new();
    let mut folders = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() && entry.file_name() == "job" && is_empty(&entry.path())? => folders += 1,
            kind if kind.is_file() && !SPEAKING.iter().any(|n| entry.file_name() == *n) => {
                files.push(entry.path());
            }
            _ => return Ok(false),
        }
    }
    if folders != 1 || files.len() > MOST_FILES {
        return Ok(false);
    }
    for path in files {
        if path.ends_with(OUTPUT) {
            // The program may have handed it on, open, to another.
            fs::remove_file(path)?;
        } else if fs::symlink_metadata(&path)?.len() > 0 {
            File::options().write(true).open(path)?.set_len(0)?;
        }
    }
    Ok(true)
}

/// Whether there are only folders in `folder`.
fn is_empty(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || !is_empty(&entry.path())? {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> RunId {
        format!("training-{n:09}").parse().unwrap()
    }

    #[test]
    fn a_folder_is_used_again_without_what_was_in_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::new(dir.path().to_owned());
        let first = folders.make(&id(1)).unwrap();
        fs::create_dir(first.join("job")).unwrap();
        fs::write(first.join("training-log.txt"), "of the first run").unwrap();
        fs::write(first.join("spool.jsonl"), "of the first run").unwrap();
        folders.take_back(&id(1)).unwrap();
        assert!(!first.exists());
        let second = folders.make(&id(2)).unwrap();
        assert!(!second.join("training-log.txt").exists());
        assert_eq!(fs::read_to_string(second.join("spool.jsonl")).unwrap(), "");
        assert!(second.join("job").is_dir());
        folders.take_back(&id(2)).unwrap();
        // A server that starts anew takes them over, as soon as it has one of its own.
        let folders = Folders::new(dir.path().to_owned());
        fs::create_dir(folders.make(&id(3)).unwrap().join("job")).unwrap();
        folders.take_back(&id(3)).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("spare")).unwrap().count(), 2);
        folders.make(&id(4)).unwrap();
        folders.make(&id(5)).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("spare")).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_looks_strange_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let folders = Folders::new(dir.path().to_owned());
        let folder = folders.make(&id(1)).unwrap();
        fs::create_dir(folder.join("job")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("link")).unwrap();
        folders.take_back(&id(1)).unwrap();
        assert!(!folder.exists());
        // A runner that was killed before it cleared up.
        let folder = folders.make(&id(2)).unwrap();
        fs::create_dir_all(folder.join("job/dl-models/model")).unwrap();
        fs::write(folder.join("job/dl-models/model/w"), "somebody's").unwrap();
        folders.take_back(&id(2)).unwrap();
        assert_eq!(fs::read_dir(dir.path().join("runs")).unwrap().count(), 0);
        assert!(!dir.path().join("spare").exists());
    }
}
