//! Slurm by slurmrestd, for a server that has neither Slurm's commands nor its key: HTTP with a token (JWT) from
//! a file, which whoever renews it writes anew. API v0.0.38 of Slurm 22.05, and v0.0.40 and later.
//!
//! Old ones have no call that tells a batch shell something: runners ask the server themselves.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::json;
use trainyard_api::Time;

use super::{
    commands::{judge, passed_variables},
    listing::{Job, Listed},
    rest_job::{self, Dialect},
    script::JobRequest,
    state::JobState,
    transport::{Transport, TransportError},
};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a listing in which nothing changed stands for the next: the daemon then sends nothing. The clocks of
/// this machine and of the controller may differ by less than the slack.
const STANDS: Duration = Duration::from_secs(20);
const SLACK: Duration = Duration::from_secs(10);
/// Versions of the API, by the last number of their name: those that were tried first, then what may come. A daemon
/// speaks three or four in a row.
const VERSIONS: [u32; 7] = [42, 41, 40, 43, 44, 45, 38];
/// Those before have another dialect.
const FIRST_NEW: u32 = 40;

/// Where slurmrestd is, and who asks: `[engine.slurm.rest]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestSettings {
    /// Its URL.
    pub url: String,
    /// The file that holds the token (JWT), read before each call.
    pub token_file: PathBuf,
    /// The user that the token is for.
    pub user: String,
}

/// slurmrestd.
pub(crate) struct Rest {
    settings: RestSettings,
    client: Client,
    /// The version that the daemon was found to speak; it may be renewed.
    version: Mutex<Option<u32>>,
    last: Mutex<Option<Listing>>,
}

#[derive(Clone)]
struct Listing {
    jobs: Vec<Listed>,
    at: Instant,
    asked: SystemTime,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    errors: Vec<ApiError>,
    job_id: Option<u64>,
    #[serde(default)]
    jobs: Vec<RestJob>,
    /// Of a listing: when something changed; 0: the daemon was asked for what changed since, and nothing did.
    last_update: Option<Count>,
}

impl Answer {
    fn is_unchanged(&self) -> bool {
        self.jobs.is_empty() && matches!(self.last_update, Some(Count::New { number: 0, .. }))
    }
}

/// A number, as either dialect writes it.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Count {
    Old(i64),
    New {
        set: bool,
        #[serde(default)]
        number: i64,
    },
}

impl Count {
    fn get(self) -> Option<i64> {
        match self {
            Self::Old(number) => Some(number),
            Self::New { set, number } => set.then_some(number),
        }
    }
}

/// A state, which the new dialect gives with what else is said of it.
#[derive(Deserialize)]
#[serde(untagged)]
enum States {
    Old(String),
    New(Vec<String>),
}

impl States {
    fn parse(&self) -> JobState {
        let words = match self {
            Self::Old(word) => std::slice::from_ref(word),
            Self::New(words) => words,
        };
        // `RUNNING, COMPLETING`: as a listing of `squeue`, whose word is the one that says more.
        let says =
            |w: &&String| matches!(w.as_str(), "COMPLETING" | "REQUEUED" | "REQUEUE_HOLD" | "CONFIGURING");
        let word = words.iter().find(says).or(words.first());
        JobState::parse(word.map_or("", String::as_str))
    }
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    error: String,
    #[serde(default)]
    description: String,
}

impl std::fmt::Display for ApiError {
    /// What was tried, and what Slurm says to it: a token that is no good shows in neither alone.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { error, description } = self;
        if description.is_empty() {
            write!(f, "slurmrestd: {error}")
        } else if description.contains(error) {
            write!(f, "slurmrestd: {description}")
        } else {
            write!(f, "slurmrestd: {description}: {error}")
        }
    }
}

/// Of what is said of a job, what is needed here.
#[derive(Deserialize)]
struct RestJob {
    job_id: u64,
    name: Option<String>,
    job_state: States,
    restart_cnt: Option<u32>,
    start_time: Option<Count>,
    batch_host: Option<String>,
    state_reason: Option<String>,
}

impl Rest {
    pub(crate) fn new(settings: RestSettings) -> Self {
        Self { settings, client: Client::new(), version: Mutex::default(), last: Mutex::default() }
    }

    /// Which version the daemon speaks, asked once.
    async fn version(&self) -> Result<u32, TransportError> {
        let known = *locked(&self.version);
        if let Some(version) = known {
            return Ok(version);
        }
        for version in VERSIONS {
            let ping = self.bare_request(Method::GET, &format!("v0.0.{version}/ping"))?;
            match ping.send().await.map_err(away)?.status() {
                StatusCode::NOT_FOUND => {}
                status if status.is_success() => {
                    *locked(&self.version) = Some(version);
                    return Ok(version);
                }
                status => return Err(TransportError::Unknown(format!("slurmrestd answers {status}"))),
            }
        }
        let known = VERSIONS.map(|v| format!("v0.0.{v}")).join(", ");
        Err(TransportError::Unknown(format!("slurmrestd speaks none of the versions {known} of its API")))
    }

    async fn dialect(&self) -> Result<Dialect, TransportError> {
        Ok(if self.version().await? < FIRST_NEW { Dialect::Old } else { Dialect::New })
    }

    async fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, TransportError> {
        self.bare_request(method, &format!("v0.0.{}/{path}", self.version().await?))
    }

    fn bare_request(&self, method: Method, path: &str) -> Result<RequestBuilder, TransportError> {
        let RestSettings { url, token_file, user } = &self.settings;
        let token = std::fs::read_to_string(token_file)
            .map_err(|e| TransportError::Unknown(format!("{}: {e}", token_file.display())))?;
        // As `scontrol token` prints it, or alone.
        let token = token.trim().trim_start_matches("SLURM_JWT=").to_owned();
        let url = format!("{}/slurm/{path}", url.trim_end_matches('/'));
        let request = self.client.request(method, url).timeout(PATIENCE);
        Ok(request.header("X-SLURM-USER-NAME", user).header("X-SLURM-USER-TOKEN", token))
    }

    /// Sends a request; `None`: nothing has changed.
    async fn send(&self, request: RequestBuilder) -> Result<Option<Answer>, TransportError> {
        let response = request.send().await.map_err(away)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(away)?;
        if bytes.is_empty() && (status.is_success() || status == StatusCode::NOT_MODIFIED) {
            return Ok(None);
        }
        let answer: Answer = serde_json::from_slice(&bytes).map_err(|e| {
            if status == StatusCode::NOT_FOUND {
                *locked(&self.version) = None;
            }
            let start: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            TransportError::Unknown(format!("slurmrestd answers {status}: {e}: {start}"))
        })?;
        match answer.errors.first() {
            // Some are only remarks about a job that there is.
            Some(error) if answer.job_id.is_none() => Err(judge("slurmrestd", &error.to_string())),
            // Whoever stands before it.
            None if !status.is_success() => {
                if status == StatusCode::NOT_FOUND {
                    *locked(&self.version) = None;
                }
                Err(TransportError::Unknown(format!("slurmrestd answers {status}")))
            }
            _ if answer.is_unchanged() => Ok(None),
            _ => Ok(Some(answer)),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl RestJob {
    fn listed(self) -> Listed {
        let start = self.start_time.and_then(Count::get).filter(|s| *s > 0);
        let start = start.map(|s| Time(s.saturating_mul(1000)).to_string());
        Listed {
            name: self.name.unwrap_or_default(),
            job: Job {
                id: self.job_id,
                state: self.job_state.parse(),
                restarts: self.restart_cnt.unwrap_or(0),
                start,
                node: self.batch_host.unwrap_or_default(),
                reason: self.state_reason.unwrap_or_default(),
            },
        }
    }
}

/// No answer came; the last cause says most.
fn away(error: reqwest::Error) -> TransportError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    TransportError::Unknown(format!("slurmrestd does not answer: {cause}"))
}

#[async_trait::async_trait]
impl Transport for Rest {
    async fn submit(&self, job: &JobRequest) -> Result<u64, TransportError> {
        let body = rest_job::body(self.dialect().await?, job, &passed_variables());
        let body = body.map_err(TransportError::Rejected)?;
        let answer = self.send(self.request(Method::POST, "job/submit").await?.json(&body)).await?;
        let id = answer.and_then(|a| a.job_id);
        id.ok_or_else(|| TransportError::Unknown("slurmrestd gave the job no number".to_owned()))
    }

    async fn list(&self) -> Result<Vec<Listed>, TransportError> {
        let (now, asked) = (Instant::now(), SystemTime::now());
        let last = locked(&self.last).clone();
        let mut request = self.request(Method::GET, "jobs").await?;
        if let Some(last) = last.as_ref().filter(|l| l.at.elapsed() < STANDS) {
            let since = last.asked.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SLACK);
            request = request.query(&[("update_time", since.as_secs())]);
        }
        match (self.send(request).await?, last) {
            (Some(answer), _) => {
                let jobs: Vec<Listed> = answer.jobs.into_iter().map(RestJob::listed).collect();
                *locked(&self.last) = Some(Listing { jobs: jobs.clone(), at: now, asked });
                Ok(jobs)
            }
            (None, Some(last)) => Ok(last.jobs),
            (None, None) => Ok(Vec::new()),
        }
    }

    async fn history(&self, _: &[String]) -> Result<Vec<Listed>, TransportError> {
        Ok(Vec::new())
    }

    async fn withdraw(&self, jobs: &[u64]) -> Result<(), TransportError> {
        if self.dialect().await? == Dialect::New {
            let jobs: Vec<String> = jobs.iter().map(u64::to_string).collect();
            let body = json!({ "jobs": jobs, "job_state": ["PENDING"] });
            return self.send(self.request(Method::DELETE, "jobs").await?.json(&body)).await.map(|_| ());
        }
        let mut result = Ok(());
        for job in jobs {
            // To delete one that has begun would kill it.
            let now = self.send(self.request(Method::GET, &format!("job/{job}")).await?).await?;
            let jobs = now.into_iter().flat_map(|a| a.jobs).map(RestJob::listed);
            if !jobs.into_iter().any(|l| l.job.state == JobState::Waiting) {
                continue;
            }
            let request = self.request(Method::DELETE, &format!("job/{job}")).await?;
            result = result.and(self.send(request).await.map(|_| ()));
        }
        result
    }

    async fn nudge(&self, _: &[u64]) -> Result<(), TransportError> {
        Ok(())
    }
}
