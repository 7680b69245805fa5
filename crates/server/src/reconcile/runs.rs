//! Runs that are over: records that are to be removed, and what is left of others on their nodes.

use trainyard_api::runner::EngineName;
use trainyard_engine::{Left, Remains};
use trainyard_store::Error;

use crate::state::App;

/// Records that are looked at in one go.
const BATCH: u32 = 200;
/// Runs that are removed at once; the next look goes on.
const MOST_AT_ONCE: usize = 1000;
/// Attempts of a run that is not known any more, and its learners: one that had more is found again.
const SOME_ATTEMPTS: u32 = 100;
const SOME_LEARNERS: u32 = 16;

/// Goes on with removals that were cut short.
pub(super) async fn remove(app: &App) {
    let mut after = 0;
    let mut room = MOST_AT_ONCE.saturating_sub(app.conductor.removals());
    while room > 0 {
        let runs = match app.store.runs_to_remove(after, BATCH).await {
            Ok(runs) => runs,
            Err(error) => {
                tracing::error!(%error, "it cannot be told which runs are to be removed");
                return;
            }
        };
        let Some(last) = runs.last() else { return };
        after = last.number;
        for run in runs.into_iter().filter(|r| !app.conductor.removes(&r.id)).take(room) {
            room -= 1;
            // Each by itself: a runner that does not leave keeps no other's record here.
            let conductor = app.conductor.clone();
            tokio::spawn(async move { conductor.remove_now(&run).await });
        }
    }
}

/// Cleans nodes of what runs left that are over, or are not known any more, where this engine placed them.
pub(super) async fn clean(app: &App, name: EngineName) {
    let Some(engine) = app.conductor.engines().get(name) else { return };
    for Remains { run, is_ours } in engine.left().await {
        if app.conductor.attempts().of(&run).is_some() {
            // Somebody works on it.
            continue;
        }
        let left = match app.store.run(&run) {
            // Its removal does that.
            Ok(record) if record.run.delete_asked => continue,
            Ok(record) if record.run.is_ended() => Left {
                attempts: record.run.attempt,
                learners: record.spec.learners(),
                keep: record.run.is_abandoned(),
            },
            Err(Error::NotFound) if is_ours => {
                Left { attempts: SOME_ATTEMPTS, learners: SOME_LEARNERS, keep: false }
            }
            // It waits, or nobody can tell.
            _ => continue,
        };
        let conductor = app.conductor.clone();
        tokio::spawn(async move { conductor.clean(&run, name, left).await });
    }
}
