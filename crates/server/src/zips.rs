//! Definition zips that nothing needs any more: their definition was deleted or given another zip
//! while a run still needed this one, or the server was stopped between two steps.

use std::time::{Duration, SystemTime};

use crate::state::App;

/// Younger ones may belong to a request that is being served.
const MIN_AGE: Duration = Duration::from_hours(1);

/// Removes them, once.
pub(crate) async fn sweep(app: &App) {
    let Some(limit) = SystemTime::now().checked_sub(MIN_AGE) else { return };
    let Ok(files) = std::fs::read_dir(app.folder.definitions()) else { return };
    for file in files.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let Some(sha256) = name.strip_suffix(".zip") else { continue };
        if file.metadata().and_then(|m| m.modified()).is_ok_and(|t| t < limit) {
            remove_if_free(app, sha256).await;
        }
    }
}

/// Removes the zip with this SHA-256, unless a definition or a run in progress needs it.
pub(crate) async fn remove_if_free(app: &App, sha256: &str) {
    let _guard = app.definitions.write().await;
    let path = app.folder.definition(sha256);
    let removed = match app.store.is_content_needed(sha256).await {
        Ok(true) => return,
        Ok(false) => std::fs::remove_file(&path).map_err(|e| e.to_string()),
        Err(e) => Err(e.to_string()),
    };
    if let Err(error) = removed {
        tracing::warn!(error, path = %path.display(), "the zip cannot be removed");
    }
}
