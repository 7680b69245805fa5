//! Looks after attempts: one whose runner is gone is found out within seconds.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use trainyard_engine::Condition;
use trainyard_lifecycle::Event;

use crate::conductor::Conductor;

/// Time between looks. Runners that this server started itself wake it earlier.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks until the server stops.
pub(crate) async fn watch(conductor: Conductor, ended: Arc<Notify>) {
    loop {
        let _ = tokio::time::timeout(PAUSE, ended.notified()).await;
        let attempts = conductor.active();
        if attempts.is_empty() {
            continue;
        }
        let conditions = conductor.engine().poll(&attempts).await;
        for (attempt, condition) in attempts.into_iter().zip(conditions) {
            if let Condition::Gone(message) = condition {
                tracing::warn!(run = %attempt.run, attempt = attempt.attempt, message, "a runner is gone");
                let event = Event::Lost { attempt: attempt.attempt, message };
                conductor.apply_and_log(&attempt.run, event).await;
            }
        }
    }
}
