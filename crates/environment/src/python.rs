//! The pythons of this machine.

use std::{collections::BTreeMap, path::PathBuf, process::Stdio, time::Duration};

use tokio::process::Command;

/// An interpreter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// `major.minor.patch`.
    pub version: String,
    /// The interpreter itself, links and wrappers resolved.
    pub path: PathBuf,
}

/// Names tried: the plain one first, so that it wins among equals.
const NAMES: [&str; 8] =
    ["python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10", "python3.9", "python"];
const PROBE: &str = "import sys, venv; print('%d.%d.%d' % sys.version_info[:3]); print(sys.executable)";
/// Longest wait for an interpreter to say its version.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Interpreters on the `PATH` from 3.9 up, the machine's own `python3` first, then newest first.
/// One that does not start, or lacks `venv`, is left out.
pub async fn find_pythons() -> Vec<Python> {
    let mut found: BTreeMap<PathBuf, (usize, Python)> = BTreeMap::new();
    let probes: Vec<_> = NAMES.iter().map(|name| tokio::spawn(probe(name))).collect();
    for (rank, probe) in probes.into_iter().enumerate() {
        if let Ok(Some(python)) = probe.await {
            found.entry(python.path.clone()).or_insert((rank, python));
        }
    }
    let mut ranked: Vec<(usize, Python)> = found.into_values().collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, python)| python).collect()
}

async fn probe(name: &'static str) -> Option<Python> {
    let mut command = Command::new(name);
    // Isolated: what a user's own folders add to it is not asked.
    command.args(["-I", "-c", PROBE]).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(TIMEOUT, command.output()).await.ok()?.ok()?;
    let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    let (version, path) = text.trim().split_once('\n')?;
    let minor: u32 = version.strip_prefix("3.")?.split('.').next()?.parse().ok()?;
    (minor >= 9).then(|| Python { version: version.to_owned(), path: PathBuf::from(path.trim()) })
}
