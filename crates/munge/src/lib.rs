//! Who somebody on another machine of a cluster is, by munge: `munge` makes a credential there, `unmunge` says here
//! which user made it, and takes each once. By its commands, which Slurm's nodes have.
//!
//! Source: `munge(1)`, `unmunge(1)`, of munge 0.5.15.

use std::{io, path::Path, process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command};

/// Longest wait for a command.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds that a credential is good: the clocks of a cluster agree better.
const LIFETIME: u32 = 60;
/// Exit statuses are those of `munge.h`: from this one on they are about the credential, before about the daemon.
const FIRST_OF_CREDENTIALS: i32 = 8;

/// A credential could not be made, or is none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command is not there, or cannot be run.
    #[error("`{0}` cannot be run: {1}")]
    Command(&'static str, io::Error),
    /// Its daemon does not do its work now.
    #[error("munge: {0}")]
    Away(String),
    /// The credential is no good: forged, too old, taken before, or for somebody else.
    #[error("{0}")]
    Refused(String),
}

/// Who made a credential, and what stands in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// The user's number.
    pub uid: u32,
    /// What stands in it.
    pub text: String,
}

/// A credential of this user with a text in it, that `reader` alone can decode, a user's number.
pub async fn encode(socket: Option<&Path>, reader: u32, text: &str) -> Result<String, Error> {
    let mut command = Command::new("munge");
    command.args(["--string", text]).arg(format!("--ttl={LIFETIME}")).arg(format!("--restrict-uid={reader}"));
    Ok(run("munge", command, socket, "").await?.trim().to_owned())
}

/// Who made a credential. One that was decoded before, is too old, or is somebody else's to read is refused.
pub async fn decode(socket: Option<&Path>, credential: &str) -> Result<Decoded, Error> {
    let mut command = Command::new("unmunge");
    command.args(["--numeric", "--keys=UID"]);
    let said = run("unmunge", command, socket, credential).await?;
    parse(&said).ok_or_else(|| Error::Refused("unmunge does not say whose it is".to_owned()))
}

/// Lines of what is known, an empty one, what stands in it.
fn parse(said: &str) -> Option<Decoded> {
    let (known, text) = said.split_once("\n\n")?;
    let uid = known.lines().find_map(|l| l.strip_prefix("UID:"))?.trim().parse().ok()?;
    Some(Decoded { uid, text: text.to_owned() })
}

async fn run(
    program: &'static str,
    mut command: Command,
    socket: Option<&Path>,
    input: &str,
) -> Result<String, Error> {
    if let Some(socket) = socket {
        command.arg("--socket").arg(socket);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let work = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read it says so itself.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = match tokio::time::timeout(PATIENCE, work).await {
        Ok(output) => output.map_err(|e| Error::Command(program, e))?,
        Err(_) => return Err(Error::Away(format!("{program} does not answer"))),
    };
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if output.status.code().is_some_and(|c| c >= FIRST_OF_CREDENTIALS) {
        Error::Refused(said)
    } else {
        Error::Away(said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_unmunge_prints_is_read() {
        let decoded = parse("UID:             1000\n\ntwo\n\nlines").unwrap();
        assert_eq!(decoded, Decoded { uid: 1000, text: "two\n\nlines".to_owned() });
        assert_eq!(parse("UID: 1000"), None);
        assert_eq!(parse("GID: 1\n\nUID: 0\n\n"), None);
    }
}
