//! The folders of a run on its node.
//!
//! They are used again for the next run: what a program left in them, or made of them, is undone.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use trainyard_api::runner::{KEEP_MARK, KEPT_FOLDER, OUTPUT};
use trainyard_remains::{place_aside, put_aside, remove_tree};

use crate::Error;

/// Where everything of one run is. `job` holds what the program sees.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The run's folder: lock, log and spool of the runner.
    pub(crate) root: PathBuf,
    /// What appears as `/job` where the machine allows.
    pub(crate) job: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) code: PathBuf,
    pub(crate) results: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) checkpoints: PathBuf,
    /// The program's own home.
    pub(crate) home: PathBuf,
    /// Its own temporary files, where it cannot have the machine's folder for them.
    pub(crate) tmp: PathBuf,
    /// The layer over the environment, where the run has one.
    pub(crate) layer: PathBuf,
    /// stdout and stderr of the program, in one file outside of `job`.
    pub(crate) output: PathBuf,
    /// Reports that are not delivered yet, and what a later runner has to know.
    pub(crate) spool: PathBuf,
    /// What was fetched and stored, so that a later runner changes nothing else in the bucket.
    pub(crate) ledger: PathBuf,
}

/// Permissions of the folders.
const MODE: u32 = 0o755;

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        let job = root.join("job");
        Self {
            root: root.to_owned(),
            data: job.join("dl-data"),
            code: job.join("model-code"),
            results: job.join("dl-models"),
            logs: job.join("logs"),
            checkpoints: job.join("checkpoints"),
            home: job.join("home"),
            tmp: job.join("tmp"),
            layer: job.join("environment"),
            output: root.join(OUTPUT),
            spool: root.join("spool.jsonl"),
            ledger: root.join("ledger.jsonl"),
            job,
        }
    }

    /// Folders below `job`, parents first; the last is for TensorBoard users, who write there
    /// without making it.
    fn folders(&self) -> Vec<PathBuf> {
        let own =
            [&self.data, &self.code, &self.results, &self.logs, &self.checkpoints, &self.home, &self.tmp];
        own.into_iter().cloned().chain([self.logs.join("tb")]).collect()
    }

    /// Makes the folders, empty: what an earlier attempt that never ran the program left, or an
    /// earlier run in whose folder this one is, is thrown away.
    pub(crate) fn make(&self) -> Result<(), Error> {
        self.empty().map_err(|e| Error::file(&self.job, e))?;
        for folder in std::iter::once(&self.job).chain(&self.folders()) {
            match DirBuilder::new().mode(MODE).create(folder) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(|e| Error::file(folder, e))?,
            }
        }
        Ok(())
    }

    /// Writes a line of the runner's own into the run's log, which is there afterwards, and nobody else's to read.
    pub(crate) fn say(&self, text: &str) {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.output);
        if let Err(error) = file.and_then(|mut f| f.write_all(text.as_bytes())) {
            tracing::warn!(%error, "the run's log cannot be written");
        }
    }

    /// Keeps what the program wrote on the node, because it could be stored nowhere: it exists only
    /// here. Returns words on where it is, for behind a sentence.
    pub(crate) fn keep(&self) -> String {
        match (DirBuilder::new().create(self.root.join(KEEP_MARK)), self.kept()) {
            (Ok(()), Some((kept, name))) => {
                format!("; its files are kept on the node, in {}", place_aside(&kept, name).display())
            }
            _ => String::new(),
        }
    }

    /// Where a folder goes that is kept, and its name.
    fn kept(&self) -> Option<(PathBuf, &str)> {
        let node = self.root.ancestors().nth(2)?;
        Some((node.join(KEPT_FOLDER), self.root.file_name()?.to_str()?))
    }

    /// Moves a folder that is kept to its place, where the engine does not do it.
    pub(crate) fn put_aside(&self) {
        let Some((kept, name)) = self.kept() else { return };
        if let Err(error) = put_aside(&self.root, &kept, name) {
            // The server may have done it already, where the folder is shared.
            tracing::debug!(%error, "the run's folder stays where it is");
        }
    }

    /// Whether [`Layout::keep`] was called for this run.
    pub(crate) fn is_kept(&self) -> bool {
        self.root.join(KEEP_MARK).exists()
    }

    /// Keeps the run's folder from being used again: something may still write into its files.
    pub(crate) fn spoil(&self) {
        let path = self.root.join("spoiled");
        if let Err(error) = DirBuilder::new().create(path) {
            tracing::warn!(%error, "the run's folder is used again, although its program may still run");
        }
    }

    /// Throws away what is in the folders. They stay: to make and remove folders is the most
    /// expensive thing that a short run does. No file stays, for the program may have handed it on,
    /// open, to another. Where anything is not as it was made, all goes.
    pub(crate) fn empty(&self) -> io::Result<()> {
        match fs::symlink_metadata(&self.job) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(e),
            Ok(m) if !m.is_dir() => return fs::remove_file(&self.job),
            Ok(_) if !is_as_made(&self.job) => return remove_tree(&self.job),
            Ok(_) => {}
        }
        let folders = self.folders();
        let keep = |path: &Path| folders.iter().any(|f| f == path) && is_as_made(path);
        empty_folder(&self.job, &keep).or_else(|_| remove_tree(&self.job))
    }
}

/// Removes what is below `folder` but what is to be kept.
pub(crate) fn empty_folder(folder: &Path, keep: &impl Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if keep(&path) {
            empty_folder(&path, keep)?;
        } else if entry.file_type()?.is_dir() {
            fs::remove_dir_all(&path)?;
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether this is a folder of ours with the rights that it was made with, and no link to one.
fn is_as_made(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|m| m.is_dir() && m.mode() & 0o7777 == MODE && m.uid() == nix::unistd::geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use std::{
        fs::Permissions,
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    fn made() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.make().unwrap();
        (dir, layout)
    }

    fn is_pristine(layout: &Layout) {
        assert!(is_as_made(&layout.job));
        for folder in layout.folders() {
            assert!(is_as_made(&folder), "{}", folder.display());
            let inside = fs::read_dir(&folder).unwrap().flatten().map(|e| e.path());
            let strange = inside.filter(|p| *p != layout.logs.join("tb"));
            assert_eq!(strange.count(), 0, "{}", folder.display());
        }
        assert_eq!(fs::read_dir(&layout.job).unwrap().count(), 7);
    }

    #[test]
    fn what_a_run_left_is_gone_from_the_folders_of_the_next() {
        let (_dir, layout) = made();
        is_pristine(&layout);
        fs::create_dir(layout.results.join("model")).unwrap();
        fs::write(layout.results.join("model/w"), "x").unwrap();
        fs::write(layout.logs.join("tb/events"), "x").unwrap();
        fs::write(layout.job.join("stray"), "x").unwrap();
        fs::write(layout.code.join("main.py"), "x").unwrap();
        layout.make().unwrap();
        is_pristine(&layout);
    }

    #[test]
    fn folders_that_a_program_changed_are_made_anew() {
        let (dir, layout) = made();
        let elsewhere = dir.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("kept"), "x").unwrap();
        fs::remove_dir(&layout.results).unwrap();
        symlink(&elsewhere, &layout.results).unwrap();
        fs::set_permissions(&layout.data, Permissions::from_mode(0o000)).unwrap();
        fs::write(layout.checkpoints.join("x"), "x").unwrap();
        fs::set_permissions(&layout.checkpoints, Permissions::from_mode(0o1777)).unwrap();
        layout.make().unwrap();
        is_pristine(&layout);
        fs::remove_dir(&layout.code).unwrap();
        symlink(&elsewhere, &layout.code).unwrap();
        layout.make().unwrap();
        is_pristine(&layout);
        assert!(elsewhere.join("kept").exists(), "a link was followed");
    }
}
