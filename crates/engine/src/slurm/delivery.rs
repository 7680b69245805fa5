//! How jobs come to this program and to their tickets: by a folder that the server and the nodes share, or, where there
//! is none, sent along. Then the script has the program fetched from the server, and the runner proves with munge
//! whose job it is. No I/O.

use std::path::{Path, PathBuf};

use trainyard_api::runner::{SentJob, SentWork};

use super::shared::Put;

/// The way that a server's jobs take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A folder with the same path here and on all nodes.
    Shared(PathBuf),
    /// None is shared.
    Sent(Sent),
}

/// What jobs are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Folder of the builds of this program that the server hands out.
    pub programs: PathBuf,
    /// URL under which nodes reach the server.
    pub url: String,
    /// munge's socket on the nodes and here, where it is not the usual one.
    pub munge_socket: Option<PathBuf>,
    /// Jobs are those of the runs' owners: users of this machine and of the cluster by the same names.
    pub as_owners: bool,
}

/// What stands for the name of the job's user in the folder of a node.
pub const USER: &str = "%u";

/// A node's folder for this user.
pub fn node_of(node: &Path, user: &str) -> PathBuf {
    PathBuf::from(node.display().to_string().replace(USER, user))
}

impl Sent {
    /// A job that is to do this.
    pub(crate) fn job(&self, work: SentWork) -> SentJob {
        SentJob {
            munge_socket: self.munge_socket.as_ref().map(|s| s.display().to_string()),
            reader: nix::unistd::geteuid().as_raw(),
            work,
        }
    }
}

/// One job's way to its runner.
#[derive(Clone, Debug)]
pub(crate) enum Launch {
    /// All is in the shared folder.
    Shared {
        /// This program.
        program: PathBuf,
        /// The file with the ticket, or with what is to be looked at.
        ticket: PathBuf,
        /// Where the runner's own log goes.
        log: PathBuf,
    },
    /// The program is on its node, or comes there.
    Fetched {
        /// Where it is then.
        program: PathBuf,
        /// Where it is fetched from.
        url: String,
        /// SHA-256 of it, in hexadecimal.
        sha256: String,
        /// Its size in bytes.
        size: u64,
        /// What the job is: JSON of a [`SentJob`].
        job: String,
    },
}

/// Seconds in which the program has to come, and between two tries: the server may be starting anew.
const PATIENCE: u32 = 3600;
const PAUSE: u32 = 5;

impl Launch {
    /// With the program of this hash, which nodes keep below `node`.
    pub(crate) fn fetched(sent: &Sent, node: &Path, put: &Put, job: &SentJob) -> serde_json::Result<Self> {
        let Put { sha256, size, .. } = put;
        Ok(Self::Fetched {
            program: node.join("bin").join(program_name(sha256)),
            url: format!("{}/runner/v1/programs/{}", sent.url.trim_end_matches('/'), program_name(sha256)),
            sha256: sha256.clone(),
            size: *size,
            job: serde_json::to_string(job)?,
        })
    }

    /// Where the output of the job's script goes. Slurm fails jobs whose folder for it is not there.
    pub(crate) fn log(&self) -> &Path {
        match self {
            Self::Shared { log, .. } => log,
            Self::Fetched { .. } => Path::new("/dev/null"),
        }
    }

    /// Lines of a shell behind which the program is there.
    pub(crate) fn before(&self) -> String {
        let Self::Fetched { program, url, sha256, size, .. } = self else { return String::new() };
        let (program, url) = (quoted_path(program), quoted(url));
        let python = "import socket, sys, urllib.request as r; socket.setdefaulttimeout(60); r.urlretrieve(sys.argv[1], sys.argv[2])";
        format!(
            "p={program}\n\
             [ -x \"$p\" ] && [ -O \"$p\" ] && [ \"$(wc -c <\"$p\")\" = {size} ] || (\n\
             umask 077; mkdir -p \"${{p%/*}}\" && t=$(mktemp \"$p.XXXXXX\") || exit 1\n\
             trap 'rm -f \"$t\"' EXIT\n\
             end=$(($(date +%s) + {PATIENCE}))\n\
             until {{ curl -fsSo \"$t\" --connect-timeout 20 --speed-limit 1000 --speed-time 60 {url} ||\n\
             wget -qO \"$t\" -T 60 -t 1 {url} || python3 -c '{python}' {url} \"$t\"; }} &&\n\
             echo \"{sha256}  $t\" | sha256sum -c; do\n\
             [ $(date +%s) -lt $end ] || exit 1; sleep {PAUSE}\n\
             done\n\
             chmod 755 \"$t\" && sync \"$t\" && mv \"$t\" \"$p\"\n\
             ) || exit 1\n"
        )
    }

    /// The command of the runner, in words of a shell. `what` is `ticket` or `probe`.
    pub(crate) fn runner(&self, what: &str) -> String {
        match self {
            Self::Shared { program, ticket, .. } => {
                format!("{} runner --{what} {}", quoted_path(program), quoted_path(ticket))
            }
            Self::Fetched { program, job, .. } => {
                format!("{} runner --job {}", quoted_path(program), quoted(job))
            }
        }
    }
}

/// The name of the build of this hash.
pub(crate) fn program_name(sha256: &str) -> String {
    format!("trainyard-{}", &sha256[..sha256.len().min(16)])
}

/// A text as one word of a shell.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, process::Command};

    use trainyard_api::runner::Probe;

    use super::*;
    use crate::slurm::shared::put_program;

    #[test]
    fn a_node_has_the_whole_program_or_fetches_it() {
        let dir = tempfile::tempdir().unwrap();
        let (programs, node) = (dir.path().join("programs"), dir.path().join("a node's"));
        let source = dir.path().join("source");
        fs::write(&source, "#!/bin/sh\necho started \"$1\" \"$2\"\n").unwrap();
        let put = put_program(&programs, &source).unwrap();
        // What `curl` and python fetch without a server.
        let sent = Sent { programs, url: "http://unused".to_owned(), munge_socket: None, as_owners: false };
        let probe = Probe {
            server: None,
            server_id: "it's".to_owned(),
            node: node.display().to_string(),
            containers: Vec::new(),
        };
        let job = sent.job(SentWork::Trial("t".to_owned(), probe));
        let mut launch = Launch::fetched(&sent, &node, &put, &job).unwrap();
        let Launch::Fetched { url, program, .. } = &mut launch else { panic!("nothing is fetched") };
        *url = format!("file://{}", put.path.display());
        let program = program.clone();
        let script = format!("{}exec {}", launch.before(), launch.runner("ticket"));
        let run = || {
            let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).lines().last().map(str::to_owned)
        };
        assert_eq!(run().as_deref(), Some("started runner --job"));
        let mode = fs::metadata(node.join("bin")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can put something there");
        // Cut short by a power failure: made anew. Then it is there, and nothing is fetched.
        fs::write(&program, "").unwrap();
        assert_eq!(run().as_deref(), Some("started runner --job"));
        fs::remove_file(&put.path).unwrap();
        assert_eq!(run().as_deref(), Some("started runner --job"));
        assert_eq!(fs::read_dir(node.join("bin")).unwrap().count(), 1, "something half made is left");
    }
}
