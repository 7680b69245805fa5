//! `list training-runs`.

use std::time::Duration;

use trainyard_api::{Code, Page, Problem};
use trainyard_client::Client;

use super::{closing, follow::redraw};
use crate::{Error, Output, output::RunsView};

/// Time between two looks while watching.
const PAUSE: Duration = Duration::from_secs(1);
/// Most entries that one page may have.
const PAGE: u32 = 1000;

/// `list training-runs`.
pub(crate) async fn list(client: &Client, limit: u32, watch: bool, output: &Output) -> Result<(), Error> {
    if output.is_original() {
        output.talk("Fetching the list of training runs ...");
    }
    let mut shown = String::new();
    loop {
        let runs =
            pages(limit, |n, next: Option<String>| async move { Ok(client.runs(n, next.as_deref()).await?) })
                .await?;
        let view = RunsView { runs, original: output.is_original() };
        if !watch {
            output.show(&view)?;
            closing(output, view.runs.len(), "List all training-runs successful");
            return Ok(());
        }
        redraw(output, &view, &mut shown)?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// Up to `limit` entries of a list that comes in pages; `page` fetches one, of so many entries, or the
/// one that a link leads to.
pub(crate) async fn pages<T, F: Future<Output = Result<Page<T>, Error>>>(
    limit: u32,
    page: impl Fn(u32, Option<String>) -> F,
) -> Result<Vec<T>, Error> {
    let mut entries = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let left = limit - entries.len() as u32;
        let fetched = page(left.clamp(1, PAGE), next).await?;
        entries.extend(fetched.resources);
        next = fetched.next.map(|n| n.url);
        if next.is_none() || entries.len() as u32 >= limit {
            entries.truncate(limit as usize);
            return Ok(entries);
        }
    }
}

/// The one that a text means, of those that it may mean.
pub(crate) fn only<T>(mut found: Vec<T>, what: &str, text: &str) -> Result<T, Error> {
    match (found.len(), found.pop()) {
        (1, Some(one)) => Ok(one),
        (0, _) | (_, None) => Err(Problem::new(Code::NotFound, format!("there is no {what} `{text}`"))
            .hint(format!("`trainyard list {}s` names them", what.replace(' ', "-")))
            .into()),
        (n, _) => Err(Problem::new(Code::Ambiguous, format!("{n} {what}s match `{text}`"))
            .hint("type more of the id")
            .into()),
    }
}
