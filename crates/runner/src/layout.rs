//! The folders of a run on its node.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use crate::Error;

/// Where everything of one run is. `job` holds what the program sees.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// The run's folder: ticket, lock, spool.
    pub(crate) root: PathBuf,
    /// What appears as `/job` where the machine allows.
    pub(crate) job: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) code: PathBuf,
    pub(crate) results: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) checkpoints: PathBuf,
    /// stdout and stderr of the program, in one file outside of `job`.
    pub(crate) output: PathBuf,
    /// Reports that are not delivered yet.
    pub(crate) spool: PathBuf,
}

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
            output: root.join("training-log.txt"),
            spool: root.join("spool.jsonl"),
            job,
        }
    }

    /// Makes the folders, empty: what an earlier attempt that never ran the program left is
    /// thrown away.
    pub(crate) fn make(&self) -> Result<(), Error> {
        if self.job.exists() {
            remove_tree(&self.job).map_err(|e| Error::file(&self.job, e))?;
        }
        for folder in [&self.job, &self.data, &self.results, &self.logs, &self.checkpoints] {
            fs::DirBuilder::new().mode(0o755).create(folder).map_err(|e| Error::file(folder, e))?;
        }
        // TensorBoard users write here without making it first.
        let tensorboard = self.logs.join("tb");
        fs::create_dir(&tensorboard).map_err(|e| Error::file(&tensorboard, e))
    }
}

/// Removes a folder, also where the program took its own rights away.
pub(crate) fn remove_tree(path: &Path) -> std::io::Result<()> {
    if fs::remove_dir_all(path).is_ok() {
        return Ok(());
    }
    open_up(path);
    fs::remove_dir_all(path)
}

fn open_up(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            open_up(&entry.path());
        }
    }
}
