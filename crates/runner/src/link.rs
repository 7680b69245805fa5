//! The line to the server: claim, report, log, definition. Patient with a server that is away.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trainyard_api::{
    ErrorBody,
    runner::{Ack, Reported, Ticket, WorkOrder},
};
use trainyard_transfer::Http;
use url::Url;

use crate::Error;

/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(30);
/// First and longest pause between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// A server that is away this long is given up; until then the runner keeps what it has.
const GIVE_UP: Duration = Duration::from_hours(336);

/// One server, as this attempt speaks to it.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client,
    base: String,
    ticket: Ticket,
}

/// Why a request was not answered well.
pub(crate) enum LinkError {
    /// Try again later.
    Away(String),
    /// The attempt is over.
    Fenced(String),
}

impl Link {
    pub(crate) fn new(ticket: Ticket, http: &Http) -> Result<Self, Error> {
        let bad = |e: String| Error::Fenced(format!("the server's address cannot be used: {e}"));
        let url = Url::parse(&ticket.server).map_err(|e| bad(e.to_string()))?;
        let client = http.client(&url).map_err(|e| bad(e.to_string()))?;
        let server = ticket.server.trim_end_matches('/');
        let base = format!("{server}/runner/v1/runs/{}/attempts/{}", ticket.run, ticket.attempt);
        Ok(Self { client, base, ticket })
    }

    /// Fetches the work order; waits for a server that is away.
    pub(crate) async fn claim(&self) -> Result<WorkOrder, Error> {
        self.patiently(|| self.post("claim", &())).await
    }

    /// Sends events, once.
    pub(crate) async fn events(&self, events: &[Reported]) -> Result<Ack, LinkError> {
        self.post("events", &events).await
    }

    /// Sends log bytes that begin at `offset` of this attempt's log, once.
    pub(crate) async fn log(&self, offset: u64, bytes: Vec<u8>) -> Result<Ack, LinkError> {
        let url = format!("{}/log?offset={offset}", self.base);
        let request =
            self.client.post(url).bearer_auth(self.ticket.token.expose()).timeout(ANSWER).body(bytes);
        json(request.send().await).await
    }

    /// The zip of the definition, as a stream.
    pub(crate) async fn definition(&self) -> Result<Response, Error> {
        self.patiently(|| async {
            let url = format!("{}/definition", self.base);
            let request = self.client.get(url).bearer_auth(self.ticket.token.expose());
            checked(request.send().await).await
        })
        .await
    }

    async fn post<T: DeserializeOwned>(&self, verb: &str, body: &impl Serialize) -> Result<T, LinkError> {
        let url = format!("{}/{verb}", self.base);
        let request =
            self.client.post(url).bearer_auth(self.ticket.token.expose()).timeout(ANSWER).json(body);
        json(request.send().await).await
    }

    async fn patiently<T, F: Future<Output = Result<T, LinkError>>>(
        &self,
        mut work: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let mut pauses = Pauses::default();
        loop {
            match work().await {
                Ok(value) => return Ok(value),
                Err(LinkError::Fenced(why)) => return Err(Error::Fenced(why)),
                Err(LinkError::Away(why)) => pauses.rest(&why).await?,
            }
        }
    }
}

/// Growing pauses, up to the day when the server is given up.
pub(crate) struct Pauses {
    next: Duration,
    away_for: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: FIRST_PAUSE, away_for: Duration::ZERO }
    }
}

impl Pauses {
    pub(crate) async fn rest(&mut self, why: &str) -> Result<(), Error> {
        if self.away_for >= GIVE_UP {
            return Err(Error::Fenced(format!("the server has been away for two weeks: {why}")));
        }
        if self.next >= LONGEST_PAUSE && self.away_for < 2 * LONGEST_PAUSE {
            tracing::warn!(why, "the server is away; trying on");
        }
        tokio::time::sleep(self.next).await;
        self.away_for += self.next;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

async fn json<T: DeserializeOwned>(result: reqwest::Result<Response>) -> Result<T, LinkError> {
    let response = checked(result).await?;
    response.json().await.map_err(|e| LinkError::Away(e.without_url().to_string()))
}

async fn checked(result: reqwest::Result<Response>) -> Result<Response, LinkError> {
    let response = result.map_err(|e| LinkError::Away(e.without_url().to_string()))?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body: Option<ErrorBody> = response.json().await.ok();
    let message =
        body.and_then(|b| b.errors.into_iter().next()).map_or_else(|| status.to_string(), |e| e.message);
    // 401: the token is not known; 404: the run is gone; 409: another attempt took its place.
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND | StatusCode::CONFLICT => {
            Err(LinkError::Fenced(message))
        }
        _ => Err(LinkError::Away(message)),
    }
}
