//! Takes up what an earlier server left: runs that wait, runs whose runners went on without it, and models that it
//! was copying. What else it left is found by `reconcile`.

use trainyard_store::Error;

use crate::{keep_models, state::App};

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
    keep_models::resume(app).await?;
    if count > 0 {
        tracing::info!(runs = count, "adopted");
    }
    app.conductor.schedule();
    Ok(())
}
