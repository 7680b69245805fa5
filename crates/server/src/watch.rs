//! Looks after attempts: one whose runner is gone is found out within seconds.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use trainyard_api::runner::EngineName;
use trainyard_engine::{AttemptRef, Condition, Engine};
use trainyard_lifecycle::Event;

use crate::conductor::Conductor;

/// Time between looks at this machine. The ends of runners wake it earlier, but for those that have begun a moment
/// ago and not said yet which process they are.
const PAUSE: Duration = Duration::from_secs(1);
/// Time between looks at a cluster: one call each, and changes are seen within a second.
const CLUSTER_PAUSE: Duration = Duration::from_millis(750);
/// The same while nothing of ours is there.
const IDLE_PAUSE: Duration = Duration::from_mins(1);

/// Looks after this machine until the server stops.
pub(crate) async fn watch_local(conductor: Conductor, ended: Arc<Notify>) {
    loop {
        // At once after a start: whoever died while no server was there is not to be waited for.
        let engine = Arc::clone(&conductor.engines().local);
        look(&conductor, EngineName::Local, &*engine).await;
        let _ = tokio::time::timeout(PAUSE, ended.notified()).await;
    }
}

/// Looks after the cluster until the server stops.
pub(crate) async fn watch_cluster(conductor: Conductor) {
    let Some(cluster) = &conductor.engines().slurm else { return };
    let mut idle = Duration::ZERO;
    loop {
        tokio::time::sleep(CLUSTER_PAUSE).await;
        // What ended a moment ago may have left a job behind.
        idle = if conductor.watched(EngineName::Slurm).is_empty() {
            idle + CLUSTER_PAUSE
        } else {
            Duration::ZERO
        };
        if idle > IDLE_PAUSE && !idle.as_secs().is_multiple_of(IDLE_PAUSE.as_secs()) {
            continue;
        }
        look(&conductor, EngineName::Slurm, &*cluster.engine).await;
    }
}

/// Asks the engine once for all of its attempts, and tells what follows.
async fn look(conductor: &Conductor, name: EngineName, engine: &dyn Engine) {
    let attempts = conductor.watched(name);
    if attempts.is_empty() && name == EngineName::Local {
        return;
    }
    let conditions = engine.poll(&attempts).await;
    for (watched, condition) in attempts.into_iter().zip(conditions) {
        follow(conductor, watched.at, condition).await;
    }
}

async fn follow(conductor: &Conductor, at: AttemptRef, condition: Condition) {
    let AttemptRef { run, attempt, job } = at;
    let event = match condition {
        Condition::Alive => return,
        Condition::Gone { message, code } => {
            tracing::warn!(%run, attempt, message, "a runner is gone");
            Event::Lost { attempt, message, code: code.map(|c| c.as_str().to_owned()) }
        }
        Condition::Withdrawn(message) => {
            tracing::warn!(%run, attempt, message, "a job is gone");
            Event::PlaceFailed { attempt, message }
        }
        Condition::Requeued { restarts, message } => {
            tracing::warn!(%run, attempt, message, "an attempt begins anew");
            Event::Requeued { job, attempt: job.saturating_add(restarts), message }
        }
        Condition::Missing => {
            conductor.submit_again(&run, attempt).await;
            return;
        }
    };
    conductor.apply_and_log(&run, event).await;
}
