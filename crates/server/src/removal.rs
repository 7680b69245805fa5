//! What is done behind runs that are over: their folders are cleaned, and those that nobody wants any more are removed,
//! their record last, so that a removal that is cut short is found again.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use trainyard_api::{RunId, runner::EngineName};
use trainyard_breakpoints::break_point;
use trainyard_engine::Left;
use trainyard_store::{Record, ToRemove};

use crate::conductor::Conductor;

/// Pause between looks at whether somebody else has cleaned up behind a run.
const CLEANED_BY_ANOTHER: Duration = Duration::from_millis(200);

/// Runs whose folders are being cleaned, and runs that are being removed: each once at a time.
#[derive(Default)]
pub(crate) struct Turns {
    cleaning: Mutex<HashSet<RunId>>,
    removing: Mutex<HashSet<RunId>>,
}

impl Conductor {
    /// Throws away what a run that is over left on its nodes, once its runner has gone. Where that is being done
    /// already, returns at once, and `false`.
    pub(crate) async fn clean(&self, run: &RunId, engine: EngineName, left: Left) -> bool {
        let Some(engine) = self.0.engines.get(engine) else { return true };
        let Some(_turn) = Turn::take(&self.0.turns.cleaning, run) else { return false };
        engine.clean(run, left).await;
        true
    }

    /// How many runs are being removed.
    pub(crate) fn removals(&self) -> usize {
        self.0.turns.removing.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether a run is being removed.
    pub(crate) fn removes(&self, run: &RunId) -> bool {
        self.0.turns.removing.lock().unwrap_or_else(PoisonError::into_inner).contains(run)
    }

    /// Begins to remove a run that is over.
    pub(crate) fn remove(&self, run: &RunId) {
        let Ok(Record { number, id, run, spec, .. }) = self.0.store.run(run) else { return };
        let run = ToRemove {
            number,
            id,
            engine: spec.engine,
            learners: spec.learners(),
            attempts: run.attempt,
            abandoned: run.is_abandoned(),
        };
        let conductor = self.clone();
        tokio::spawn(async move { conductor.remove_now(&run).await });
    }

    /// Removes a run that is over, its record last: until then, what is left of it is found again.
    pub(crate) async fn remove_now(&self, run: &ToRemove) {
        let ToRemove { id, engine, learners, attempts, abandoned, .. } = run;
        let left = Left { attempts: *attempts, learners: *learners, keep: *abandoned };
        let Some(_turn) = Turn::take(&self.0.turns.removing, id) else { return };
        while !self.clean(id, *engine, left).await {
            tokio::time::sleep(CLEANED_BY_ANOTHER).await;
        }
        break_point("removal:folder");
        self.0.logs.remove(id, *learners);
        self.0.metrics.remove(id, 1);
        break_point("removal:logs");
        if let Err(error) = self.0.store.remove_run(id).await {
            tracing::error!(%error, run = %id, "a run's record cannot be removed now");
        }
        break_point("removal:record");
    }
}

/// A run's turn, which ends with this.
struct Turn<'a> {
    taken: &'a Mutex<HashSet<RunId>>,
    run: RunId,
}

impl<'a> Turn<'a> {
    /// `None`: somebody has it.
    fn take(taken: &'a Mutex<HashSet<RunId>>, run: &RunId) -> Option<Self> {
        let is_new = taken.lock().unwrap_or_else(PoisonError::into_inner).insert(run.clone());
        is_new.then(|| Self { taken, run: run.clone() })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.run);
    }
}
