//! The whole way from here to a program on a node, tried out: for `trainyard doctor`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::process::Command;
use trainyard_api::{
    Finding,
    runner::{Demand, Probe, SentWork, trial_text},
};

use super::{
    delivery::{Delivery, Launch, node_of},
    engine::Settings,
    listing::{self, Names},
    script::{Means, probe_script, request},
    shared::{Shared, put_program},
    state::{JobState, reason},
    transport::Transport,
};

/// Longest wait for the trial job, and time between looks.
const PATIENCE: Duration = Duration::from_secs(90);
const PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for the server's answer.
const ANSWER: Duration = Duration::from_secs(10);
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
    let names = Names::of_trials(&settings.server);
    let name = names.trial(std::process::id());
    let own = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let node = node_of(&settings.node, own.as_ref().map_or("root", |u| &u.name));
    let probe = Probe {
        server: server.clone(),
        server_id: settings.server.clone(),
        node: node.display().to_string(),
        containers: settings.containers.clone(),
    };
    let (launch, answers) = match (&settings.delivery, server) {
        (Delivery::Shared(folder), _) => {
            let shared = Shared::new(folder.clone(), None);
            match share(&shared, &settings.program, &name, &probe) {
                Ok(launch) => (launch, Answers::Shared(shared)),
                Err(error) => {
                    let what = format!("{} cannot be written: {error}", folder.display());
                    let cure = "name a folder that this user can write to in [engine.slurm] shared";
                    return vec![Finding::bad(what, Some(cure))];
                }
            }
        }
        (Delivery::Sent(_), None) => {
            let what = "no job was tried: its program comes from the server, and none runs";
            return vec![Finding::note(what, Some("start the server, and ask again"))];
        }
        (Delivery::Sent(sent), Some(server)) => {
            let job = sent.job(SentWork::Trial(name.clone(), probe));
            let put = put_program(&sent.programs, &settings.program);
            let launch = put.and_then(|p| Ok(Launch::fetched(sent, &node, &p, &job)?));
            match launch {
                Ok(launch) => {
                    (launch, Answers::Server(server, sent.munge_socket.clone(), settings.server.clone()))
                }
                Err(error) => {
                    let what = format!("{} cannot be written: {error}", sent.programs.display());
                    return vec![Finding::bad(what, Some("give the data folder space, and to this user"))];
                }
            }
        }
    };
    let means = Means { account: None, launch: &launch, learners: 1, requeue: false, lead: 1, node: None };
    let mut job = request(&name, &LITTLE, &settings.options, &means);
    job.script = probe_script(&launch);
    let found = match transport.submit(&job).await {
        Err(error) => vec![Finding::bad(
            format!("Slurm does not take a job: {error}"),
            Some("see [engine.slurm] job: partition, account and options"),
        )],
        Ok(id) => {
            let found = wait(transport, &names, &name, &answers).await;
            let _ = transport.withdraw(&[id]).await;
            found
        }
    };
    if let Answers::Shared(shared) = &answers {
        let file = shared.ticket(&name);
        for path in [&file, &shared.log(&name), &file.with_extension("answer")] {
            let _ = fs::remove_file(path);
        }
    }
    found
}

/// Puts what the trial job needs into the shared folder.
fn share(shared: &Shared, program: &Path, name: &str, probe: &Probe) -> io::Result<Launch> {
    let program = put_program(&shared.programs(), program)?.path;
    shared.put_private(name, &serde_json::to_vec(probe)?)?;
    Ok(Launch::Shared { program, ticket: shared.ticket(name), log: shared.log(name) })
}

/// Where the trial job's answer comes.
enum Answers {
    Shared(Shared),
    /// At this URL, to whoever proves with this socket of munge that he is the user of the server of this id.
    Server(String, Option<PathBuf>, String),
}

impl Answers {
    async fn look(&self, name: &str) -> Option<Vec<Finding>> {
        match self {
            Self::Shared(shared) => {
                serde_json::from_slice(&fs::read(shared.ticket(name).with_extension("answer")).ok()?).ok()
            }
            Self::Server(url, socket, id) => {
                let text = trial_text(id, name);
                let credential =
                    trainyard_munge::encode(socket.as_deref(), nix::unistd::geteuid().as_raw(), &text)
                        .await
                        .ok()?;
                let url = format!("{}/runner/v1/trials/{name}", url.trim_end_matches('/'));
                let client = reqwest::Client::builder().no_proxy().timeout(ANSWER).build().ok()?;
                let answer = client.get(url).bearer_auth(credential).send().await.ok()?;
                answer.error_for_status().ok()?.json().await.ok()
            }
        }
    }

    /// The end of what the job itself said, and what to do about it.
    fn last_words(&self, name: &str) -> (String, &'static str) {
        match self {
            Self::Shared(shared) => (
                crate::last_words::last_words(&shared.log(name)),
                "see that nodes see the shared folder under the same path, and can run this program",
            ),
            Self::Server(..) => (
                String::new(),
                "see that nodes and this machine reach the server at that address, that it has `unmunge`, and that nodes have \
                 `munge`, one of curl, wget and python3, and can run this program",
            ),
        }
    }
}

/// Waits for what the job found; says why nothing came.
async fn wait(transport: &dyn Transport, names: &Names, name: &str, answers: &Answers) -> Vec<Finding> {
    let begun = Instant::now();
    let mut ended = 0;
    loop {
        if let Some(mut findings) = answers.look(name).await {
            findings.insert(
                0,
                Finding::good(format!("a job was run within {:.1} s", begun.elapsed().as_secs_f64())),
            );
            return findings;
        }
        let listed = transport.list().await.unwrap_or_default();
        let job = listing::ours(listed, names).remove(name).and_then(|mut same| same.pop());
        if let Some(JobState::Ended(end)) = job.as_ref().map(|j| j.state) {
            // The answer may be on its way.
            ended += 1;
            if ended > 10 {
                let (said, cure) = answers.last_words(name);
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
