//! What a node is asked for `trainyard doctor`: whether a runner that a cluster starts there would find what
//! it needs.

use std::{
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::process::Command;
use trainyard_api::{
    Finding,
    runner::{Container, ContainerRuntime, Probe, SERVER_HEADER, trial_text},
};
use trainyard_environment::find_pythons;
use trainyard_transfer::Http;
use url::Url;

use crate::{Error, board::Munge, sandbox::has_landlock};

/// Longest wait for the server's answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks around as the probe in `file` asks, and writes what was found beside it.
pub async fn probe(file: &Path) -> Result<(), Error> {
    let failed = |e| Error::file(file, e);
    let probe: Probe =
        serde_json::from_slice(&fs::read(file).map_err(failed)?).map_err(|e| failed(e.into()))?;
    let findings = look_around(&probe, "sees the shared folder").await;
    let answer = file.with_extension("answer");
    let part = file.with_extension("part");
    let text = serde_json::to_vec(&findings).map_err(|e| failed(e.into()))?;
    fs::write(&part, text).and_then(|()| fs::rename(&part, &answer)).map_err(failed)
}

/// Looks around as `probe` asks, and tells its server under this name.
pub async fn probe_sent(name: &str, probe: &Probe, munge: &Munge) -> Result<(), Error> {
    let findings = look_around(probe, "fetched it from the server").await;
    let server = probe.server.as_deref().unwrap_or_default().trim_end_matches('/');
    let text = trial_text(&probe.server_id, name);
    let credential =
        trainyard_munge::encode(munge.socket.as_deref(), munge.reader, &text).await.map_err(Error::Munge)?;
    let told = async {
        let url = Url::parse(server).map_err(|e| e.to_string())?;
        let client = Http::default().client(&url).map_err(|e| e.to_string())?;
        let request = client.post(format!("{server}/runner/v1/trials/{name}")).bearer_auth(credential);
        let answer = request
            .timeout(PATIENCE)
            .json(&findings)
            .send()
            .await
            .and_then(reqwest::Response::error_for_status);
        answer.map(|_| ()).map_err(|e| e.without_url().to_string())
    };
    told.await.map_err(|why| Error::Fenced(format!("the server does not take what was found: {why}")))
}

async fn look_around(probe: &Probe, came: &str) -> Vec<Finding> {
    let host = nix::unistd::gethostname().ok().and_then(|h| h.into_string().ok()).unwrap_or_default();
    let mut findings = vec![Finding::good(format!("{host} runs this program, and {came}"))];
    findings.push(node_folder(Path::new(&probe.node), &host));
    findings.push(server(probe, &host).await);
    findings.push(match find_pythons().await.as_slice() {
        [] => Finding::bad(
            format!("{host} has no python from 3.9 up, with venv, on the PATH of jobs"),
            Some("install python3 and python3-venv on the nodes"),
        ),
        found => {
            let mut versions: Vec<&str> = found.iter().map(|p| p.version.as_str()).collect();
            versions.dedup();
            Finding::good(format!("{host} has python {}", versions.join(", ")))
        }
    });
    for container in &probe.containers {
        findings.push(container_on(container, &host).await);
    }
    if !has_landlock() {
        let cure = "a kernel from 5.13 on with Landlock keeps programs apart";
        findings.push(Finding::note(
            format!("{host} has no Landlock: programs can read what their user can"),
            Some(cure),
        ));
    }
    findings
}

fn node_folder(folder: &Path, host: &str) -> Finding {
    let runs = folder.join("runs");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&runs);
    let test = runs.join(format!(".probe-{}", std::process::id()));
    match made.and_then(|()| fs::write(&test, "x")).and_then(|()| fs::remove_file(&test)) {
        Ok(()) => Finding::good(format!("{host} can work in {}", folder.display())),
        Err(error) => Finding::bad(
            format!("{host} cannot work in {}: {error}", folder.display()),
            Some("name a folder that jobs can write to in [engine.slurm] node"),
        ),
    }
}

/// Whether a container can be started here. What has to be fetched from elsewhere is left to the first run.
async fn container_on(container: &Container, host: &str) -> Finding {
    let Container { runtime, image, .. } = container;
    let (words, asked, cure): (&[&str], _, _) = match runtime {
        ContainerRuntime::Apptainer => {
            (&["apptainer", "--version"], "apptainer", "install apptainer on the nodes, on the PATH of jobs")
        }
        ContainerRuntime::Pyxis => {
            (&["srun", "--help"], "--container-image", "install the plugin pyxis where `srun` and slurmd run")
        }
    };
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let says = match &output {
        Ok(Ok(output)) => String::from_utf8_lossy(&output.stdout),
        _ => "".into(),
    };
    if !says.contains(asked) {
        return Finding::bad(format!("{host} cannot run containers: no {asked} answers"), Some(cure));
    }
    if image.starts_with('/') && !Path::new(image).exists() {
        let cure = "put the image where all nodes see it, or name another in [engine.slurm.container]";
        return Finding::bad(format!("{host} does not see the image {image}"), Some(cure));
    }
    Finding::good(format!("{host} can run {image} by {}", words[0]))
}

async fn server(probe: &Probe, host: &str) -> Finding {
    let Some(server) = &probe.server else {
        let what = format!("whether {host} reaches the server was not tried, because none runs");
        return Finding::note(what, Some("start the server, and ask again"));
    };
    let cure =
        "let the server listen on an address that nodes reach, and say it in [engine.slurm] server_url";
    let bad = |why: String| {
        Finding::bad(format!("{host} does not reach the server at {server}: {why}"), Some(cure))
    };
    let client = match Url::parse(server)
        .map_err(|e| e.to_string())
        .and_then(|u| Http::default().client(&u).map_err(|e| e.to_string()))
    {
        Ok(client) => client,
        Err(why) => return bad(why),
    };
    match client.get(format!("{}/healthz", server.trim_end_matches('/'))).timeout(PATIENCE).send().await {
        Ok(answer) => {
            let id = answer.headers().get(SERVER_HEADER).and_then(|v| v.to_str().ok());
            if id == Some(probe.server_id.as_str()) {
                Finding::good(format!("{host} reaches the server at {server}"))
            } else {
                bad("somebody else answers".to_owned())
            }
        }
        Err(error) => bad(error.without_url().to_string()),
    }
}
