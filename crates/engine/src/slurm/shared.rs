//! The folder that the server and the nodes share: this program, tickets of jobs, what runners log, and
//! the folders of runs.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};
use trainyard_api::{
    RunId,
    runner::{Boarded, KEEP_MARK, KEPT_FOLDER, Ticket},
};
use trainyard_remains::{put_aside, remove_tree};

use super::{delivery::program_name, listing::Names};
use crate::{Left, Remains};

/// The shared folder.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    root: PathBuf,
    /// Where runs are worked on, if that is shared as well.
    node: Option<PathBuf>,
}

impl Shared {
    pub(crate) fn new(root: PathBuf, node: Option<PathBuf>) -> Self {
        Self { root, node }
    }

    /// Whether runs are worked on here, so that any node can get at what a lost attempt left.
    pub(crate) fn has_runs(&self) -> bool {
        self.node.is_some()
    }

    /// Where builds of this program are.
    pub(crate) fn programs(&self) -> PathBuf {
        self.root.join("bin")
    }

    fn jobs(&self) -> PathBuf {
        self.root.join("jobs")
    }

    /// The ticket of the job of this name.
    pub(crate) fn ticket(&self, name: &str) -> PathBuf {
        self.jobs().join(format!("{name}.json"))
    }

    /// What the runners of the job of this name log.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.jobs().join(format!("{name}.log"))
    }

    /// Writes the ticket of a job.
    pub(crate) fn put_ticket(&self, name: &str, ticket: &Ticket) -> io::Result<()> {
        self.put_private(name, &serde_json::to_vec(ticket)?)
    }

    /// Writes what the job of this name reads, whole or not at all, for this user alone.
    pub(crate) fn put_private(&self, name: &str, text: &[u8]) -> io::Result<()> {
        for folder in [self.root.clone(), self.jobs()] {
            private_folder(&folder)?;
        }
        let path = self.ticket(name);
        let new = path.with_extension("new");
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(new, path)
    }

    /// Runs of which something is here. Tickets and logs of jobs, which go last, say whose they are; folders do not,
    /// and other servers may have theirs here too.
    pub(crate) fn runs(&self, names: &Names) -> Vec<Remains> {
        let files = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let jobs = files(self.jobs());
        let ours: BTreeSet<RunId> =
            jobs.filter_map(|e| names.run(e.file_name().to_str()?.rsplit_once('.')?.0)).collect();
        let folders = self.node.iter().flat_map(|node| files(node.join("runs")));
        let of_folder = |name: &str| name.split('.').next()?.parse().ok();
        let others: BTreeSet<RunId> = folders
            .filter_map(|e| of_folder(e.file_name().to_str()?))
            .filter(|run| !ours.contains(run))
            .collect();
        let remains = |is_ours| move |run| Remains { run, is_ours };
        ours.into_iter().map(remains(true)).chain(others.into_iter().map(remains(false))).collect()
    }

    /// Removes what is there of a run whose attempts' jobs would be called `names`. What is marked as kept is
    /// put aside, or all. The first error is returned after all was tried.
    pub(crate) fn remove(&self, run: &RunId, names: &[String], left: Left) -> io::Result<()> {
        let mut result = Ok(());
        let attempts = 1..=names.len() as u32;
        let attempts = attempts.flat_map(|n| (1..=left.learners).map(move |learner| (n, learner)));
        if let Some(node) = &self.node {
            for (n, learner) in attempts {
                let name = Boarded::folder_name(run, n, learner);
                let folder = node.join("runs").join(&name);
                result = result.and(if left.keep || folder.join(KEEP_MARK).exists() {
                    put_aside(&folder, &node.join(KEPT_FOLDER), &name)
                } else {
                    remove_tree(&folder)
                });
            }
        }
        // What could not be removed is found again by these.
        result?;
        let mut result = Ok(());
        for (ticket, log) in names.iter().map(|name| (self.ticket(name), self.log(name))) {
            for path in [ticket.with_extension("new"), ticket, log] {
                result = result.and(match fs::remove_file(path) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                    other => other,
                });
            }
        }
        result
    }
}

fn private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A build of this program where jobs find it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Put {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// SHA-256 of it, in hexadecimal.
    pub(crate) sha256: String,
    /// Its size in bytes.
    pub(crate) size: u64,
}

/// Puts `program` into `folder`, which is made for this user alone: jobs that wait go on with what they were
/// submitted with when the server is renewed.
pub(crate) fn put_program(folder: &Path, program: &Path) -> io::Result<Put> {
    let mut source = File::open(program)?;
    let (sha256, size) = (sha256(&mut source)?, source.metadata()?.len());
    private_folder(folder)?;
    let path = folder.join(program_name(&sha256));
    if !fs::metadata(&path).is_ok_and(|m| m.len() == size) {
        // Somebody else may be putting the same.
        let new = path.with_extension(format!("new-{}", std::process::id()));
        fs::copy(program, &new)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        File::open(&new)?.sync_all()?;
        fs::rename(new, &path)?;
    }
    Ok(Put { path, sha256, size })
}

fn sha256(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(hex::encode(hash.finalize()));
        }
        hash.update(&buffer[..n]);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use trainyard_api::{Secret, runner::EngineName};

    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            server: "http://127.0.0.1:1".to_owned(),
            server_id: "s".to_owned(),
            address_file: None,
            run: "training-abcdefghi".parse().unwrap(),
            attempt: 1,
            token: Secret::new("typ_x"),
            node: "/node".to_owned(),
            isolate: true,
            closed: Vec::new(),
            writable: Vec::new(),
            hide: Vec::new(),
            engine: EngineName::Slurm,
            learner: 1,
        }
    }

    #[test]
    fn a_ticket_is_for_its_user_alone_and_goes_with_its_run() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("shared");
        let shared = Shared::new(root.clone(), Some(root.join("node")));
        shared.put_ticket("trainyard-s-training-abcdefghi-1", &ticket()).unwrap();
        shared.put_ticket("trainyard-s-training-abcdefghi-1", &ticket()).unwrap();
        shared.put_ticket("trainyard-s-training-bbbbbbbbb-1", &ticket()).unwrap();
        let path = shared.ticket("trainyard-s-training-abcdefghi-1");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&root).unwrap().mode() & 0o777, 0o700);
        let run = ticket().run;
        let runs = root.join("node/runs");
        for (n, kept) in [(1, false), (2, true)] {
            let folder = runs.join(format!("{run}.{n}"));
            fs::create_dir_all(folder.join("job")).unwrap();
            fs::create_dir_all(runs.join(format!("{run}.{n}.2"))).unwrap();
            if kept {
                fs::create_dir(folder.join(KEEP_MARK)).unwrap();
            }
        }
        let names = [1, 2].map(|n| format!("trainyard-s-training-abcdefghi-{n}"));
        let ours = Names::new("s");
        let both = ["training-abcdefghi", "training-bbbbbbbbb"].map(|id| id.parse().unwrap());
        let found = |is_ours: bool, runs: &[RunId]| -> Vec<Remains> {
            runs.iter().map(|run| Remains { run: run.clone(), is_ours }).collect()
        };
        assert_eq!(shared.runs(&ours), found(true, &both));
        assert_eq!(shared.runs(&Names::new("another")), found(false, &both[..1]));
        shared.remove(&run, &names, Left { attempts: 2, learners: 2, keep: false }).unwrap();
        assert!(!path.exists());
        assert_eq!(shared.runs(&ours), found(true, &both[1..]));
        assert_eq!(fs::read_dir(shared.jobs()).unwrap().count(), 1);
        assert_eq!(fs::read_dir(&runs).unwrap().count(), 0);
        assert!(root.join("node").join(KEPT_FOLDER).join(format!("{run}.2")).is_dir());
    }

    #[test]
    fn each_build_has_a_program_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("shared/bin");
        let program = dir.path().join("program");
        fs::write(&program, "one").unwrap();
        let first = put_program(&folder, &program).unwrap();
        assert_eq!(put_program(&folder, &program).unwrap(), first);
        assert_eq!(fs::metadata(&first.path).unwrap().mode() & 0o777, 0o755);
        fs::write(&program, "two").unwrap();
        assert_ne!(put_program(&folder, &program).unwrap(), first);
        assert_eq!(fs::read_to_string(first.path).unwrap(), "one");
    }
}
