//! Compares what should be with what is, and does what was left undone: by a server that was killed between a commit
//! and what follows from it, by a runner that was slow to leave, by a disk that was full for a moment.
//!
//! Each look is complete and may be repeated: it takes nothing from the one before, and needs nobody to tell it.

mod logs;
mod node;
mod runs;

use std::time::{Duration, Instant};

use trainyard_api::{Time, runner::EngineName};

use crate::{keep_models, state::App, zips};

/// Time between looks at runs: what they left undone is hardly ever there, and costs a query and two folders to find.
const PAUSE: Duration = Duration::from_secs(5);
/// The same of a cluster's shared folder, which may be far away.
const BETWEEN_CLUSTER: Duration = Duration::from_mins(1);
/// Time between looks at files that each have to be asked about.
const BETWEEN_SWEEPS: Duration = Duration::from_hours(24);
/// How long after the end of a run its runners may ask whether their last report has come: they give a server up
/// that is away for longer.
const ASKED_FOR_MS: i64 = 15 * 86_400_000;

/// Looks until the server stops.
pub(crate) async fn reconcile(app: App) {
    let (mut swept, mut cluster): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        runs::remove(&app).await;
        runs::clean(&app, EngineName::Local).await;
        if cluster.is_none_or(|t| t.elapsed() > BETWEEN_CLUSTER) {
            runs::clean(&app, EngineName::Slurm).await;
            cluster = Some(Instant::now());
        }
        if swept.is_none_or(|t| t.elapsed() > BETWEEN_SWEEPS) {
            logs::sweep(&app).await;
            node::sweep(&app).await;
            zips::sweep(&app).await;
            keep_models::sweep(&app).await;
            forget_tokens(&app).await;
            swept = Some(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn forget_tokens(app: &App) {
    if let Err(error) = app.store.forget_attempts(Time(Time::now().0 - ASKED_FOR_MS)).await {
        tracing::warn!(%error, "tokens of attempts that are over cannot be forgotten now");
    }
}
