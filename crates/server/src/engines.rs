//! The engines of this server, and what is remembered of the attempts that they work on.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use trainyard_api::{RunId, runner::EngineName};
use trainyard_engine::{AttemptRef, Engine, Watched, slurm::SlurmEngine};
use trainyard_lifecycle::{Run, Stage};

use crate::members::Members;

/// The engines.
pub(crate) struct Engines {
    pub(crate) local: Arc<dyn Engine>,
    pub(crate) slurm: Option<Cluster>,
}

/// A cluster, and what its nodes are told.
pub(crate) struct Cluster {
    pub(crate) engine: Arc<SlurmEngine>,
    /// Runners have to ask what to do, because nobody can nudge them.
    pub(crate) listen: bool,
    /// URL under which nodes reach this server.
    pub(crate) url: String,
    /// Where a server that starts anew says where it is, for runners; in the shared folder.
    pub(crate) address_file: Option<PathBuf>,
    /// Folder of caches, environments and running attempts on each node.
    pub(crate) node: PathBuf,
    /// The shared folder, where there is one.
    pub(crate) shared: Option<PathBuf>,
    /// What runners need that share none.
    pub(crate) members: Option<Members>,
}

impl Engines {
    /// The engine of this name; `None`: it is not set up.
    pub(crate) fn get(&self, name: EngineName) -> Option<&dyn Engine> {
        match name {
            EngineName::Local => Some(&*self.local),
            EngineName::Slurm => self.slurm.as_ref().map(|c| &*c.engine as &dyn Engine),
        }
    }
}

/// An attempt that somebody should be working on.
#[derive(Clone, Debug)]
struct Working {
    at: AttemptRef,
    engine: EngineName,
    stage: Stage,
    adopted: bool,
    heard: Instant,
}

/// Attempts that somebody should be working on.
#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<RunId, Working>>);

impl Attempts {
    fn all(&self) -> MutexGuard<'_, HashMap<RunId, Working>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an attempt that a server before this one has placed.
    pub(crate) fn adopt(&self, id: &RunId, run: &Run) {
        self.note(id, run);
        if let Some(working) = self.all().get_mut(id) {
            working.adopted = true;
        }
    }

    /// From here on this server places the attempt itself.
    pub(crate) fn take_over(&self, id: &RunId) {
        if let Some(working) = self.all().get_mut(id) {
            working.adopted = false;
        }
    }

    /// Takes note of how a run stands now.
    pub(crate) fn note(&self, id: &RunId, run: &Run) {
        let Some(active) = run.active() else {
            self.all().remove(id);
            return;
        };
        let at = AttemptRef { run: id.clone(), attempt: run.attempt, job: active.job };
        let mut all = self.all();
        // What was heard of an earlier attempt says nothing of this one.
        let known = all.get(id).filter(|w| w.at == at);
        let heard = known.map_or_else(Instant::now, |w| w.heard);
        let adopted = known.is_some_and(|w| w.adopted);
        all.insert(id.clone(), Working { at, engine: active.engine, stage: active.stage, adopted, heard });
    }

    /// The attempt is over, if it is still this one.
    pub(crate) fn release(&self, id: &RunId, attempt: u32) {
        let mut all = self.all();
        if all.get(id).is_some_and(|w| w.at.attempt == attempt) {
            all.remove(id);
        }
    }

    /// Its runner has been heard of.
    pub(crate) fn hear(&self, id: &RunId, attempt: u32) {
        if let Some(working) = self.all().get_mut(id).filter(|w| w.at.attempt == attempt) {
            working.heard = Instant::now();
        }
    }

    /// The attempt of a run, with its engine.
    pub(crate) fn of(&self, id: &RunId) -> Option<(AttemptRef, EngineName)> {
        self.all().get(id).map(|w| (w.at.clone(), w.engine))
    }

    /// What the engine of this name is to look after.
    pub(crate) fn watched(&self, engine: EngineName) -> Vec<Watched> {
        let all = self.all();
        let watched = |w: &Working| Watched {
            at: w.at.clone(),
            boarded: w.stage > Stage::Waiting,
            claimed: w.stage > Stage::Placed,
            adopted: w.adopted,
            silence: w.heard.elapsed(),
        };
        all.values().filter(|w| w.engine == engine).map(watched).collect()
    }
}
