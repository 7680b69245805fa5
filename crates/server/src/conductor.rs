//! The one place where runs change: an event is journaled, then what follows from it is done.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use trainyard_api::{
    RunId, Secret, Time, random_token,
    runner::{Allotment, Demand, EngineName, JobOptions, KEPT_FOLDER, Purpose, Ticket},
};
use trainyard_engine::{
    Left, Placement, Watched,
    local::{Queue, Start},
    slurm::node_of,
};
use trainyard_lifecycle::{Action, Event, Run, Stage, Stamped};
use trainyard_store::{Applied, AttemptToken, Error, Record, Spec, Store, hash_token};

use crate::{
    engines::{Attempts, Cluster, Engines},
    logs::Logs,
    members::Members,
    passes::Passes,
    removal::Turns,
};

/// Where runs are placed, in words for people.
const NODE: &str = "this machine";
/// Pause before a run is placed again that could not be journaled.
const PLACE_AGAIN: Duration = Duration::from_secs(2);

/// Applies events and carries out actions. Clones share it.
#[derive(Clone)]
pub(crate) struct Conductor(pub(crate) Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) logs: Logs,
    pub(crate) metrics: Logs,
    pub(crate) engines: Engines,
    queue: Mutex<Queue>,
    attempts: Attempts,
    passes: Passes,
    node: PathBuf,
    site: Site,
    /// What programs need not see of this machine.
    private: Private,
    pub(crate) turns: Turns,
}

/// Where runners find this server, and how they know it.
pub(crate) struct Site {
    pub(crate) url: String,
    pub(crate) id: String,
    pub(crate) address_file: PathBuf,
}

/// What programs need not see of this machine, and whether they are kept from it.
pub(crate) struct Private {
    /// Programs are kept apart.
    pub(crate) isolate: bool,
    /// Folders that are closed.
    pub(crate) closed: Vec<PathBuf>,
    /// Folders that programs may write to besides.
    pub(crate) writable: Vec<PathBuf>,
    /// Files and folders in the closed ones that can be covered.
    pub(crate) hide: Vec<PathBuf>,
}

impl Conductor {
    pub(crate) fn new(
        store: Store,
        (logs, metrics): (Logs, Logs),
        (engines, queue, passes): (Engines, Queue, Passes),
        node: PathBuf,
        site: Site,
        private: Private,
    ) -> Self {
        let (queue, attempts) = (Mutex::new(queue), Attempts::default());
        let turns = Turns::default();
        let parts =
            Parts { store, logs, metrics, engines, queue, attempts, passes, node, site, private, turns };
        Self(Arc::new(parts))
    }

    /// Access to the queue, for what is asked and never waited for.
    pub(crate) fn queue<T>(&self, ask: impl FnOnce(&mut Queue) -> T) -> T {
        ask(&mut self.0.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn engines(&self) -> &Engines {
        &self.0.engines
    }

    pub(crate) fn passes(&self) -> &Passes {
        &self.0.passes
    }

    pub(crate) fn attempts(&self) -> &Attempts {
        &self.0.attempts
    }

    /// What the engine of this name is to look after.
    pub(crate) fn watched(&self, engine: EngineName) -> Vec<Watched> {
        self.0.attempts.watched(engine)
    }

    /// What a run waits for that has not started, in words.
    pub(crate) fn explain(&self, record: &Record) -> Option<String> {
        if record.spec.engine == EngineName::Local {
            return self.queue(|q| q.explain(record.number));
        }
        if !record.run.is_waiting() {
            return None;
        }
        let engine = self.0.engines.get(record.spec.engine);
        let Some(engine) = engine else {
            return Some("its engine is not set up on this server any more".to_owned());
        };
        let (attempt, _) = self.0.attempts.of(&record.id)?;
        engine.explain(&attempt)
    }

    /// Accepts a run and puts it into the queue.
    pub(crate) async fn submit(&self, owner: &str, spec: Spec) -> Result<Record, Error> {
        // A task of its own: a client that hangs up between the commit and what follows from it
        // must not leave a run that nobody starts.
        let (conductor, owner) = (self.clone(), owner.to_owned());
        whole(tokio::spawn(async move { conductor.submit_now(&owner, spec).await })).await
    }

    async fn submit_now(&self, owner: &str, spec: Spec) -> Result<Record, Error> {
        let (demand, engine) = (spec.demand, spec.engine);
        let record = loop {
            match self.0.store.submit(RunId::random(), owner, spec.clone(), Time::now()).await {
                Err(Error::Exists) => {}
                other => break other?,
            }
        };
        if engine == EngineName::Local {
            self.queue(|q| q.enqueue(record.number, record.id.clone(), demand));
            self.schedule();
        } else {
            let (conductor, run) = (self.clone(), record.id.clone());
            tokio::spawn(async move { conductor.hand_in(&run).await });
        }
        Ok(record)
    }

    /// Gives a run to an engine that has a queue of its own.
    async fn hand_in(&self, run: &RunId) {
        loop {
            let handed = async {
                let record = self.0.store.run(run)?;
                let (engine, learners) = (record.spec.engine, record.spec.learners());
                let event = Event::Handed { attempt: record.run.attempt + 1, engine, learners };
                self.0.store.apply(run, vec![stamp(event)], None).await
            };
            match handed.await {
                Ok(applied) => {
                    if applied.changed {
                        self.0.attempts.note(run, &applied.run);
                        self.submit_job(run, &applied.run).await;
                    }
                    return;
                }
                // It is gone: canceled and deleted meanwhile.
                Err(Error::NotFound) => return,
                Err(error) => {
                    tracing::error!(%error, %run, "a run cannot be handed in now");
                    tokio::time::sleep(PLACE_AGAIN).await;
                }
            }
        }
    }

    /// Has the engine of a run's attempt start its job, or put it into its queue.
    pub(crate) async fn submit_job(&self, id: &RunId, run: &Run) {
        let Some(active) = run.active() else { return };
        let Some(engine) = self.0.engines.get(active.engine) else {
            tracing::error!(run = %id, engine = ?active.engine, "the run's engine is not set up on this server any more");
            return;
        };
        let (owner, spec) = match self.0.store.run(id) {
            Ok(record) => (record.owner, record.spec),
            Err(error) => {
                tracing::error!(%error, run = %id, "a job cannot be submitted");
                return;
            }
        };
        let (attempt, pass) = (active.job, self.0.passes.of(id, active.job));
        let placement = Placement {
            ticket: self.ticket(active.engine, (id, &owner), (attempt, 1), pass),
            owner,
            purpose: active.purpose,
            demand: spec.demand,
            learners: active.count(),
            options: spec.options,
            node: Some(active.node.clone()).filter(|n| !n.is_empty()),
        };
        if let Err(error) = engine.submit(&placement).await {
            tracing::error!(%error, run = %id, attempt, "a job is not taken");
            let event = Event::PlaceFailed { attempt: run.attempt, message: error.to_string() };
            self.apply_and_log(id, event).await;
        }
    }

    /// The engine has no job for an attempt that waits: it gets one, unless nobody wants it any more.
    pub(crate) async fn submit_again(&self, id: &RunId, attempt: u32) {
        let Ok(record) = self.0.store.run(id) else { return };
        if record.run.attempt != attempt {
            return;
        }
        if record.run.active().is_some_and(|a| a.engine == EngineName::Local && a.stage == Stage::Placed) {
            // Its place is there, and its token was only in the memory of a server that is gone.
            self.0.attempts.take_over(id);
            return self.start_with_token(id, attempt).await;
        }
        if !record.run.is_waiting() {
            return;
        }
        if record.run.cancel_asked {
            let message = "its job was never taken".to_owned();
            self.apply_and_log(id, Event::Lost { attempt, message, code: None }).await;
            return;
        }
        if record.run.active().is_some_and(|a| a.job != attempt) {
            // A job that begins now has no restarts: it is another.
            let message = "Slurm no longer knows its job".to_owned();
            self.apply_and_log(id, Event::Lost { attempt, message, code: None }).await;
            return;
        }
        self.submit_job_apart(id, record.run);
    }

    /// [`Conductor::submit_job`] in a task of its own.
    fn submit_job_apart(&self, id: &RunId, run: Run) {
        let (conductor, id) = (self.clone(), id.clone());
        tokio::spawn(async move { conductor.submit_job(&id, &run).await });
    }

    /// [`Conductor::apply_and_log`] in a task of its own.
    fn apply_apart(&self, id: &RunId, event: Event) {
        let (conductor, id) = (self.clone(), id.clone());
        tokio::spawn(async move { conductor.apply_and_log(&id, event).await });
    }

    /// What a runner is told that this engine places, of a run and its owner.
    pub(crate) fn ticket(
        &self,
        engine: EngineName,
        (run, owner): (&RunId, &str),
        (attempt, learner): (u32, u32),
        token: Secret,
    ) -> Ticket {
        let Parts { site, private, .. } = &*self.0;
        let (mut closed, mut hide) = (private.closed.clone(), private.hide.clone());
        let cluster = self.0.engines.slurm.as_ref();
        if let Some(Cluster { shared, members, .. }) = cluster {
            // Programs of this machine as well: it has what nodes have.
            if let Some(shared) = shared {
                closed.push(shared.clone());
                hide.extend(["jobs", "bin"].map(|f| shared.join(f)));
            }
            // Who can speak with it is this server's user.
            hide.extend(members.as_ref().map(Members::munge));
        }
        let (server, address_file, node) = match cluster.filter(|_| engine == EngineName::Slurm) {
            Some(Cluster { url, address_file, node, .. }) => (url, address_file.as_ref(), node),
            None => (&site.url, Some(&site.address_file), &self.0.node),
        };
        let node = node_of(node, owner);
        closed.push(node.clone());
        let folders = ["runs", "spare", KEPT_FOLDER, "definitions", "cache", "bin", "jobs"];
        hide.extend(folders.map(|f| node.join(f)));
        Ticket {
            server: server.clone(),
            server_id: site.id.clone(),
            address_file: address_file.map(|f| f.display().to_string()),
            run: run.clone(),
            attempt,
            token,
            node: node.display().to_string(),
            isolate: private.isolate,
            closed: texts(&closed),
            writable: texts(&private.writable),
            hide: texts(&hide),
            engine,
            learner,
        }
    }

    /// Takes a run over from an earlier server.
    pub(crate) fn adopt(&self, record: &Record) {
        self.0.attempts.adopt(&record.id, &record.run);
        match record.run.active() {
            // What becomes of a job that was never submitted, the engine's first look tells.
            Some(active) if active.engine != EngineName::Local => {}
            Some(active) => {
                let demand = record.spec.demand;
                let allotment = Allotment {
                    cpus: demand.cpus,
                    memory: demand.memory,
                    gpus: active.gpus.clone(),
                    pretended: false,
                };
                self.queue(|q| q.hold(record.id.clone(), allotment));
            }
            None if record.run.is_waiting() && record.spec.engine != EngineName::Local => {
                let (conductor, run) = (self.clone(), record.id.clone());
                tokio::spawn(async move { conductor.hand_in(&run).await });
            }
            None if record.run.is_waiting() => {
                self.queue(|q| q.enqueue(record.number, record.id.clone(), record.spec.demand));
            }
            None => {}
        }
    }

    /// Starts what can be started.
    pub(crate) fn schedule(&self) {
        for start in self.queue(Queue::start) {
            let conductor = self.clone();
            tokio::spawn(async move { conductor.place(start).await });
        }
    }

    async fn place(&self, start: Start) {
        let Start { run, allotment, number, demand } = start;
        let placed = async {
            let attempt = self.0.store.run(&run)?.run.attempt + 1;
            let token = random_token("tya_");
            let event = Event::Placed { attempt, node: NODE.to_owned(), gpus: allotment.gpus };
            let kept = AttemptToken { attempt, hash: hash_token(&token) };
            let applied = self.0.store.apply(&run, vec![stamp(event)], Some(kept)).await?;
            Ok::<_, Error>(applied.changed.then_some((applied.run, attempt, token)))
        };
        match placed.await {
            Ok(Some((placed, attempt, token))) => {
                self.0.attempts.note(&run, &placed);
                self.start_runner(&run, attempt, token).await;
            }
            // It ended while it was chosen: its place is free again.
            Ok(None) | Err(Error::NotFound) => self.give_back(&run),
            Err(error) => {
                // The disk may be full: the run keeps its place in the queue.
                tracing::error!(%error, %run, "a run cannot be placed now");
                tokio::time::sleep(PLACE_AGAIN).await;
                self.queue(|q| {
                    q.release(&run);
                    q.enqueue(number, run, demand);
                });
                self.schedule();
            }
        }
    }

    fn give_back(&self, run: &RunId) {
        self.queue(|q| q.release(run));
        self.schedule();
    }

    /// Starts a runner on this machine.
    async fn start_runner(&self, run: &RunId, attempt: u32, token: String) {
        self.0.logs.of(run).wake();
        let placement = Placement {
            ticket: self.ticket(EngineName::Local, (run, ""), (attempt, 1), Secret::new(token)),
            owner: String::new(),
            purpose: Purpose::Train,
            demand: Demand::default(),
            learners: 1,
            options: JobOptions::default(),
            node: None,
        };
        if let Err(error) = self.0.engines.local.submit(&placement).await {
            tracing::error!(%error, %run, attempt, "a runner cannot be started");
            let event = Event::PlaceFailed { attempt, message: error.to_string() };
            self.apply_and_log(run, event).await;
        }
    }

    /// Applies events to a run, and does what follows.
    pub(crate) async fn apply(&self, run: &RunId, events: Vec<Stamped>) -> Result<Applied, Error> {
        let (conductor, run) = (self.clone(), run.clone());
        whole(tokio::spawn(async move { conductor.apply_now(&run, events).await })).await
    }

    async fn apply_now(&self, run: &RunId, events: Vec<Stamped>) -> Result<Applied, Error> {
        let applied = self.0.store.apply(run, events, None).await?;
        if applied.changed {
            self.0.logs.of(run).turn();
        }
        // Also where nothing changed: then what is remembered of it may be behind.
        self.0.attempts.note(run, &applied.run);
        for action in &applied.actions {
            self.act(run, action).await;
        }
        Ok(applied)
    }

    /// The same for an event of our own, whose failure can only be noted.
    pub(crate) async fn apply_and_log(&self, run: &RunId, event: Event) {
        if let Err(error) = Box::pin(self.apply_now(run, vec![stamp(event)])).await {
            tracing::error!(%error, %run, "an event cannot be journaled");
        }
    }

    async fn act(&self, run: &RunId, action: &Action) {
        match action {
            Action::Enqueue => match self.0.store.run(run) {
                Ok(record) => {
                    self.queue(|q| q.enqueue(record.number, run.clone(), record.spec.demand));
                    self.schedule();
                }
                Err(error) => tracing::error!(%error, %run, "a run cannot be queued again"),
            },
            Action::Dequeue => {
                self.queue(|q| q.dequeue(run));
                self.schedule();
            }
            Action::Submit { attempt } => match self.0.store.run(run) {
                Ok(record) if record.run.attempt == *attempt => {
                    // Who looks after the others does not wait for Slurm.
                    self.submit_job_apart(run, record.run);
                }
                Ok(_) => {}
                Err(error) => tracing::error!(%error, %run, "a job cannot be submitted"),
            },
            Action::Salvage { attempt } => self.start_with_token(run, *attempt).await,
            Action::Stop { attempt } => self.stop(run, *attempt).await,
            Action::Release { attempt } => {
                self.0.attempts.release(run, *attempt);
                self.give_back(run);
            }
            Action::Announce => self.announce(run),
            Action::Remove => self.remove(run),
        }
    }

    /// Starts the runner of an attempt that has its place already, with a new token.
    async fn start_with_token(&self, run: &RunId, attempt: u32) {
        let token = random_token("tya_");
        let kept = AttemptToken { attempt, hash: hash_token(&token) };
        match self.0.store.keep_attempt(run, kept).await {
            Ok(()) => self.start_runner(run, attempt, token).await,
            Err(error) => {
                // The watch finds the attempt without a runner and tries again.
                tracing::error!(%error, %run, "a runner cannot be given a token");
            }
        }
    }

    /// Has an attempt ended, or its runner ask what to do.
    pub(crate) async fn stop(&self, run: &RunId, attempt: u32) {
        let of = self.0.attempts.of(run).filter(|(at, _)| at.attempt == attempt);
        let Some((at, engine)) = of else { return };
        if let Some(engine) = self.0.engines.get(engine) {
            engine.stop(&at).await;
        } else {
            let message = "its engine is not set up on this server any more".to_owned();
            self.apply_apart(run, Event::Lost { attempt, message, code: None });
        }
    }

    /// The run has ended: followers see it, its files on the node go once its runner has left.
    fn announce(&self, run: &RunId) {
        self.0.logs.close(run);
        self.0.metrics.close(run);
        let Ok(Record { id, run, spec, .. }) = self.0.store.run(run) else { return };
        if run.delete_asked {
            // Its removal does that.
            return;
        }
        let left = Left { attempts: run.attempt, learners: spec.learners(), keep: run.is_abandoned() };
        let conductor = self.clone();
        tokio::spawn(async move { conductor.clean(&id, spec.engine, left).await });
    }
}

fn texts(paths: &[PathBuf]) -> Vec<String> {
    paths.iter().map(|p| p.display().to_string()).collect()
}

/// What a task came to; one that panicked has logged why.
async fn whole<T>(task: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    task.await.unwrap_or_else(|e| Err(Error::Record(format!("a change was not carried out: {e}"))))
}

/// An event that happens now, as this server saw it.
pub(crate) fn stamp(event: Event) -> Stamped {
    Stamped { at: Time::now(), seq: None, learner: 1, event }
}
