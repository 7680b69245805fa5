//! The engine: jobs are submitted under a name that says which run they are of, found again by that name
//! in one listing of all, and taken back together.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{OnceCell, Semaphore};
use trainyard_api::{
    RunId, Secret,
    runner::{Container, JobOptions, Purpose, SentWork, Ticket},
};

use super::{
    account::{Account, account},
    commands::Commands,
    delivery::{Delivery, Launch, Sent},
    judge::{explain, judge},
    listing::{self, Job, Names},
    rest::{Rest, RestSettings},
    script::{Means, request},
    shared::{Put, Shared, put_program},
    state::JobState,
    transport::{Transport, TransportError},
};
use crate::{
    AttemptRef, Condition, Engine, Left, Placement, Remains, SubmitError, Watched, last_words::last_words,
};

/// Jobs that are submitted at once. More wait their turn: a controller takes them one by one.
const AT_ONCE: usize = 8;
/// How long a job has to be unknown before accounting is asked, and how long a runner of it that had come has to be
/// silent, which speaks every ten seconds; and how often accounting is asked.
const LONG_GONE: Duration = Duration::from_secs(5);
const SILENT: Duration = Duration::from_secs(35);
const LOOK_BACK: Duration = Duration::from_secs(10);
/// How long a job of no run that waits is looked at before it is withdrawn.
const STRAY: Duration = Duration::from_secs(30);

/// What the engine has to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This server's id: its jobs are called by it.
    pub server: String,
    /// This program.
    pub program: PathBuf,
    /// How jobs come to this program and to their tickets.
    pub delivery: Delivery,
    /// Folder of caches, environments and running attempts on each node; inside the shared one, or not shared.
    pub node: PathBuf,
    /// Options of every job, where its run has none of its own.
    pub options: JobOptions,
    /// Slurm may start a job again whose node failed, or that had to make room.
    pub requeue: bool,
    /// Seconds before its time limit at which a job's runner stops the program and stores.
    pub lead: u64,
    /// How long a runner may be silent whose job Slurm has forgotten.
    pub forgotten: Duration,
    /// slurmrestd, where Slurm is asked by it; absent: by its commands.
    pub rest: Option<RestSettings>,
    /// Containers that programs may run in.
    pub containers: Vec<Container>,
}

impl Settings {
    /// The way to Slurm.
    pub(super) fn transport(&self) -> Arc<dyn Transport> {
        if let Some(rest) = &self.rest {
            return Arc::new(Rest::new(rest.clone()));
        }
        let several = matches!(&self.delivery, Delivery::Sent(sent) if sent.as_owners);
        Arc::new(Commands::new(several))
    }
}

/// What was seen of Slurm.
#[derive(Default)]
struct Seen {
    jobs: Arc<HashMap<String, Vec<Job>>>,
    /// Why the last listing failed.
    trouble: Option<String>,
    /// Why jobs could not be submitted, by name.
    refused: HashMap<String, String>,
    /// Since when there has been no job of a name.
    missing: HashMap<String, Instant>,
    /// Jobs that no run waits for, and since when.
    strays: HashMap<u64, Instant>,
    /// Names of jobs that are to be stopped.
    stopping: HashSet<String>,
    /// Jobs, and which start of each, whose runners have been told to ask.
    nudged: HashSet<(u64, u32)>,
    /// Names of jobs that are being submitted.
    underway: HashSet<String>,
}

/// What accounting says of jobs that the controller has forgotten.
#[derive(Default)]
struct History {
    jobs: HashMap<String, Vec<Job>>,
    /// When it was asked last, and whether it still is.
    asked: Option<Instant>,
    underway: bool,
}

/// How jobs come to what they need.
enum Way {
    Shared(Shared),
    Sent(Sent),
}

/// Places runners on a Slurm cluster.
pub struct SlurmEngine {
    settings: Settings,
    names: Names,
    way: Way,
    transport: Arc<dyn Transport>,
    submitting: Semaphore,
    program: OnceCell<Put>,
    seen: Mutex<Seen>,
    /// Jobs are being withdrawn or told.
    tidying: Arc<AtomicBool>,
    history: Arc<Mutex<History>>,
}

impl SlurmEngine {
    /// With these settings.
    pub fn new(settings: Settings) -> Self {
        let way = match &settings.delivery {
            Delivery::Shared(folder) => {
                let node = settings.node.starts_with(folder).then(|| settings.node.clone());
                Way::Shared(Shared::new(folder.clone(), node))
            }
            Delivery::Sent(sent) => Way::Sent(sent.clone()),
        };
        Self {
            names: Names::new(&settings.server),
            way,
            transport: settings.transport(),
            submitting: Semaphore::new(AT_ONCE),
            program: OnceCell::new(),
            seen: Mutex::default(),
            tidying: Arc::default(),
            history: Arc::default(),
            settings,
        }
    }

    /// The shared folder, where there is one.
    fn shared(&self) -> Option<&Shared> {
        match &self.way {
            Way::Shared(shared) => Some(shared),
            Way::Sent(_) => None,
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Where builds of this program lie for jobs.
    fn programs(&self) -> PathBuf {
        match &self.way {
            Way::Shared(shared) => shared.programs(),
            Way::Sent(sent) => sent.programs.clone(),
        }
    }

    async fn program(&self) -> std::io::Result<&Put> {
        let put = || async {
            let (folder, program) = (self.programs(), self.settings.program.clone());
            let put = tokio::task::spawn_blocking(move || put_program(&folder, &program));
            put.await.map_err(std::io::Error::other)?
        };
        self.program.get_or_try_init(put).await
    }

    /// Puts what the job of this name needs to where it finds it; returns its way.
    async fn prepare(&self, name: &str, ticket: &Ticket) -> std::io::Result<Launch> {
        let put = self.program().await?.clone();
        match &self.way {
            Way::Sent(sent) => {
                let node = PathBuf::from(&ticket.node);
                let ticket = Ticket { token: Secret::new(String::new()), ..ticket.clone() };
                let job = sent.job(SentWork::Run(Box::new(ticket)));
                Ok(Launch::fetched(sent, &node, &put, &job)?)
            }
            Way::Shared(shared) => {
                let launch =
                    Launch::Shared { program: put.path, ticket: shared.ticket(name), log: shared.log(name) };
                let (shared, ticket, of) = (shared.clone(), ticket.clone(), name.to_owned());
                let put = tokio::task::spawn_blocking(move || shared.put_ticket(&of, &ticket)).await;
                put.map_err(std::io::Error::other)??;
                Ok(launch)
            }
        }
    }

    /// As whom the job of this owner runs; `None`: as the server's user.
    async fn account(&self, owner: &str) -> Result<Option<Account>, String> {
        match &self.way {
            Way::Sent(sent) if sent.as_owners => {
                let owner = owner.to_owned();
                let found = tokio::task::spawn_blocking(move || account(&owner)).await;
                found.map_err(|e| e.to_string())?.map(Some)
            }
            _ => Ok(None),
        }
    }

    async fn submit_as(&self, name: &str, placement: &Placement) -> Result<(), SubmitError> {
        let launch = match self.prepare(name, &placement.ticket).await {
            Ok(launch) => launch,
            Err(error) => {
                // A file system that is full or away comes back.
                let why = format!("what it needs cannot be put below {}: {error}", self.programs().display());
                self.not_now(name, placement, why);
                return Ok(());
            }
        };
        let account = match self.account(&placement.owner).await {
            Ok(account) => account,
            Err(why) if placement.purpose == Purpose::Train => return Err(SubmitError(why)),
            Err(why) => {
                self.not_now(name, placement, why);
                return Ok(());
            }
        };
        let means = Means {
            account,
            launch: &launch,
            learners: placement.learners,
            requeue: self.settings.requeue,
            lead: self.settings.lead,
            // Elsewhere its files are not, unless all nodes share them.
            node: placement.node.as_deref().filter(|_| !self.shared().is_some_and(Shared::has_runs)),
        };
        let (mut demand, mut options) = (placement.demand, placement.options.over(&self.settings.options));
        if placement.purpose == Purpose::Salvage {
            // It moves files.
            demand.gpus = 0;
            demand.cpus = demand.cpus.min(1.0);
            options.gres = None;
        }
        match self.transport.submit(&request(name, &demand, &options, &means)).await {
            Ok(id) => {
                tracing::info!(run = %placement.ticket.run, attempt = placement.ticket.attempt, job = id, "in Slurm's queue");
                self.seen().refused.remove(name);
                Ok(())
            }
            // What is there to be stored is not given up for that: an operator may mend it.
            Err(TransportError::Rejected(why)) if placement.purpose == Purpose::Train => {
                Err(SubmitError(format!("Slurm does not take the job: {why}")))
            }
            Err(TransportError::Unknown(why) | TransportError::Rejected(why)) => {
                // It may be in the queue all the same: the next listings tell.
                self.not_now(name, placement, why);
                Ok(())
            }
        }
    }

    fn not_now(&self, name: &str, placement: &Placement, why: String) {
        tracing::warn!(run = %placement.ticket.run, why, "whether the job is submitted is not known");
        self.seen().refused.insert(name.to_owned(), why);
    }

    /// Adds what lost runners logged last, where that is asked for: from a file system that may be slow.
    async fn quote(&self, attempts: &[Watched], conditions: Vec<(Condition, bool)>) -> Vec<Condition> {
        let mut quoted = Vec::with_capacity(conditions.len());
        for (watched, (mut condition, quote)) in attempts.iter().zip(conditions) {
            if let (true, Condition::Gone { message, .. }, Some(shared)) =
                (quote, &mut condition, self.shared())
            {
                let log = shared.log(&self.names.job(&watched.at));
                message.push_str(
                    &tokio::task::spawn_blocking(move || last_words(&log)).await.unwrap_or_default(),
                );
            }
            quoted.push(condition);
        }
        quoted
    }

    /// Asks for all jobs; `None`: Slurm does not answer.
    async fn list(&self) -> Option<Arc<HashMap<String, Vec<Job>>>> {
        match self.transport.list().await {
            Ok(listed) => {
                let jobs = Arc::new(listing::ours(listed, &self.names));
                let mut seen = self.seen();
                if seen.trouble.take().is_some() {
                    tracing::info!("Slurm answers again");
                }
                seen.jobs = Arc::clone(&jobs);
                Some(jobs)
            }
            Err(error) => {
                let why = error.to_string();
                let mut seen = self.seen();
                if seen.trouble.is_none() {
                    tracing::warn!(why, "Slurm does not answer; its jobs go on");
                }
                seen.trouble = Some(why);
                // Nothing is missing that could not be looked for.
                seen.missing.clear();
                None
            }
        }
    }

    /// Asks accounting for jobs of `attempts` that the controller knows no more and whose runners are silent. In a
    /// task of its own: the next look does not wait for it.
    fn look_back(&self, attempts: &[Watched], jobs: &HashMap<String, Vec<Job>>) {
        let seen = self.seen();
        let is_gone = |w: &&Watched| {
            let name = self.names.job(&w.at);
            let long = seen.missing.get(&name).is_some_and(|m| m.elapsed() >= LONG_GONE);
            let silent = w.silence >= if w.boarded { SILENT } else { LONG_GONE };
            long && silent && !jobs.contains_key(&name) && !seen.underway.contains(&name)
        };
        let names: Vec<String> = attempts.iter().filter(is_gone).map(|w| self.names.job(&w.at)).collect();
        drop(seen);
        let mut history = lock(&self.history);
        history.jobs.retain(|name, _| names.contains(name));
        let lately = history.asked.is_some_and(|at| at.elapsed() < LOOK_BACK);
        if names.is_empty() || lately || history.underway {
            return;
        }
        (history.asked, history.underway) = (Some(Instant::now()), true);
        let (transport, history, ours) =
            (Arc::clone(&self.transport), Arc::clone(&self.history), self.names.clone());
        tokio::spawn(async move {
            let listed = transport.history(&names).await;
            let mut history = lock(&history);
            history.underway = false;
            match listed {
                Ok(listed) => history.jobs = listing::ours(listed, &ours),
                // Most clusters have none.
                Err(error) => tracing::debug!(%error, "accounting does not tell what became of jobs"),
            }
        });
    }

    /// Stops what is to be stopped, and withdraws what nobody waits for. In a task of its own, one at a time:
    /// the next look does not wait for it.
    fn tidy(&self, watched: &HashSet<String>) {
        if self.tidying.swap(true, Ordering::AcqRel) {
            return;
        }
        let (withdraw, nudge) = self.to_tidy(watched);
        let (transport, tidying) = (Arc::clone(&self.transport), Arc::clone(&self.tidying));
        tokio::spawn(async move {
            // Those that have ended meanwhile are no news; the next look tells which have not.
            if !withdraw.is_empty()
                && let Err(error) = transport.withdraw(&withdraw).await
            {
                tracing::debug!(%error, "not all jobs were withdrawn");
            }
            if !nudge.is_empty()
                && let Err(error) = transport.nudge(&nudge).await
            {
                tracing::debug!(%error, "not all runners were told");
            }
            tidying.store(false, Ordering::Release);
        });
    }

    /// Jobs to withdraw, and jobs whose runners are to be told.
    fn to_tidy(&self, watched: &HashSet<String>) -> (Vec<u64>, Vec<u64>) {
        let (mut withdraw, mut nudge) = (Vec::new(), Vec::new());
        let mut seen = self.seen();
        let Seen { jobs, strays, stopping, nudged, underway, .. } = &mut *seen;
        let now = Instant::now();
        let mut still = HashSet::new();
        for (name, same) in jobs.iter() {
            let ours = watched.contains(name) || underway.contains(name);
            let runs = same.iter().any(|j| j.state == JobState::Running);
            for (n, job) in same.iter().enumerate() {
                if stopping.contains(name) {
                    match job.state {
                        JobState::Waiting => withdraw.push(job.id),
                        // Each start of a job is told once.
                        JobState::Running if nudged.insert((job.id, job.restarts)) => nudge.push(job.id),
                        JobState::Running | JobState::Ended(_) => {}
                    }
                } else if job.state == JobState::Waiting && (!ours || n > 0 || (runs && same.len() > 1)) {
                    still.insert(job.id);
                    if strays.entry(job.id).or_insert(now).elapsed() >= STRAY {
                        tracing::warn!(
                            job = job.id,
                            name,
                            "a job that nobody waits for is taken out of Slurm's queue"
                        );
                        withdraw.push(job.id);
                    }
                }
            }
        }
        strays.retain(|id, _| still.contains(id));
        stopping.retain(|name| watched.contains(name) || underway.contains(name));
        if stopping.is_empty() {
            nudged.clear();
        }
        (withdraw, nudge)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait::async_trait]
impl Engine for SlurmEngine {
    async fn submit(&self, placement: &Placement) -> Result<(), SubmitError> {
        let name = self.names.of(&placement.ticket.run, placement.ticket.attempt);
        self.seen().underway.insert(name.clone());
        let submitted = match self.submitting.acquire().await {
            Ok(_turn) => self.submit_as(&name, placement).await,
            Err(closed) => Err(SubmitError(closed.to_string())),
        };
        let mut seen = self.seen();
        seen.underway.remove(&name);
        // From now on it should be found.
        seen.missing.insert(name, Instant::now());
        submitted
    }

    async fn poll(&self, attempts: &[Watched]) -> Vec<Condition> {
        let Some(jobs) = self.list().await else { return vec![Condition::Alive; attempts.len()] };
        let watched: HashSet<String> = attempts.iter().map(|w| self.names.job(&w.at)).collect();
        self.look_back(attempts, &jobs);
        let conditions = {
            let history = lock(&self.history);
            let mut seen = self.seen();
            seen.missing.retain(|name, _| watched.contains(name) && !jobs.contains_key(name));
            seen.refused.retain(|name, _| watched.contains(name) && !jobs.contains_key(name));
            let judged = |w: &Watched| {
                let name = self.names.job(&w.at);
                if seen.underway.contains(&name) {
                    return (Condition::Alive, false);
                }
                let same = jobs.get(&name).map_or(&[][..], Vec::as_slice);
                if same.is_empty()
                    && let Some(ended) = history.jobs.get(&name).filter(|h| h.iter().all(Job::has_ended))
                {
                    return (judge(w, ended, Duration::ZERO, self.settings.forgotten), false);
                }
                let missing = match same {
                    [] => seen.missing.entry(name.clone()).or_insert_with(Instant::now).elapsed(),
                    _ => Duration::ZERO,
                };
                let condition = judge(w, same, missing, self.settings.forgotten);
                // Of an end that explains itself, the runner's own words are of no use.
                let quote = matches!(condition, Condition::Gone { .. })
                    && same.iter().all(|j| j.state.says_nothing());
                (condition, quote)
            };
            attempts.iter().map(judged).collect()
        };
        self.tidy(&watched);
        self.quote(attempts, conditions).await
    }

    async fn stop(&self, attempt: &AttemptRef) {
        self.seen().stopping.insert(self.names.job(attempt));
    }

    fn explain(&self, attempt: &AttemptRef) -> Option<String> {
        let name = self.names.job(attempt);
        let seen = self.seen();
        if let Some(why) = &seen.trouble {
            return Some(format!("Slurm does not answer: {why}"));
        }
        if let Some(why) = seen.refused.get(&name) {
            return Some(format!("Slurm does not take its job now: {why}"));
        }
        let words = seen.jobs.get(&name).and_then(|same| same.iter().find_map(explain));
        Some(words.unwrap_or_else(|| "its job is on its way to Slurm".to_owned()))
    }

    async fn clean(&self, run: &RunId, left: Left) {
        let (Some(shared), of) = (self.shared().cloned(), run.clone()) else { return };
        let names: Vec<String> = (1..=left.attempts).map(|n| self.names.of(run, n)).collect();
        let removed = tokio::task::spawn_blocking(move || shared.remove(&of, &names, left)).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(%error, "not all of a run's files in the shared folder are removed");
        }
    }

    async fn left(&self) -> Vec<Remains> {
        let (Some(shared), names) = (self.shared().cloned(), self.names.clone()) else { return Vec::new() };
        // It may be far away.
        tokio::task::spawn_blocking(move || shared.runs(&names)).await.unwrap_or_default()
    }
}
