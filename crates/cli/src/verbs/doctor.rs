//! `doctor`: what is wrong with this machine or this configuration, and what to do about it.

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::process::Command;
use trainyard_api::{Finding, Health};
use trainyard_environment::find_pythons;

use crate::{
    Error, Output,
    args::Global,
    config::{self, Connection},
    credentials,
    output::Shown,
};

/// Longest wait for a program or a server.
const PATIENCE: Duration = Duration::from_secs(10);
/// Free space below which it is said.
const LITTLE_SPACE: u64 = 10 << 30;

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, health: Health, what: impl Into<String>, cure: Option<&str>) {
        self.0.push(Finding { health, what: what.into(), cure: cure.map(str::to_owned) });
    }
}

impl Shown for Findings {
    fn people(&self, _: bool) -> String {
        let mut out = String::new();
        for f in &self.0 {
            let mark = match f.health {
                Health::Good => "ok  ",
                Health::Note => "note",
                Health::Bad => "BAD ",
            };
            out.push_str(&format!("{mark}  {}\n", f.what));
            if let Some(cure) = &f.cure {
                out.push_str(&format!("      {cure}\n"));
            }
        }
        out
    }

    fn value(&self) -> Value {
        let all = self.0.iter().map(|f| json!({ "health": f.health, "what": f.what, "cure": f.cure }));
        json!({ "findings": all.collect::<Vec<Value>>() })
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().filter(|f| f.health == Health::Bad).map(|f| f.what.clone()).collect()
    }
}

/// `doctor`; `more` was found before.
pub(crate) async fn doctor(global: &Global, more: Vec<Finding>, output: &Output) -> Result<(), Error> {
    let mut findings = Findings(Vec::new());
    pythons(&mut findings).await;
    gpus(&mut findings).await;
    kernel(&mut findings);
    space(&mut findings);
    configuration(&mut findings);
    server(global, &mut findings).await;
    findings.0.extend(more);
    let bad = findings.0.iter().any(|f| f.health == Health::Bad);
    output.show(&findings)?;
    if bad { Err(Error::Exit(1)) } else { Ok(()) }
}

async fn pythons(findings: &mut Findings) {
    let pythons = find_pythons().await;
    let mut versions: Vec<&str> = pythons.iter().map(|p| p.version.as_str()).collect();
    versions.dedup();
    if versions.is_empty() {
        findings.add(
            Health::Bad,
            "no python from 3.9 up, with venv, is on the PATH",
            Some("install python3 and python3-venv"),
        );
    } else {
        findings.add(Health::Good, format!("python {}", versions.join(", ")), None);
    }
    match answer("uv", &["--version"]).await {
        Some(version) => findings.add(Health::Good, format!("{version} makes environments"), None),
        None => findings.add(
            Health::Note,
            "uv is not on the PATH: environments are made with pip, which takes longer",
            Some("install it with `pip install uv`"),
        ),
    }
}

async fn answer(program: &str, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

async fn gpus(findings: &mut Findings) {
    match answer("nvidia-smi", &["--query-gpu=name", "--format=csv,noheader"]).await {
        Some(names) if !names.is_empty() => {
            findings.add(Health::Good, format!("GPUs: {}", names.replace('\n', ", ")), None);
        }
        _ => findings.add(
            Health::Note,
            "no GPU: configurations that ask for one are refused",
            Some("an operator can pretend some with `[local] pretend_gpus`, to try things out"),
        ),
    }
}

fn kernel(findings: &mut Findings) {
    let cgroup = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|m| {
        let mount = Path::new(m);
        mount.join("cgroup.procs").exists()
            && !mount.join("tasks").exists()
            && nix::unistd::access(mount, nix::unistd::AccessFlags::W_OK).is_ok()
    });
    if cgroup {
        findings.add(Health::Good, "cgroup version 2 can be used to end programs at once", None);
    } else {
        findings.add(
            Health::Note,
            "no writable cgroup version 2: programs are ended process by process",
            None,
        );
    }
    if nix::unistd::geteuid().is_root() {
        findings.add(Health::Good, "programs see their folders as /job, in a mount namespace", None);
    } else {
        findings.add(
            Health::Note,
            "not root: programs see their folders under their real paths, not as /job",
            None,
        );
    }
    let open = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .map_or(0, |(soft, _)| soft);
    if open < 4096 {
        findings.add(
            Health::Note,
            format!("only {open} files may be open at once"),
            Some("raise it with `ulimit -n 65536` before the server starts"),
        );
    }
}

fn space(findings: &mut Findings) {
    let data = config::data_folder();
    let there = data.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(there) {
        Ok(stat) => {
            let free = stat.blocks_available() * stat.fragment_size();
            let text = format!("{} free below {}", bytesize::ByteSize(free).display().iec(), data.display());
            if free < LITTLE_SPACE {
                findings.add(
                    Health::Note,
                    text,
                    Some("frameworks take gigabytes: name another folder with TRAINYARD_DATA"),
                );
            } else {
                findings.add(Health::Good, text, None);
            }
        }
        Err(e) => findings.add(Health::Bad, format!("{}: {e}", there.display()), None),
    }
}

fn configuration(findings: &mut Findings) {
    for path in [
        credentials::path(),
        config::data_folder().join("credentials.toml"),
        config::quickstart_folder().join("credentials.toml"),
    ] {
        if path.exists() || path == credentials::path() {
            credentials_in(&path, findings);
        }
    }
}

fn credentials_in(path: &Path, findings: &mut Findings) {
    match credentials::read(path) {
        Ok(known) if known.is_empty() => {
            findings.add(
                Health::Good,
                format!("no named credentials ({} may hold some)", path.display()),
                None,
            );
        }
        Ok(known) => {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            findings.add(
                Health::Good,
                format!("named credentials in {}: {}", path.display(), names.join(", ")),
                None,
            );
        }
        Err(Error::Problems(problems)) => {
            for p in problems {
                findings.add(Health::Bad, p.message, p.hint.as_deref());
            }
        }
        Err(_) => {}
    }
}

async fn server(global: &Global, findings: &mut Findings) {
    let connection = match Connection::find(global) {
        Ok(connection) => connection,
        Err(Error::Problems(problems)) => {
            for p in problems {
                findings.add(Health::Note, p.message, p.hint.as_deref());
            }
            return;
        }
        Err(_) => return,
    };
    let url = connection.client.url().to_owned();
    match tokio::time::timeout(PATIENCE, connection.client.instance("default")).await {
        Ok(Ok(who)) => {
            let user = who.entity.owner.user_id;
            findings.add(Health::Good, format!("the server at {url} answers, and knows you as {user}"), None);
        }
        Ok(Err(failed)) => {
            for p in failed.0 {
                findings.add(Health::Bad, p.message, p.hint.as_deref());
            }
        }
        Err(_) => findings.add(Health::Bad, format!("the server at {url} does not answer within 10 s"), None),
    }
}
