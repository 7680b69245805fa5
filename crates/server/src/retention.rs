//! Removes runs that ended long ago. Buckets and stored models are never touched.

use std::time::Duration;

use trainyard_api::Time;
use trainyard_lifecycle::Event;

use crate::state::App;

/// Time between looks.
const PAUSE: Duration = Duration::from_mins(10);
/// Records removed between two breaths: nobody waits for this.
const BATCH: u32 = 200;
const BREATH: Duration = Duration::from_millis(100);
const DAY_MS: i64 = 86_400_000;

/// Looks until the server stops.
pub(crate) async fn retain(app: App) {
    if app.config.keep_days == 0 {
        return;
    }
    loop {
        remove_old(&app).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Removes all records that were kept long enough.
async fn remove_old(app: &App) {
    loop {
        let limit = Time(Time::now().0 - i64::from(app.config.keep_days) * DAY_MS);
        match app.store.ended_before(limit, BATCH) {
            Ok(old) if !old.is_empty() => {
                for run in &old {
                    app.conductor.apply_and_log(run, Event::DeleteAsked).await;
                }
                tracing::info!(runs = old.len(), "records that were kept long enough are gone");
                if app.store.ended_before(limit, 1).is_ok_and(|left| left.first() == old.first()) {
                    // It has said why it stays.
                    return;
                }
                tokio::time::sleep(BREATH).await;
            }
            Ok(_) => return,
            Err(error) => {
                tracing::error!(%error, "old records cannot be removed");
                return;
            }
        }
    }
}
