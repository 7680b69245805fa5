//! Runs as people name them: a whole id, the beginning of one, a name, or `last`.

use std::collections::HashSet;

use trainyard_api::{Code, Problem, RunId};
use trainyard_client::Client;

use crate::Error;

/// What every id begins with, and nobody types.
const PREFIX: &str = "training-";
/// Candidates that are named when several match.
const NAMED: usize = 5;
/// The id of the run that is meant.
pub(crate) async fn find(client: &Client, text: &str) -> Result<String, Error> {
    if text.parse::<RunId>().is_ok() {
        return Ok(text.to_owned());
    }
    let missing = || {
        Problem::new(Code::NotFound, format!("there is no training run `{text}`"))
            .hint("`trainyard list training-runs` names them")
    };
    if text == "last" {
        let page = client.runs(1, None).await?;
        let newest = page.resources.into_iter().next();
        let none = || Problem::new(Code::NotFound, "there are no training runs yet");
        return Ok(newest.ok_or_else(none)?.metadata.guid.to_string());
    }
    // One more than are named tells that there are more.
    let most = NAMED as u32 + 1;
    let beginnings = [text.to_owned(), format!("{PREFIX}{text}")];
    let beginnings = beginnings.iter().filter(|b| b.starts_with(PREFIX) && b.len() > PREFIX.len());
    let mut found = client.runs_by_name(text, most).await?;
    for beginning in beginnings {
        found.extend(client.runs_by_id(beginning, most).await?);
    }
    // A name that is also the beginning of an id means neither before it is said which.
    let mut found: Vec<String> = found.into_iter().map(|r| r.metadata.guid.to_string()).collect();
    let mut seen = HashSet::new();
    found.retain(|id| seen.insert(id.clone()));
    match found.as_slice() {
        [] => Err(missing().into()),
        [one] => Ok(one.clone()),
        several => {
            let named = several[..several.len().min(NAMED)].join(", ");
            let tail = if several.len() > NAMED { " and more" } else { "" };
            let message = format!("`{text}` may be any of {named}{tail}");
            Err(Problem::new(Code::Ambiguous, message).hint("type more of the id").into())
        }
    }
}
