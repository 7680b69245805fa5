//! The line to the server: claim, report, log, definition. Patient with a server that is away, and
//! finds it again where it comes back under another address.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use trainyard_api::{
    ErrorBody, Secret,
    runner::{Ack, Boarded, Boarding, LEARNER_HEADER, Reported, SERVER_HEADER, Team, Ticket, WorkOrder},
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

/// A node whose munge is away this long has none.
const WITHOUT_MUNGE: Duration = Duration::from_mins(5);

/// One server, as this attempt speaks to it.
#[derive(Clone)]
pub(crate) struct Link {
    client: Client,
    /// Where the server was last heard of.
    server: Arc<RwLock<String>>,
    ticket: Arc<Ticket>,
}

/// What a server writes about where it is.
#[derive(Deserialize)]
struct Address {
    runner_url: String,
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
        let server = Arc::new(RwLock::new(ticket.server.clone()));
        Ok(Self { client, server, ticket: Arc::new(ticket) })
    }

    fn url(&self, path: &str) -> String {
        let server = self.server.read().unwrap_or_else(PoisonError::into_inner);
        let Ticket { run, attempt, .. } = &*self.ticket;
        format!("{}/runner/v1/runs/{run}/attempts/{attempt}/{path}", server.trim_end_matches('/'))
    }

    /// Whether it was our server that answered. One that has its address by now knows nothing of this
    /// attempt, and must not end it.
    fn is_server(&self, response: &Response) -> bool {
        let id = response.headers().get(SERVER_HEADER).map_or(&b""[..], |v| v.as_bytes());
        self.ticket.server_id.as_bytes() == id
    }

    /// Whether the server has written another address down since, which is taken from here on.
    fn has_moved(&self) -> bool {
        let text = self.ticket.address_file.as_ref().and_then(|f| std::fs::read(f).ok());
        let address = text.and_then(|t| serde_json::from_slice::<Address>(&t).ok());
        let Some(Address { runner_url }) = address else { return false };
        let mut server = self.server.write().unwrap_or_else(PoisonError::into_inner);
        if *server == runner_url {
            return false;
        }
        tracing::info!(at = runner_url, "the server has moved");
        *server = runner_url;
        true
    }

    /// Sends a request with the attempt's token, once.
    async fn send(&self, request: RequestBuilder) -> Result<Response, LinkError> {
        self.send_with(&self.ticket.token, request).await
    }

    async fn send_with(&self, token: &Secret, mut request: RequestBuilder) -> Result<Response, LinkError> {
        if self.ticket.learner > 1 {
            request = request.header(LEARNER_HEADER, self.ticket.learner);
        }
        let answer = match request.bearer_auth(token.expose()).send().await {
            Ok(response) if !self.is_server(&response) => {
                Err(LinkError::Away("another server has its address".to_owned()))
            }
            Ok(response) => checked(response).await,
            Err(error) => Err(LinkError::Away(error.without_url().to_string())),
        };
        answer.map_err(
            |e| if self.has_moved() { LinkError::Away("the server has moved".to_owned()) } else { e },
        )
    }

    /// Asks for a ticket of job `job` with what `prove` gives; waits for a server that is away, and for a munge that
    /// is. One that cannot be run is an error.
    pub(crate) async fn board(
        &self,
        job: u32,
        boarding: &Boarding,
        prove: impl AsyncFn() -> Result<Secret, trainyard_munge::Error>,
    ) -> Result<Boarded, Error> {
        let begun = Instant::now();
        self.patiently(|| async {
            let token = match prove().await {
                Ok(token) => token,
                Err(error)
                    if matches!(error, trainyard_munge::Error::Command(..))
                        || begun.elapsed() > WITHOUT_MUNGE =>
                {
                    return Ok(Err(Error::Munge(error)));
                }
                Err(error) => return Err(LinkError::Away(format!("munge: {error}"))),
            };
            let server = self.server.read().unwrap_or_else(PoisonError::into_inner).clone();
            let run = &self.ticket.run;
            let url = format!("{}/runner/v1/runs/{run}/jobs/{job}/board", server.trim_end_matches('/'));
            let request = self.client.post(url).timeout(ANSWER).json(boarding);
            json(self.send_with(&token, request).await?).await.map(Ok)
        })
        .await?
    }

    /// Whether this is the first learner, whose metrics are the run's.
    pub(crate) fn is_first(&self) -> bool {
        self.ticket.learner == 1
    }

    /// Host and port of the server.
    pub(crate) fn host(&self) -> (String, u16) {
        let server = self.server.read().unwrap_or_else(PoisonError::into_inner);
        let url = Url::parse(&server).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or("localhost");
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        (host, url.as_ref().and_then(Url::port_or_known_default).unwrap_or(80))
    }

    /// Where the learners are, once all are ready; `None`: not yet.
    pub(crate) async fn team(&self) -> Result<Option<Team>, Error> {
        self.patiently(|| async {
            json(self.send(self.client.get(self.url("team")).timeout(ANSWER)).await?).await
        })
        .await
    }

    /// Waits for something to do, for a while.
    pub(crate) async fn news(&self) -> Result<Ack, LinkError> {
        json(self.send(self.client.get(self.url("news")).timeout(ANSWER)).await?).await
    }

    /// What earlier attempts have logged, from `offset` on: a piece, and nothing at the end.
    pub(crate) async fn earlier_log(&self, offset: u64) -> Result<Vec<u8>, Error> {
        self.patiently(|| async {
            let url = self.url(&format!("log?offset={offset}"));
            let answer = self.send(self.client.get(url).timeout(ANSWER)).await?;
            let bytes = answer.bytes().await.map_err(|e| LinkError::Away(e.without_url().to_string()))?;
            Ok(bytes.to_vec())
        })
        .await
    }

    /// Fetches the work order; waits for a server that is away.
    pub(crate) async fn claim(&self) -> Result<WorkOrder, Error> {
        self.patiently(|| self.post("claim", &())).await
    }

    /// Sends events, once.
    pub(crate) async fn events(&self, events: &[Reported]) -> Result<Ack, LinkError> {
        self.post("events", &events).await
    }

    /// Sends bytes of the log, or of the metrics, that begin at `offset` of this attempt's, once.
    pub(crate) async fn bytes(&self, what: &str, offset: u64, bytes: Vec<u8>) -> Result<Ack, LinkError> {
        let url = self.url(&format!("{what}?offset={offset}"));
        json(self.send(self.client.post(url).timeout(ANSWER).body(bytes)).await?).await
    }

    /// The zip of the definition, as a stream.
    pub(crate) async fn definition(&self) -> Result<Response, Error> {
        self.patiently(|| self.send(self.client.get(self.url("definition")))).await
    }

    async fn post<T: DeserializeOwned>(&self, verb: &str, body: &impl Serialize) -> Result<T, LinkError> {
        json(self.send(self.client.post(self.url(verb)).timeout(ANSWER).json(body)).await?).await
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

async fn json<T: DeserializeOwned>(response: Response) -> Result<T, LinkError> {
    response.json().await.map_err(|e| LinkError::Away(e.without_url().to_string()))
}

async fn checked(response: Response) -> Result<Response, LinkError> {
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
