//! Makes everything ready: data, code and environment side by side.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use trainyard_api::runner::WorkOrder;
use trainyard_definition::{Limits, unpack};
use trainyard_environment::{Environment, make, make_layer};
use trainyard_transfer::{
    Bucket, Cache, Error as TransferError, Http, Ledger, Progress, StageIn, Staged as Fetched, Upload,
};

use crate::{Error, layout::Layout, link::Link};

/// How long a store that is away is waited for; after it the run fails, and its place is free.
const PATIENCE: Duration = Duration::from_mins(10);
/// A try that took longer than this and brought something found a store that was there: the waiting begins anew.
const WORKED: Duration = Duration::from_mins(1);
/// Pauses between tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Pause before data is listed again that others are changing.
const RESTLESS_WAIT: Duration = Duration::from_millis(200);
/// The folder of the bucket that all of its runs share.
pub(crate) const CHECKPOINTS: &str = "_wml_checkpoints/";

/// What a staged attempt has.
pub(crate) struct Staged {
    pub(crate) environment: Environment,
    pub(crate) checkpoints: Upload,
    /// What it did, by the names of the logs that tell it.
    pub(crate) notes: Vec<(String, String)>,
}

/// Stages in.
pub(crate) async fn stage(
    order: &WorkOrder,
    layout: &Layout,
    node: &Path,
    link: &Link,
    http: &Http,
    ledger: &Arc<Ledger>,
) -> Result<Staged, Error> {
    let (data, code, environment, checkpoints) = tokio::try_join!(
        fetch_data(order, layout, node, http),
        fetch_code(order, layout, node, link),
        make_environment(order, layout, node),
        fetch_checkpoints(order, layout, http, ledger),
    )?;
    let (environment, lines) = environment;
    let notes = [("load-data.log", data), ("load-model.log", format!("{code}{lines}"))];
    let notes = notes.map(|(name, text)| (name.to_owned(), text)).to_vec();
    Ok(Staged { environment, checkpoints, notes })
}

/// Brings a prefix of a bucket into a folder; waits for a store that is away, and for data that others are
/// changing. What is here by then does not come again.
async fn patiently(stage: &mut StageIn<'_>, bucket: &Bucket, layout: &Layout) -> Result<Fetched, Error> {
    let mut away_since = None;
    let mut restless_since = None;
    let mut pause = FIRST_WAIT;
    loop {
        let (begun, received) = (Instant::now(), stage.received());
        let round = stage.round(&Progress::default()).await;
        if begun.elapsed() > WORKED && stage.received() > received {
            (away_since, pause) = (None, FIRST_WAIT);
        }
        match round {
            Ok(None) => return Ok(stage.staged()),
            Ok(Some(key)) => {
                let error = TransferError::Changed(format!("{}/{key}", bucket.name()));
                if restless_since.is_none() {
                    layout.say(&format!("{error}; looking again\n"));
                }
                if restless_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    return Err(Error::StageIn(error));
                }
                tracing::info!(%error, "looking again");
                tokio::time::sleep(RESTLESS_WAIT).await;
            }
            Err(error)
                if error.is_transient()
                    && away_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE =>
            {
                tracing::warn!(%error, "the data wait for their store");
                layout.say(&format!("{error}; trying again in {} s\n", pause.as_secs()));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_WAIT);
            }
            Err(error) => return Err(Error::StageIn(error)),
        }
    }
}

async fn fetch_data(order: &WorkOrder, layout: &Layout, node: &Path, http: &Http) -> Result<String, Error> {
    let started = Instant::now();
    let bucket = Bucket::new(http, &order.data.connection, &order.data.bucket).map_err(Error::StageIn)?;
    let cache = Cache::open(&node.join("cache")).map_err(Error::StageIn)?;
    let mut stage = StageIn::new(&bucket, "", Some(&cache), &layout.data);
    let staged = patiently(&mut stage, &bucket, layout).await?;
    Ok(format!(
        "bucket {}: {} files, {} bytes in {:.3} s; over the network: {} files, {} bytes; connections taken up again: {}\n",
        order.data.bucket,
        staged.files,
        staged.bytes,
        started.elapsed().as_secs_f64(),
        staged.fetched_files,
        staged.fetched_bytes,
        staged.resumed,
    ))
}

async fn fetch_checkpoints(
    order: &WorkOrder,
    layout: &Layout,
    http: &Http,
    ledger: &Arc<Ledger>,
) -> Result<Upload, Error> {
    let bucket =
        Bucket::new(http, &order.results.connection, &order.results.bucket).map_err(Error::StageIn)?;
    let mut stage = StageIn::new(&bucket, CHECKPOINTS, None, &layout.checkpoints);
    patiently(&mut stage, &bucket, layout).await?;
    let mut upload = Upload::new(bucket.clone(), CHECKPOINTS.to_owned()).noted_in(Arc::clone(ledger));
    upload.adopt(&layout.checkpoints, "", stage.objects());
    Ok(upload)
}

async fn make_environment(
    order: &WorkOrder,
    layout: &Layout,
    node: &Path,
) -> Result<(Environment, String), Error> {
    let started = Instant::now();
    let mut lines = String::new();
    let root = node.join("environments");
    let environment = make(&root, &order.environment, |line| {
        lines.push_str(&line);
        lines.push('\n');
    })
    .await
    .map_err(Error::Environment)?;
    if let Some(folder) = &environment.folder {
        make_layer(folder, &layout.layer, &order.environment.python)
            .map_err(|e| Error::file(&layout.layer, e))?;
    }
    let how = if environment.built { "made" } else { "ready" };
    let seconds = started.elapsed().as_secs_f64();
    lines.push_str(&format!("environment {}: {how} in {seconds:.3} s\n", order.environment.label));
    Ok((environment, lines))
}

async fn fetch_code(order: &WorkOrder, layout: &Layout, node: &Path, link: &Link) -> Result<String, Error> {
    let zip = fetch_zip(order, node, link).await?;
    let target = layout.code.clone();
    // The server enforced its limits when the zip came; here they only have to be no narrower.
    let limits = Limits { zip_bytes: u64::MAX, unpacked_bytes: u64::MAX, entries: u64::MAX, ratio: u64::MAX };
    let unpacked = tokio::task::spawn_blocking(move || unpack(&zip, &target, &limits)).await;
    let summary = match unpacked {
        Ok(result) => result.map_err(Error::Definition)?,
        Err(e) => return Err(Error::file(&layout.code, std::io::Error::other(e))),
    };
    Ok(format!("definition {}: {} files, {} bytes\n", order.definition.sha256, summary.files, summary.bytes))
}

/// The zip from the node's cache, or from the server.
async fn fetch_zip(order: &WorkOrder, node: &Path, link: &Link) -> Result<PathBuf, Error> {
    let folder = node.join("definitions");
    let path = folder.join(format!("{}.zip", order.definition.sha256));
    if fs::metadata(&path).is_ok_and(|m| m.len() == order.definition.size) {
        return Ok(path);
    }
    fs::create_dir_all(&folder).map_err(|e| Error::file(&folder, e))?;
    let part = folder.join(format!("{}.{}.{}.part", order.definition.sha256, order.run, order.learner));
    let failed = |e| Error::file(&part, e);
    let mut file = File::create(&part).map_err(failed)?;
    let mut hash = Sha256::new();
    let mut response = link.definition().await?;
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) => {
                hash.update(&bytes);
                file.write_all(&bytes).map_err(failed)?;
            }
            Ok(None) => break,
            Err(error) => {
                tracing::warn!(%error, "the definition broke off; fetching it again");
                hash = Sha256::new();
                file = File::create(&part).map_err(failed)?;
                response = link.definition().await?;
            }
        }
    }
    if hex::encode(hash.finalize()) != order.definition.sha256 {
        let _ = fs::remove_file(&part);
        return Err(Error::WrongDefinition);
    }
    fs::rename(&part, &path).map_err(failed)?;
    Ok(path)
}
