//! Takes up what an earlier server left: runs that wait, and runs whose runners went on without it.

use trainyard_api::{RunId, Time};
use trainyard_engine::{Engine, Left, local::lock_is_held};
use trainyard_store::{Archive, Error, Record};

use crate::state::App;

/// Attempts of a run that is not known any more.
const SOME_ATTEMPTS: u32 = 100;
/// The same of its learners.
const SOME_LEARNERS: u32 = 16;

/// Adopts all runs that have not ended.
pub(crate) async fn adopt(app: &App) -> Result<(), Error> {
    let (live, unread) = app.store.live().await?;
    for run in unread {
        // One that nobody can read must not keep the others from going on.
        tracing::error!(run, "the record of this run cannot be read: it is left as it is");
    }
    let count = live.len();
    for record in &live {
        app.conductor.adopt(record);
    }
    // A cancel may have been journaled without its runner hearing of it.
    for record in live.iter().filter(|r| r.run.cancel_asked && r.run.active().is_some()) {
        app.conductor.stop(&record.id, record.run.attempt).await;
    }
    for model in app.store.unfinished_models()? {
        let message = "the server was stopped while it copied the model; store it again".to_owned();
        app.store.set_archive(model.version, Archive::Failed { message }, Time::now()).await?;
    }
    sweep(app, &live).await;
    if count > 0 {
        tracing::info!(runs = count, "adopted");
    }
    app.conductor.schedule();
    Ok(())
}

/// Removes folders on the node of runs that ended while nobody cleaned up.
async fn sweep(app: &App, live: &[Record]) {
    // One that is not known any more had a few attempts at most, or is found again after the next start.
    let how = |run: &RunId| {
        let unknown = Left { attempts: SOME_ATTEMPTS, learners: SOME_LEARNERS, keep: false };
        app.store.run(run).map_or(unknown, |r| Left {
            attempts: r.run.attempt,
            learners: r.spec.learners(),
            keep: r.run.is_abandoned(),
        })
    };
    if let Some(cluster) = &app.conductor.engines().slurm {
        for run in cluster.engine.left().into_iter().filter(|run| !live.iter().any(|r| r.id == *run)) {
            cluster.engine.clean(&run, how(&run)).await;
        }
    }
    let Ok(folders) = std::fs::read_dir(app.config.node().join("runs")) else { return };
    for folder in folders.flatten() {
        let Ok(run) = folder.file_name().to_string_lossy().parse::<RunId>() else { continue };
        if !live.iter().any(|r| r.id == run) && !lock_is_held(&folder.path()) {
            app.conductor.engines().local.clean(&run, how(&run)).await;
        }
    }
}
