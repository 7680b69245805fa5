//! The one place where runs change: an event is journaled, then what follows from it is done.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use trainyard_api::{
    RunId, Secret, Time, random_token,
    runner::{Allotment, KEPT_FOLDER, Ticket},
};
use trainyard_engine::{
    AttemptRef, Engine, Placement,
    local::{Queue, Start, lock_is_held, run_folder},
};
use trainyard_lifecycle::{Action, Event, Stamped};
use trainyard_store::{Applied, AttemptToken, Error, Record, Spec, Store, hash_token};

use crate::logs::Logs;

/// Where runs are placed, in words for people.
const NODE: &str = "this machine";
/// Pause before a run is placed again that could not be journaled.
const PLACE_AGAIN: Duration = Duration::from_secs(2);
/// Pause between looks at whether a runner has left its folder.
const LEAVING: Duration = Duration::from_millis(20);

/// Applies events and carries out actions. Clones share it.
#[derive(Clone)]
pub(crate) struct Conductor(Arc<Parts>);

pub(crate) struct Parts {
    store: Store,
    logs: Logs,
    metrics: Logs,
    engine: Arc<dyn Engine>,
    queue: Mutex<Queue>,
    /// Attempts that somebody should be working on.
    active: Mutex<HashMap<RunId, u32>>,
    node: PathBuf,
    site: Site,
    /// What programs need not see of this machine.
    private: Private,
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
        engine: Arc<dyn Engine>,
        queue: Queue,
        node: PathBuf,
        site: Site,
        mut private: Private,
    ) -> Self {
        private.closed.push(node.clone());
        private.hide.extend(["runs", "spare", KEPT_FOLDER, "definitions", "cache"].map(|f| node.join(f)));
        let queue = Mutex::new(queue);
        let active = Mutex::default();
        Self(Arc::new(Parts { store, logs, metrics, engine, queue, active, node, site, private }))
    }

    /// Access to the queue, for what is asked and never waited for.
    pub(crate) fn queue<T>(&self, ask: impl FnOnce(&mut Queue) -> T) -> T {
        ask(&mut self.0.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn engine(&self) -> &Arc<dyn Engine> {
        &self.0.engine
    }

    /// Attempts under way.
    pub(crate) fn active(&self) -> Vec<AttemptRef> {
        let active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        active.iter().map(|(run, attempt)| AttemptRef { run: run.clone(), attempt: *attempt }).collect()
    }

    fn set_active(&self, run: &RunId, attempt: Option<u32>) {
        let mut active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        match attempt {
            Some(attempt) => active.insert(run.clone(), attempt),
            None => active.remove(run),
        };
    }

    /// Accepts a run and puts it into the queue.
    pub(crate) async fn submit(&self, owner: &str, spec: Spec) -> Result<Record, Error> {
        // A task of its own: a client that hangs up between the commit and what follows from it
        // must not leave a run that nobody starts.
        let (conductor, owner) = (self.clone(), owner.to_owned());
        whole(tokio::spawn(async move { conductor.submit_now(&owner, spec).await })).await
    }

    async fn submit_now(&self, owner: &str, spec: Spec) -> Result<Record, Error> {
        let demand = spec.demand;
        let record = loop {
            match self.0.store.submit(RunId::random(), owner, spec.clone(), Time::now()).await {
                Err(Error::Exists) => {}
                other => break other?,
            }
        };
        self.queue(|q| q.enqueue(record.number, record.id.clone(), demand));
        self.schedule();
        Ok(record)
    }

    /// Takes a run over from an earlier server.
    pub(crate) fn adopt(&self, record: &Record) {
        match record.run.active() {
            Some(active) => {
                let demand = record.spec.demand;
                let allotment = Allotment {
                    cpus: demand.cpus,
                    memory: demand.memory,
                    gpus: active.gpus.clone(),
                    pretended: false,
                };
                self.queue(|q| q.hold(record.id.clone(), allotment));
                self.set_active(&record.id, Some(record.run.attempt));
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
            Ok::<_, Error>(applied.changed.then_some((attempt, token)))
        };
        match placed.await {
            Ok(Some((attempt, token))) => self.start_runner(&run, attempt, token).await,
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

    async fn start_runner(&self, run: &RunId, attempt: u32, token: String) {
        self.set_active(run, Some(attempt));
        self.0.logs.of(run).wake();
        let ticket = Ticket {
            server: self.0.site.url.clone(),
            server_id: self.0.site.id.clone(),
            address_file: Some(self.0.site.address_file.display().to_string()),
            run: run.clone(),
            attempt,
            token: Secret::new(token),
            node: self.0.node.display().to_string(),
            isolate: self.0.private.isolate,
            closed: texts(&self.0.private.closed),
            writable: texts(&self.0.private.writable),
            hide: texts(&self.0.private.hide),
        };
        if let Err(error) = self.0.engine.submit(&Placement { ticket }).await {
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
            self.0.logs.of(run).wake();
        }
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
            Action::Salvage { attempt } => self.salvage(run, *attempt).await,
            Action::Stop { attempt } => {
                self.0.engine.nudge(&AttemptRef { run: run.clone(), attempt: *attempt }).await;
            }
            Action::Release { attempt } => {
                let mut active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
                if active.get(run) == Some(attempt) {
                    active.remove(run);
                }
                drop(active);
                self.give_back(run);
            }
            Action::Announce => self.announce(run),
            Action::Remove => self.remove(run).await,
        }
    }

    async fn salvage(&self, run: &RunId, attempt: u32) {
        let token = random_token("tya_");
        let kept = AttemptToken { attempt, hash: hash_token(&token) };
        match self.0.store.keep_attempt(run, kept).await {
            Ok(()) => self.start_runner(run, attempt, token).await,
            Err(error) => {
                tracing::error!(%error, %run, "a salvage cannot be started");
                // The watch finds the attempt without a runner and tries again.
                self.set_active(run, Some(attempt));
            }
        }
    }

    /// The run has ended: followers see it, its files on the node go once its runner has left.
    fn announce(&self, run: &RunId) {
        self.0.logs.close(run);
        self.0.metrics.close(run);
        let (conductor, run) = (self.clone(), run.clone());
        tokio::spawn(async move {
            let folder = run_folder(&conductor.0.node, &run);
            while lock_is_held(&folder) {
                tokio::time::sleep(LEAVING).await;
            }
            conductor.0.engine.clean(&run).await;
        });
    }

    async fn remove(&self, run: &RunId) {
        if let Err(error) = self.0.store.remove_run(run).await {
            tracing::error!(%error, %run, "a run's record cannot be removed");
            return;
        }
        self.0.logs.remove(run);
        self.0.metrics.remove(run);
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
    Stamped { at: Time::now(), seq: None, event }
}
