//! Pages of lists: `?limit=` from 1 to 1000, and `?start=` from the link of the page before.

use serde::Deserialize;
use trainyard_api::{Code, Link, Page};
use utoipa::IntoParams;

use crate::problem::{Answer, Refusal};

/// Entries of a page at most, and when nothing is asked for.
const MOST: u32 = 1000;

/// Query of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// Entries of the page at most: 1 to 1000, which is also what an absent one means.
    limit: Option<String>,
    /// Where the page begins: from the `next` link of the page before.
    start: Option<String>,
}

impl Paging {
    /// The number of entries asked for.
    pub(crate) fn limit(&self) -> Answer<u32> {
        match &self.limit {
            None => Ok(MOST),
            Some(text) => text.parse().ok().filter(|n| (1..=MOST).contains(n)).ok_or_else(|| {
                Refusal::new(
                    Code::Request,
                    format!("`limit` is `{text}`, and has to be a number from 1 to {MOST}"),
                )
            }),
        }
    }

    /// Entries before this number are asked for.
    pub(crate) fn before(&self) -> Answer<Option<i64>> {
        let parse = |text: &String| {
            text.parse().map_err(|_| {
                Refusal::new(Code::Request, format!("`start` is `{text}`, which is not from a `next` link"))
            })
        };
        self.start.as_ref().map(parse).transpose()
    }

    /// The page of `entries`, each with its number; one more than the limit was asked for. `query`
    /// is what was asked for besides, for the links.
    pub(crate) fn page<T>(&self, url: &str, query: &str, mut entries: Vec<(i64, T)>) -> Answer<Page<T>> {
        let limit = self.limit()?;
        let more = entries.len() > limit as usize;
        entries.truncate(limit as usize);
        let last = entries.last().map(|(number, _)| *number).filter(|_| more);
        Ok(Page {
            limit,
            first: Some(Link { url: format!("{url}?limit={limit}{query}") }),
            next: last.map(|n| Link { url: format!("{url}?limit={limit}{query}&start={n}") }),
            resources: entries.into_iter().map(|(_, entry)| entry).collect(),
        })
    }
}
