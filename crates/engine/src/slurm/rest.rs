//! Slurm by slurmrestd, for a server that has neither Slurm's commands nor its key: HTTP with a token (JWT) from
//! a file, which whoever renews it writes anew. API v0.0.38, of Slurm 22.05.
//!
//! It has no call that tells a batch shell something: runners ask the server themselves.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use trainyard_api::Time;

use super::{
    commands::{judge, passed_variables},
    listing::{Job, Listed},
    rest_job,
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
/// The version of the API in paths.
const VERSION: &str = "v0.0.38";

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
    job_state: String,
    restart_cnt: Option<u32>,
    start_time: Option<i64>,
    batch_host: Option<String>,
    state_reason: Option<String>,
}

impl Rest {
    pub(crate) fn new(settings: RestSettings) -> Self {
        Self { settings, client: Client::new(), last: Mutex::default() }
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, TransportError> {
        let RestSettings { url, token_file, user } = &self.settings;
        let token = std::fs::read_to_string(token_file)
            .map_err(|e| TransportError::Unknown(format!("{}: {e}", token_file.display())))?;
        // As `scontrol token` prints it, or alone.
        let token = token.trim().trim_start_matches("SLURM_JWT=").to_owned();
        let url = format!("{}/slurm/{VERSION}/{path}", url.trim_end_matches('/'));
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
            let start: String = String::from_utf8_lossy(&bytes).chars().take(200).collect();
            TransportError::Unknown(format!("slurmrestd answers {status}: {e}: {start}"))
        })?;
        match answer.errors.first() {
            // Some are only remarks about a job that there is.
            Some(error) if answer.job_id.is_none() => Err(judge("slurmrestd", &error.to_string())),
            _ => Ok(Some(answer)),
        }
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Listing>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RestJob {
    fn listed(self) -> Listed {
        let start = self.start_time.filter(|s| *s > 0).map(|s| Time(s.saturating_mul(1000)).to_string());
        Listed {
            name: self.name.unwrap_or_default(),
            job: Job {
                id: self.job_id,
                state: JobState::parse(&self.job_state),
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
        let body = rest_job::body(job, &passed_variables()).map_err(TransportError::Rejected)?;
        let answer = self.send(self.request(Method::POST, "job/submit")?.json(&body)).await?;
        let id = answer.and_then(|a| a.job_id);
        id.ok_or_else(|| TransportError::Unknown("slurmrestd gave the job no number".to_owned()))
    }

    async fn list(&self) -> Result<Vec<Listed>, TransportError> {
        let (now, asked) = (Instant::now(), SystemTime::now());
        let last = self.last().clone();
        let mut request = self.request(Method::GET, "jobs")?;
        if let Some(last) = last.as_ref().filter(|l| l.at.elapsed() < STANDS) {
            let since = last.asked.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SLACK);
            request = request.query(&[("update_time", since.as_secs())]);
        }
        match (self.send(request).await?, last) {
            (Some(answer), _) => {
                let jobs: Vec<Listed> = answer.jobs.into_iter().map(RestJob::listed).collect();
                *self.last() = Some(Listing { jobs: jobs.clone(), at: now, asked });
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
        let mut result = Ok(());
        for job in jobs {
            // To delete one that has begun would kill it.
            let now = self.send(self.request(Method::GET, &format!("job/{job}"))?).await?;
            let jobs = now.into_iter().flat_map(|a| a.jobs).map(RestJob::listed);
            if !jobs.into_iter().any(|l| l.job.state == JobState::Waiting) {
                continue;
            }
            let request = self.request(Method::DELETE, &format!("job/{job}"))?;
            result = result.and(self.send(request).await.map(|_| ()));
        }
        result
    }

    async fn nudge(&self, _: &[u64]) -> Result<(), TransportError> {
        Ok(())
    }
}
