//! The whole way from here to a program on a node, tried out: for `trainyard doctor`.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use tokio::process::Command;
use trainyard_api::{
    Finding,
    runner::{Demand, Probe},
};

use super::{
    engine::Settings,
    listing::{self, Names},
    script::{Means, probe_script, request},
    shared::Shared,
    state::{JobState, reason},
    transport::Transport,
};

/// Longest wait for the trial job, and time between looks.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(200);
/// What the trial job asks for.
const LITTLE: Demand = Demand { cpus: 1.0, memory: 256 << 20, gpus: 0 };
const COMMANDS: [&str; 4] = ["sbatch", "squeue", "scancel", "scontrol"];

/// Tries out everything that runs need. `server` is the URL under which nodes should reach the server, where
/// it runs.
pub async fn examine(settings: &Settings, server: Option<String>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let needed = if settings.rest.is_some() { &[][..] } else { &COMMANDS[..] };
    for command in needed {
        match Command::new(command).arg("--version").output().await {
            Ok(o) if o.status.success() => {
                if *command == "sbatch" {
                    findings.push(Finding::good(String::from_utf8_lossy(&o.stdout).trim().to_owned()));
                }
            }
            _ => findings.push(Finding::bad(
                format!("`{command}` cannot be run"),
                Some("install Slurm's client commands here, and put them on the PATH"),
            )),
        }
    }
    if !findings.iter().all(|f| f.health == trainyard_api::Health::Good) {
        return findings;
    }
    let transport = settings.transport();
    let transport = &*transport;
    match transport.list().await {
        Ok(_) => findings.push(Finding::good("Slurm's controller answers")),
        Err(error) => {
            let cure = if settings.rest.is_some() {
                "see that slurmrestd runs at [engine.slurm.rest] url, and that the token is valid: scontrol token"
            } else {
                "see that slurmctld runs, that SLURM_CONF leads to its configuration, and that munge runs"
            };
            findings.push(Finding::bad(format!("Slurm's controller does not answer: {error}"), Some(cure)));
            return findings;
        }
    }
    findings.extend(trial(settings, server, transport).await);
    findings
}

/// Has a job look around on a node.
async fn trial(settings: &Settings, server: Option<String>, transport: &dyn Transport) -> Vec<Finding> {
    let shared = Shared::new(settings.shared.clone(), None);
    let names = Names::of_trials(&settings.server);
    let name = names.trial(std::process::id());
    let (file, log) = (shared.ticket(&name), shared.log(&name));
    let node = settings.node.display().to_string();
    let containers = settings.containers.clone();
    let probe = Probe { server, server_id: settings.server.clone(), node, containers };
    let prepared = shared.put_program(&settings.program).and_then(|program| {
        shared.put_private(&name, &serde_json::to_vec(&probe)?)?;
        Ok::<_, io::Error>(program)
    });
    let program = match prepared {
        Ok(program) => program,
        Err(error) => {
            let what = format!("{} cannot be written: {error}", settings.shared.display());
            return vec![Finding::bad(
                what,
                Some("name a folder that this user can write to in [engine.slurm] shared"),
            )];
        }
    };
    let means = Means {
        program: &program,
        ticket: &file,
        log: &log,
        learners: 1,
        requeue: false,
        lead: 1,
        node: None,
    };
    let mut job = request(&name, &LITTLE, &settings.options, &means);
    job.script = probe_script(&program, &file);
    let found = match transport.submit(&job).await {
        Err(error) => vec![Finding::bad(
            format!("Slurm does not take a job: {error}"),
            Some("see [engine.slurm] job: partition, account and options"),
        )],
        Ok(id) => {
            let found = wait(transport, &names, &name, &file.with_extension("answer"), &log).await;
            let _ = transport.withdraw(&[id]).await;
            found
        }
    };
    for path in [&file, &log, &file.with_extension("answer")] {
        let _ = fs::remove_file(path);
    }
    found
}

/// Waits for what the job found; says why nothing came.
async fn wait(
    transport: &dyn Transport,
    names: &Names,
    name: &str,
    answer: &Path,
    log: &Path,
) -> Vec<Finding> {
    let begun = Instant::now();
    let mut ended = 0;
    loop {
        if let Some(findings) = fs::read(answer).ok().and_then(|t| serde_json::from_slice(&t).ok()) {
            let mut findings: Vec<Finding> = findings;
            findings.insert(
                0,
                Finding::good(format!("a job was run within {:.1} s", begun.elapsed().as_secs_f64())),
            );
            return findings;
        }
        let listed = transport.list().await.unwrap_or_default();
        let job = listing::ours(listed, names).remove(name).and_then(|mut same| same.pop());
        if let Some(JobState::Ended(end)) = job.as_ref().map(|j| j.state) {
            // The answer may be on its way through the shared file system.
            ended += 1;
            if ended > 10 {
                let said = crate::last_words::last_words(log);
                let cure =
                    "see that nodes see the shared folder under the same path, and can run this program";
                return vec![Finding::bad(format!("a trial job {}{said}", end.words()), Some(cure))];
            }
        }
        if begun.elapsed() > PATIENCE {
            let why = job.map_or_else(|| "it is not in Slurm's queue".to_owned(), |j| reason(&j.reason));
            return vec![Finding::note(
                format!("a trial job did not begin within {} s: {why}", PATIENCE.as_secs()),
                Some("ask again when a node is free"),
            )];
        }
        tokio::time::sleep(PAUSE).await;
    }
}
