//! Runs as people name them: a whole id, the beginning of one, a name, or `last`.

use trainyard_api::{Code, Problem, Run, RunId};
use trainyard_client::Client;

use crate::Error;

/// Runs looked through for a beginning or a name.
const LOOKED_THROUGH: u32 = 1000;
/// Candidates that are named when several match.
const NAMED: usize = 5;
/// Nouns that may stand before a run.
const NOUNS: [&str; 5] = ["training-runs", "training-run", "trained-models", "runs", "run"];

/// Splits the original's noun off a list of words: `training-runs ID …`.
pub(crate) fn after_noun(words: &[String]) -> &[String] {
    match words {
        [noun, rest @ ..] if NOUNS.contains(&noun.as_str()) && !rest.is_empty() => rest,
        all => all,
    }
}

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
    let runs = client.runs(LOOKED_THROUGH, None).await?.resources;
    let id = |r: &Run| r.metadata.guid.to_string();
    let by_name: Vec<&Run> = runs.iter().filter(|r| r.entity.model_definition.name == text).collect();
    let prefix = |r: &&Run| {
        let id = id(r);
        !text.is_empty()
            && (id.starts_with(text) && text.len() > "training-".len()
                || id["training-".len()..].starts_with(text))
    };
    let by_prefix: Vec<&Run> = runs.iter().filter(prefix).collect();
    // A name that is also the beginning of an id means neither before it is said which.
    let found: Vec<&Run> = runs
        .iter()
        .filter(|r| by_prefix.iter().chain(&by_name).any(|f| f.metadata.guid == r.metadata.guid))
        .collect();
    match found.as_slice() {
        [] => Err(missing().into()),
        [one] => Ok(id(one)),
        several => {
            let named: Vec<String> = several.iter().take(NAMED).map(|r| id(r)).collect();
            let more = several.len().saturating_sub(NAMED);
            let tail = if more == 0 { String::new() } else { format!(" and {more} more") };
            let message = format!("`{text}` may be any of {}{tail}", named.join(", "));
            Err(Problem::new(Code::Ambiguous, message).hint("type more of the id").into())
        }
    }
}
