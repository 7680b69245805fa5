//! Copies models out of buckets, in the background, and removes their archives.

use std::time::{Duration, SystemTime};

use trainyard_api::{Code, Connection, ContentLocation, NewModel, RunId, Time, Uuid};
use trainyard_store::{Archive, Caller, Error, ModelRecord, Record};
use trainyard_transfer::Bucket;

use crate::{
    archive::{self, ArchiveError},
    problem::{Answer, Refusal},
    state::App,
};

/// Younger archives may belong to a request that is being served.
const MIN_AGE: Duration = Duration::from_hours(1);
/// Models that are copied at once; others wait.
pub(crate) const AT_ONCE: usize = 4;

/// How often a copy is begun whose source changes, or whose store is away, and the pause between.
const TRIES: u32 = 5;
const AGAIN: Duration = Duration::from_secs(1);

/// Where a model is copied from.
pub(crate) struct Source {
    connection: Connection,
    bucket: String,
    /// The folder in the bucket, with a slash at its end.
    prefix: String,
}

impl Source {
    /// The results of a run, which has to be over: before, there is no whole model.
    pub(crate) fn of_run(run: &Record) -> Answer<Self> {
        if !run.run.is_ended() {
            let message = format!("{} has not ended: there is no whole model yet", run.id);
            return Err(Refusal::new(Code::Conflict, message));
        }
        let results = &run.spec.new_run.training_results_reference;
        Ok(Self {
            connection: results.connection.clone(),
            bucket: results.bucket().to_owned(),
            prefix: format!("{}/model/", run.id),
        })
    }

    /// A folder that somebody names.
    pub(crate) fn of_location(location: ContentLocation) -> Answer<Self> {
        let (bucket, path) = (location.source.bucket, location.source.path.trim_matches('/').to_owned());
        if bucket.is_empty() || path.is_empty() {
            let message = "`content_location.source` has to name `bucket` and `path`";
            return Err(Refusal::new(Code::Request, message));
        }
        Ok(Self { connection: location.connection, bucket, prefix: format!("{path}/model/") })
    }
}

/// Keeps a model, and begins to copy it.
pub(crate) async fn copy(
    app: &App,
    caller: &Caller,
    body: &NewModel,
    run: Option<RunId>,
    source: Source,
) -> Answer<ModelRecord> {
    let record =
        app.store.add_model(&caller.owner, body, run.as_ref(), Archive::Copying, Time::now()).await?;
    begin(app, record.clone(), source);
    Ok(record)
}

/// Goes on with what a server before this one was copying when it was stopped: from the start, where it is known
/// from where.
pub(crate) async fn resume(app: &App) -> Result<(), Error> {
    for model in app.store.unfinished_models()? {
        let run = model.run.as_ref().and_then(|run| app.store.run(run).ok());
        if let Some(source) = run.and_then(|run| Source::of_run(&run).ok()) {
            begin(app, model, source);
        } else {
            // The keys to a folder that somebody named are not kept.
            let message = "the server was stopped while it copied the model; store it again".to_owned();
            app.store.set_archive(model.version, Archive::Failed { message }, Time::now()).await?;
        }
    }
    Ok(())
}

/// Copies a model in the background.
fn begin(app: &App, model: ModelRecord, source: Source) {
    let app = app.clone();
    tokio::spawn(async move {
        let _turn = app.copying.acquire().await;
        let archive = match fetch(&app, &source, model.file).await {
            Ok(size) => Archive::Kept { size },
            Err(message) => {
                tracing::warn!(run = ?model.run, model = %model.id, why = ?message, "a model could not be stored");
                Archive::Failed { message }
            }
        };
        match app.store.set_archive(model.version, archive, Time::now()).await {
            Ok(()) => {}
            // It was removed while it was copied.
            Err(Error::NotFound) => remove(&app, model.file).await,
            Err(error) => tracing::error!(%error, model = %model.id, "a stored model cannot be noted"),
        }
        app.copies.notify_waiters();
    });
}

async fn fetch(app: &App, source: &Source, file: Uuid) -> Result<u64, String> {
    let bucket = Bucket::new(&app.http, &source.connection, &source.bucket).map_err(|e| e.to_string())?;
    let (target, tmp) = (app.folder.model(file), app.folder.tmp());
    let most = app.config.limits.model_bytes;
    let mut tries = TRIES;
    loop {
        tries -= 1;
        match archive::pack(&bucket, &source.prefix, &target, &tmp, most).await {
            Err(ArchiveError::Transfer(error)) if tries > 0 && (error.is_moved() || error.is_transient()) => {
                tracing::warn!(%error, %file, "a model is copied again from the start");
                tokio::time::sleep(AGAIN).await;
            }
            other => return other.map_err(|e| e.to_string()),
        }
    }
}

/// The version, once it is not being copied any more.
pub(crate) async fn copied(app: &App, version: Uuid) -> Result<ModelRecord, Error> {
    loop {
        let changed = app.copies.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let record = app.store.model_version(version)?;
        if record.archive != Archive::Copying {
            return Ok(record);
        }
        changed.await;
    }
}

/// Removes archives that no version has: the server was stopped between two steps.
pub(crate) async fn sweep(app: &App) {
    let Some(limit) = SystemTime::now().checked_sub(MIN_AGE) else { return };
    let Ok(files) = std::fs::read_dir(app.folder.models()) else { return };
    for file in files.flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        let Some(id) = name.strip_suffix(".tar.gz").and_then(|n| n.parse::<Uuid>().ok()) else { continue };
        let is_old = file.metadata().and_then(|m| m.modified()).is_ok_and(|t| t < limit);
        if is_old && app.store.is_archive_needed(id).await.is_ok_and(|needed| !needed) {
            remove(app, id).await;
        }
    }
}

/// Removes an archive.
pub(crate) async fn remove(app: &App, file: Uuid) {
    if let Err(error) = tokio::fs::remove_file(app.folder.model(file)).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(%error, %file, "the archive of a model cannot be removed");
    }
}
