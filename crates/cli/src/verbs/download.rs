//! `download`: the results of a run, straight from their bucket. What is there already stays.

use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use trainyard_api::{Code, Problem};
use trainyard_client::Client;
use trainyard_transfer::{Bucket, Error as TransferError, Http, Object, check_names, fetch_on, is_object};

use crate::{Error, Output, ids, output::bar};

/// Files on the way at once.
const AT_ONCE: usize = 4;

/// `download RUN [--to DIR] [--only PREFIX]`.
pub(crate) async fn download(
    client: &Client,
    run: &str,
    to: Option<PathBuf>,
    only: &str,
    output: &Output,
) -> Result<(), Error> {
    let id = ids::find(client, run).await?;
    let run = client.run(&id).await?;
    let results = &run.entity.training_results_reference;
    let problem = |e: TransferError| Error::from(e.problem());
    let bucket = Bucket::new(&Http::default(), &results.connection, results.bucket()).map_err(problem)?;
    let base = format!("{id}/");
    let objects: Vec<Object> = bucket.list(&format!("{base}{only}")).await.map_err(problem)?;
    let objects: Vec<Object> = objects.into_iter().filter(|o| !o.key.ends_with('/')).collect();
    if objects.is_empty() {
        let state = run.entity.status.state.as_str();
        let problem =
            Problem::new(Code::NotFound, format!("there is nothing below {base}{only} in {}", bucket.name()));
        return Err(problem
            .hint(format!("the run is {state}; results come while it runs, and completely at its end"))
            .into());
    }
    check_names(objects.iter().map(|o| &o.key[base.len()..]))
        .map_err(|e| problem(TransferError::Names(e)))?;
    let folder = to.unwrap_or_else(|| PathBuf::from(&id));
    let total: u64 = objects.iter().map(|o| o.size).sum();
    let bar = bar(output, "downloading", total);
    let fetches = stream::iter(&objects).map(|object| one(&bucket, object, &folder, &base, &bar));
    let fetched: Vec<bool> = fetches.buffer_unordered(AT_ONCE).try_collect().await?;
    bar.finish_and_clear();
    let new = fetched.iter().filter(|f| **f).count();
    output.talk(&format!("{new} of {} files downloaded, {} were there", objects.len(), objects.len() - new));
    if !run.entity.status.state.is_final() {
        output.talk(&format!("{id} has not ended: more may come"));
    }
    output.data(&format!("{}\n", folder.display()))
}

/// Fetches one file; `false`: it was there.
async fn one(
    bucket: &Bucket,
    object: &Object,
    folder: &Path,
    base: &str,
    bar: &ProgressBar,
) -> Result<bool, Error> {
    let target = folder.join(&object.key[base.len()..]);
    let stamp = target.with_file_name(format!(
        ".{}.{}",
        target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        object.etag.chars().filter(char::is_ascii_alphanumeric).collect::<String>()
    ));
    if is_object(bucket, object, &target).await {
        bar.inc(object.size);
        return Ok(false);
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Error::file(parent, &e))?;
    }
    fetch_on(bucket, object, &stamp, |n| bar.inc(n)).await.map_err(|e| Error::from(e.problem()))?;
    std::fs::rename(&stamp, &target).map_err(|e| Error::file(&target, &e))?;
    Ok(true)
}
