//! Logs and metrics of runs that have no record: nobody can see them any more.

use std::{collections::HashSet, fs::ReadDir, path::PathBuf};

use trainyard_api::RunId;

use crate::state::App;

/// Files that are looked at in one go: there may be millions.
const BATCH: usize = 1000;

/// A file, or a folder of an earlier release, and the run whose it is.
type Found = (RunId, PathBuf);

/// Removes them. A record is there before its log is, so that one without has none any more.
pub(super) async fn sweep(app: &App) {
    let Ok(mut files) = std::fs::read_dir(app.folder.logs()) else { return };
    let mut removed = 0;
    loop {
        let Ok((rest, batch)) = tokio::task::spawn_blocking(move || next(files)).await else { return };
        files = rest;
        if batch.is_empty() {
            break;
        }
        let ids: HashSet<RunId> = batch.iter().map(|(run, _)| run.clone()).collect();
        let known = match app.store.known(ids.into_iter().collect()).await {
            Ok(known) => known,
            Err(error) => {
                tracing::warn!(%error, "it cannot be told whose logs are still needed");
                return;
            }
        };
        let unneeded =
            batch.into_iter().filter(|(run, _)| !known.contains(run)).map(|(_, path)| path).collect();
        let Ok(gone) = tokio::task::spawn_blocking(|| remove(unneeded)).await else { return };
        removed += gone;
    }
    if removed > 0 {
        tracing::info!(files = removed, "removed logs of runs that are not known any more");
    }
}

/// Says how many there were.
fn remove(unneeded: Vec<PathBuf>) -> usize {
    let mut removed = 0;
    for path in unneeded {
        let gone = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        match gone {
            Ok(()) => removed += 1,
            Err(error) => tracing::warn!(%error, path = %path.display(), "a log cannot be removed"),
        }
    }
    removed
}

fn next(mut files: ReadDir) -> (ReadDir, Vec<Found>) {
    let mut batch = Vec::new();
    while batch.len() < BATCH
        && let Some(file) = files.next()
    {
        let Ok(file) = file else { continue };
        let name = file.file_name();
        let run = name.to_str().and_then(|n| n.split('.').next()?.parse().ok());
        batch.extend(run.map(|run| (run, file.path())));
    }
    (files, batch)
}
