//! What runners that were killed left half-made on this machine for others: environments, objects of the cache,
//! zips of definitions.

use std::path::Path;

use trainyard_api::RunId;
use trainyard_transfer::Cache;

use crate::state::App;

/// Removes it. What somebody is making now is locked, or is of a run that goes on.
pub(super) async fn sweep(app: &App) {
    let node = app.config.node();
    let (environments, cache) = (node.join("environments"), node.join("cache"));
    let swept = tokio::task::spawn_blocking(move || {
        (trainyard_environment::sweep(&environments), Cache::sweep(&cache))
    });
    match swept.await {
        Ok((0, 0)) => {}
        Ok((environments, objects)) => {
            tracing::info!(environments, objects, "removed what was left half-made on this machine");
        }
        Err(error) => tracing::warn!(%error, "this machine cannot be swept"),
    }
    sweep_zips(app, &node.join("definitions"));
}

/// Zips on their way are named by the run for which they come: `SHA256.RUN.LEARNER.part`.
fn sweep_zips(app: &App, folder: &Path) {
    for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".part") else { continue };
        let Some(Ok(run)) = name.split('.').nth(1).map(str::parse::<RunId>) else { continue };
        let goes_on = match app.store.run(&run) {
            Ok(record) => !record.run.is_ended(),
            Err(error) => !matches!(error, trainyard_store::Error::NotFound),
        };
        if !goes_on && let Err(error) = std::fs::remove_file(file.path()) {
            tracing::warn!(%error, path = %file.path().display(), "half a zip cannot be removed");
        }
    }
}
