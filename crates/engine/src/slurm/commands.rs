//! Slurm by its commands, with text output: what every release has, and needs nothing from the site.

use std::{collections::BTreeMap, io, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

use super::{
    account::Account,
    listing::{self, Listed},
    script::JobRequest,
    transport::{Transport, TransportError},
};

/// Longest wait for one command: a controller that is busy answers after a minute, one that is down never.
const PATIENCE: Duration = Duration::from_mins(1);
/// Variables that commands and jobs see of this server's. Nothing secret is among them.
const PASSED: [&str; 18] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TZ",
    "PATH",
    "SLURM_CONF",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_FIND_LINKS",
    "PIP_CERT",
    "PIP_INDEX_URL",
];
/// What Slurm says of a job that it will never take as it is. Anything else may pass: a controller that is
/// away, munge that is started anew, a limit on how many jobs may wait.
const FINAL: [&str; 19] = [
    "invalid partition",
    "invalid account",
    "invalid qos",
    "invalid generic resource",
    "invalid feature",
    "invalid constraint",
    "invalid node name",
    "invalid job",
    "invalid --",
    "invalid time limit",
    "time limit is invalid",
    "node count specification invalid",
    "requested node configuration is not available",
    "memory required by task is not available",
    "memory specification can not be satisfied",
    "more processors requested than permitted",
    "unrecognized option",
    "not permitted to use this partition",
    "violates accounting/qos policy",
];
/// What stands beside the last of these when it is only about how many jobs wait.
const TOO_MANY: [&str; 2] = ["maxsubmit", "grpsubmit"];

/// The commands.
pub(crate) struct Commands {
    /// Whose jobs are listed; absent: everybody's.
    user: Option<String>,
}

impl Commands {
    /// `everybodys`: jobs are of several users.
    pub(crate) fn new(everybodys: bool) -> Self {
        Self { user: (!everybodys).then(|| nix::unistd::geteuid().to_string()) }
    }

    async fn run(&self, program: &str, options: &[String], stdin: &str) -> Result<String, TransportError> {
        self.run_for(None, program, options, stdin).await
    }

    /// With the environment of a user, which jobs take over.
    async fn run_for(
        &self,
        account: Option<&Account>,
        program: &str,
        options: &[String],
        stdin: &str,
    ) -> Result<String, TransportError> {
        let unknown = |e: io::Error| match e.kind() {
            io::ErrorKind::NotFound => {
                TransportError::Unknown(format!("{program} is not on the PATH of the server"))
            }
            _ => TransportError::Unknown(format!("{program}: {e}")),
        };
        let mut command = Command::new(program);
        command.args(options).env_clear().kill_on_drop(true);
        command.envs(passed_variables());
        if let Some(Account { name, home, .. }) = account {
            command.env("HOME", home).env("USER", name).env("LOGNAME", name);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ran = async {
            let mut child = command.spawn()?;
            if let Some(mut input) = child.stdin.take() {
                // A command that does not read it has failed, and says why.
                let _ = input.write_all(stdin.as_bytes()).await;
            }
            child.wait_with_output().await
        };
        let Ok(output) = tokio::time::timeout(PATIENCE, ran).await else {
            return Err(TransportError::Unknown(format!(
                "{program} did not answer within {} s",
                PATIENCE.as_secs()
            )));
        };
        let output = output.map_err(unknown)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(judge(program, &said))
    }
}

/// Variables of this server's that commands and jobs see. An address with a password in it is not for others.
pub(crate) fn passed_variables() -> BTreeMap<String, String> {
    let value = |name: &str| std::env::var(name).ok().filter(|v| !v.contains('@'));
    PASSED.iter().filter_map(|name| Some(((*name).to_owned(), value(name)?))).collect()
}

/// Whether what a failed command said is for good.
pub(crate) fn judge(program: &str, said: &str) -> TransportError {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|l| !l.is_empty()).collect();
    let text = if lines.is_empty() { format!("{program} failed without a word") } else { lines.join("; ") };
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|w| lower.contains(w));
    if says(&FINAL) && !says(&TOO_MANY) {
        TransportError::Rejected(text)
    } else {
        TransportError::Unknown(text)
    }
}

fn words(options: &[&str], jobs: &[u64]) -> Vec<String> {
    options.iter().map(|o| (*o).to_owned()).chain(jobs.iter().map(u64::to_string)).collect()
}

#[async_trait::async_trait]
impl Transport for Commands {
    async fn submit(&self, job: &JobRequest) -> Result<u64, TransportError> {
        let printed = self.run_for(job.account.as_ref(), "sbatch", &job.options, &job.script).await?;
        // `12`, or `12;cluster`.
        let number = printed.trim().split(';').next().and_then(|n| n.parse().ok());
        number.ok_or_else(|| TransportError::Unknown(format!("sbatch printed `{}`", printed.trim())))
    }

    async fn list(&self) -> Result<Vec<Listed>, TransportError> {
        let mut options = vec!["--noheader", "--states=all", "-O", listing::FORMAT];
        if let Some(user) = &self.user {
            options.extend(["--user", user]);
        }
        Ok(listing::parse(&self.run("squeue", &words(&options, &[]), "").await?))
    }

    async fn history(&self, names: &[String]) -> Result<Vec<Listed>, TransportError> {
        let names = format!("--name={}", names.join(","));
        let format = format!("--format={}", listing::HISTORY);
        let options =
            ["--allocations", "--noheader", "--parsable2", "--starttime=now-30days", &names, &format];
        Ok(listing::parse(&self.run("sacct", &words(&options, &[]), "").await?))
    }

    async fn withdraw(&self, jobs: &[u64]) -> Result<(), TransportError> {
        self.run("scancel", &words(&["--quiet", "--state=PENDING"], jobs), "").await.map(|_| ())
    }

    async fn nudge(&self, jobs: &[u64]) -> Result<(), TransportError> {
        let options = ["--quiet", "--state=RUNNING", "--batch", "--signal=TERM"];
        self.run("scancel", &words(&options, jobs), "").await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_told_from_what_does_not() {
        let passes = |said| matches!(judge("sbatch", said), TransportError::Unknown(_));
        assert!(passes(
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)\n"
        ));
        assert!(passes(
            "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation"
        ));
        assert!(passes(""));
        assert!(passes("sbatch: error: Batch job submission failed: Protocol authentication error"));
        assert!(passes(
            "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
        ));
        assert!(!passes(
            "sbatch: error: QOSMaxWallDurationPerJobLimit\nsbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
        ));
        assert!(!passes(
            "sbatch: error: Batch job submission failed: Requested node configuration is not available"
        ));
        assert!(!passes(
            "sbatch: error: invalid partition specified: nope\nsbatch: error: Batch job submission failed: Invalid partition name specified"
        ));
    }
}
