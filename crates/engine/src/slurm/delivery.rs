//! How jobs come to this program and to their tickets: by a folder that the server and the nodes share, or, where there
//! is none, sent along. Then the script has the program fetched from the server, and the runner proves with munge
//! whose job it is. No I/O.

use std::path::{Path, PathBuf};

use trainyard_api::runner::SentJob;

use super::shared::Put;

/// The way that a server's jobs take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// A folder with the same path here and on all nodes.
    Shared(PathBuf),
    /// None is shared.
    Sent(Sent),
}

impl Delivery {
    /// The folder that is shared.
    pub fn shared(&self) -> Option<&Path> {
        match self {
            Self::Shared(folder) => Some(folder),
            Self::Sent(_) => None,
        }
    }
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
        let (program, url) = (quoted(program), quoted(Path::new(url)));
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
                format!("{} runner --{what} {}", quoted(program), quoted(ticket))
            }
            Self::Fetched { program, job, .. } => {
                format!("{} runner --job {}", quoted(program), quoted(Path::new(job)))
            }
        }
    }
}

/// The name of the build of this hash.
pub(crate) fn program_name(sha256: &str) -> String {
    format!("trainyard-{}", &sha256[..sha256.len().min(16)])
}

/// A path as one word of a shell.
pub(crate) fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}
