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

/// Is there once a program was started in this folder.
const STARTED: &str = "started";
/// Holds where the newest attempt's log begins.
const LOG_BASE: &str = "log-base";

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

    /// Whether an attempt in this folder has started the program, or was about to.
    pub(crate) fn program_started(&self) -> bool {
        self.root.join(STARTED).exists()
    }

    /// Notes, on disk, that the program is about to be started: from here on nobody starts it again.
    pub(crate) fn note_start(&self) -> Result<(), Error> {
        let path = self.root.join(STARTED);
        let note = || {
            let file = fs::File::create(&path)?;
            file.sync_all()?;
            fs::File::open(&self.root)?.sync_all()
        };
        note().map_err(|e| Error::file(&path, e))
    }

    /// When the program was started; `None` when it was not.
    pub(crate) fn started_at(&self) -> Option<std::time::SystemTime> {
        fs::metadata(self.root.join(STARTED)).and_then(|m| m.modified()).ok()
    }

    /// The byte of the log file at which the newest attempt's log begins.
    pub(crate) fn log_base(&self) -> u64 {
        fs::read_to_string(self.root.join(LOG_BASE)).ok().and_then(|t| t.parse().ok()).unwrap_or(0)
    }

    pub(crate) fn set_log_base(&self, base: u64) -> Result<(), Error> {
        let path = self.root.join(LOG_BASE);
        fs::write(&path, base.to_string()).map_err(|e| Error::file(&path, e))
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
