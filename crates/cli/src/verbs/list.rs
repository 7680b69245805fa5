//! `list training-runs`.

use std::time::Duration;

use trainyard_client::Client;

use super::follow::redraw;
use crate::{Error, Output, output::RunsView};

/// Time between two looks while watching.
const PAUSE: Duration = Duration::from_secs(1);
/// Most entries that one page may have.
const PAGE: u32 = 1000;

/// `list training-runs`.
pub(crate) async fn list(
    client: &Client,
    limit: u32,
    all: bool,
    watch: bool,
    output: &Output,
) -> Result<(), Error> {
    if output.is_original() {
        output.talk("Fetching the list of training runs ...");
    }
    let mut shown = String::new();
    loop {
        let view = fetch(client, if all { u32::MAX } else { limit }, output.is_original()).await?;
        if !watch {
            output.show(&view)?;
            if output.is_for_people() {
                output.talk(&format!("\n{} records found.", view.runs.len()));
                if output.is_original() {
                    output.talk("OK\nList all training-runs successful");
                }
            }
            return Ok(());
        }
        redraw(output, &view, &mut shown)?;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn fetch(client: &Client, limit: u32, original: bool) -> Result<RunsView, Error> {
    let mut runs = Vec::new();
    let mut next: Option<String> = None;
    loop {
        let left = limit - runs.len() as u32;
        let page = client.runs(left.clamp(1, PAGE), next.as_deref()).await?;
        runs.extend(page.resources);
        next = page.next.map(|n| n.url);
        if next.is_none() || runs.len() as u32 >= limit {
            runs.truncate(limit as usize);
            return Ok(RunsView { runs, original });
        }
    }
}
