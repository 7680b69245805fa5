//! `download`: the results of a run, straight from their bucket. What is there already stays.

use std::path::{Path, PathBuf};

use futures::{StreamExt, TryStreamExt, stream};
use indicatif::ProgressBar;
use trainyard_api::{Code, Problem, ResultObject};
use trainyard_client::Client;
use trainyard_transfer::{
    Error as TransferError, Http, Linked, Links, Object, check_names, fetch_on, is_object,
};
use url::Url;

use crate::{Error, Output, ids, output::bar};

/// Files on the way at once.
const AT_ONCE: usize = 4;
/// How often the results of a run that goes on are listed.
const ROUNDS: u32 = 10;

/// `download RUN [--to DIR] [--only PREFIX]`.
pub(crate) async fn download(
    client: &Client,
    run: &str,
    to: Option<PathBuf>,
    only: &str,
    output: &Output,
) -> Result<(), Error> {
    let id = ids::find(client, run).await?;
    let folder = to.unwrap_or_else(|| PathBuf::from(&id));
    let mut rounds = 0;
    let (state, objects, new) = loop {
        rounds += 1;
        let state = client.run(&id).await?.entity.status.state;
        let objects = list(client, &id, only).await?;
        if objects.is_empty() {
            let problem = Problem::new(Code::NotFound, format!("{id} has left nothing below `{only}`"));
            let hint = format!(
                "the run is {}; results come while it runs, and completely at its end",
                state.as_str()
            );
            return Err(problem.hint(hint).into());
        }
        match fetch(&objects, &folder, output).await? {
            Ok(new) => break (state, objects, new),
            // A run that goes on replaces what it has stored.
            Err(error) if rounds < ROUNDS => output.talk(&format!("{error}: listing the results again")),
            Err(error) => return Err(error.problem().into()),
        }
    };
    output.talk(&format!("{new} of {} files downloaded, {} were there", objects.len(), objects.len() - new));
    if !state.is_final() {
        output.talk(&format!("{id} has not ended: more may come"));
    }
    output.data(&format!("{}\n", folder.display()))
}

/// Fetches what is not there into `folder`; returns how many files that were. The inner error: one of them is not as it
/// was listed any more.
async fn fetch(
    objects: &[ResultObject],
    folder: &Path,
    output: &Output,
) -> Result<Result<usize, TransferError>, Error> {
    check_names(objects.iter().map(|o| o.name.as_str()))
        .map_err(|e| Error::from(TransferError::Names(e).problem()))?;
    let total: u64 = objects.iter().map(|o| o.size).sum();
    let bar = bar(output, "downloading", total);
    let http = Http::default();
    let fetches = stream::iter(objects).map(|object| one(&http, object, folder, &bar));
    let fetched: Result<Vec<bool>, Failed> = fetches.buffer_unordered(AT_ONCE).try_collect().await;
    bar.finish_and_clear();
    match fetched {
        Ok(fetched) => Ok(Ok(fetched.iter().filter(|f| **f).count())),
        Err(Failed::Transfer(error)) if error.is_moved() => Ok(Err(error)),
        Err(Failed::Transfer(error)) => Err(error.problem().into()),
        Err(Failed::Here(error)) => Err(error),
    }
}

/// Why a file is not here.
enum Failed {
    Transfer(TransferError),
    Here(Error),
}

impl From<TransferError> for Failed {
    fn from(error: TransferError) -> Self {
        Self::Transfer(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Here(error)
    }
}

/// What the run has left below `only`, with links to it.
async fn list(client: &Client, id: &str, only: &str) -> Result<Vec<ResultObject>, Error> {
    let mut objects = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = client.results(id, only, after.as_deref()).await?;
        objects.extend(page.resources.into_iter().filter(|o| !o.name.ends_with('/')));
        match page.next {
            // A store that goes round in circles is not followed.
            Some(next) if after.as_ref().is_none_or(|a| *a < next) => after = Some(next),
            _ => return Ok(objects),
        }
    }
}

/// Fetches one file; `false`: it was there.
async fn one(http: &Http, found: &ResultObject, folder: &Path, bar: &ProgressBar) -> Result<bool, Failed> {
    let link = |text: &str| {
        let url = text.parse().map_err(|e| Error::internal(format!("the server's link cannot be used: {e}")));
        url as Result<Url, Error>
    };
    let links = Links { get: link(&found.url)?, head: link(&found.head_url)? };
    let origin = Linked::new(http, links)?;
    let object = Object { key: found.name.clone(), size: found.size, etag: found.etag.clone() };
    let target = folder.join(&found.name);
    let stamp = target.with_file_name(format!(
        ".{}.{}",
        target.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        object.etag.chars().filter(char::is_ascii_alphanumeric).collect::<String>()
    ));
    if is_object(&origin, &object, &target).await {
        bar.inc(object.size);
        return Ok(false);
    }
    if let Some(parent) = target.parent() {
        std::fs::create_dir_all(parent).map_err(|e| Error::file(parent, &e))?;
    }
    fetch_on(&origin, &object, &stamp, |n| bar.inc(n)).await?;
    std::fs::rename(&stamp, &target).map_err(|e| Error::file(&target, &e))?;
    Ok(true)
}
