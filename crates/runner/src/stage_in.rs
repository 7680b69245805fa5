//! Makes everything ready: data, code and environment side by side.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use trainyard_api::runner::WorkOrder;
use trainyard_definition::{Limits, unpack};
use trainyard_environment::{Environment, make, make_layer};
use trainyard_transfer::{Bucket, Cache, Http, Progress, Staged as Fetched, Upload, stage_in};

use crate::{
    Error,
    layout::{self, Layout},
    link::Link,
};

/// How long a store that is away is waited for; after it the run fails, and its place is free.
const PATIENCE: Duration = Duration::from_mins(10);
/// A try that took longer than the retries of one request did bring something: the waiting begins
/// anew.
const WORKED: Duration = Duration::from_mins(1);
/// Pauses between tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The folder of the bucket that all of its runs share.
const CHECKPOINTS: &str = "_wml_checkpoints/";

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
) -> Result<Staged, Error> {
    let (data, code, environment, checkpoints) = tokio::try_join!(
        fetch_data(order, layout, node, http),
        fetch_code(order, layout, node, link),
        make_environment(order, layout, node),
        fetch_checkpoints(order, layout, http),
    )?;
    let (environment, lines) = environment;
    let notes = [("load-data.log", data), ("load-model.log", format!("{code}{lines}"))];
    let notes = notes.map(|(name, text)| (name.to_owned(), text)).to_vec();
    Ok(Staged { environment, checkpoints, notes })
}

/// Brings a prefix of a bucket into a folder; waits for a store that is away. What the cache has
/// by then does not come again.
async fn patiently(
    bucket: &Bucket,
    prefix: &str,
    cache: Option<&Cache>,
    folder: &Path,
    layout: &Layout,
) -> Result<Fetched, Error> {
    let mut away_since = None;
    let mut pause = FIRST_WAIT;
    loop {
        let begun = Instant::now();
        let staged = stage_in(bucket, prefix, cache, folder, &Progress::default()).await;
        if begun.elapsed() > WORKED {
            (away_since, pause) = (None, FIRST_WAIT);
        }
        let since = *away_since.get_or_insert_with(Instant::now);
        match staged {
            Err(error) if error.is_transient() && since.elapsed() < PATIENCE => {
                tracing::warn!(%error, "the data wait for their store");
                layout.say(&format!("{error}; trying again in {} s\n", pause.as_secs()));
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_WAIT);
                layout::empty_folder(folder, &|_| false).map_err(|e| Error::file(folder, e))?;
            }
            other => return other.map_err(Error::StageIn),
        }
    }
}

async fn fetch_data(order: &WorkOrder, layout: &Layout, node: &Path, http: &Http) -> Result<String, Error> {
    let started = Instant::now();
    let bucket = Bucket::new(http, &order.data.connection, &order.data.bucket).map_err(Error::StageIn)?;
    let cache = Cache::open(&node.join("cache")).map_err(Error::StageIn)?;
    let staged = patiently(&bucket, "", Some(&cache), &layout.data, layout).await?;
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

async fn fetch_checkpoints(order: &WorkOrder, layout: &Layout, http: &Http) -> Result<Upload, Error> {
    let bucket =
        Bucket::new(http, &order.results.connection, &order.results.bucket).map_err(Error::StageIn)?;
    patiently(&bucket, CHECKPOINTS, None, &layout.checkpoints, layout).await?;
    let mut upload = Upload::new(bucket, CHECKPOINTS.to_owned());
    upload.adopt(&layout.checkpoints, "");
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
