//! Requests and their answers.

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{Method, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use trainyard_api::{
    Code, Definition, ErrorBody, NewDefinition, NewModelAsset, NewRun, Page, PatchOp, Problem, Run, Secret,
    StoredAsset, StoredModel,
};
use trainyard_transfer::Http;
use url::Url;

/// How a caller signs in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// With a token.
    Token(Secret),
    /// As the original's command line did; the password is a token.
    Password {
        /// Free text.
        user: String,
        /// A token.
        password: Secret,
    },
}

impl Auth {
    pub(crate) fn header(&self) -> String {
        match self {
            Self::Token(token) => format!("Bearer {}", token.expose()),
            Self::Password { user, password } => {
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
            }
        }
    }
}

/// One or more problems.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
pub struct Failed(pub Vec<Problem>);

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl Failed {
    /// The code of the first problem.
    pub fn code(&self) -> Code {
        self.0.first().map_or(Code::Internal, |p| p.code)
    }
}

/// A client of one server. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub(crate) base: Url,
    pub(crate) auth: Auth,
}

impl Client {
    /// For the server at `url`.
    pub fn new(url: &str, auth: Auth) -> Result<Self, Failed> {
        let bad = |why: String| {
            Problem::new(Code::Configuration, format!("`{url}` is not the address of a server: {why}"))
        };
        let base = Url::parse(url.trim_end_matches('/')).map_err(|e| bad(e.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(bad("write http://host:port".to_owned()).into());
        }
        let http = Http::default().client(&base).map_err(|e| bad(e.to_string()))?;
        Ok(Self { http, base, auth })
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // Links of the server are absolute; they keep our way to it.
        let path = path.find("/v3/").map_or(path, |at| &path[at..]);
        let url = format!("{}{path}", self.url());
        self.http.request(method, url).header("authorization", self.auth.header())
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failed> {
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        if response.status().is_success() { Ok(response) } else { Err(refused(response).await) }
    }

    fn unreachable(&self, error: reqwest::Error) -> Failed {
        let error = error.without_url();
        let mut cause: &dyn std::error::Error = &error;
        while let Some(source) = cause.source() {
            cause = source;
        }
        Problem::new(Code::ServerUnreachable, format!("{} does not answer: {cause}", self.url()))
            .hint("start one with `trainyard server`, or name another with --server or TRAINYARD_SERVER")
            .into()
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failed> {
        let response = self.send(request).await?;
        let unread = |e: reqwest::Error| {
            Problem::new(Code::Internal, format!("the server's answer cannot be read: {}", e.without_url()))
        };
        Ok(response.json().await.map_err(unread)?)
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.json(self.request(Method::GET, path)).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, Failed> {
        self.json(self.request(method, path).json(body)).await
    }

    /// Makes a definition, without its zip.
    pub async fn create_definition(&self, new: &NewDefinition) -> Result<Definition, Failed> {
        self.post(Method::POST, "/v3/ml_assets/training_definitions", new).await
    }

    /// Removes a definition.
    pub async fn delete_definition(&self, id: &str) -> Result<(), Failed> {
        self.send(self.request(Method::DELETE, &format!("/v3/ml_assets/training_definitions/{id}")))
            .await
            .map(|_| ())
    }

    /// Submits a run.
    pub async fn submit(&self, new: &NewRun) -> Result<Run, Failed> {
        self.post(Method::POST, "/v3/models", new).await
    }

    /// One run.
    pub async fn run(&self, id: &str) -> Result<Run, Failed> {
        self.get(&format!("/v3/models/{id}")).await
    }

    /// Runs, newest first: a page of at most `limit`, or the one that `next` leads to.
    pub async fn runs(&self, limit: u32, next: Option<&str>) -> Result<Page<Run>, Failed> {
        match next {
            Some(url) => self.get(url).await,
            None => self.get(&format!("/v3/models?limit={limit}")).await,
        }
    }

    /// Runs whose id begins like this, newest first.
    pub async fn runs_by_id(&self, beginning: &str, limit: u32) -> Result<Vec<Run>, Failed> {
        let mut runs = self.sought("id", beginning, limit).await?;
        // A server that does not know the question answers with all runs.
        runs.retain(|r| r.metadata.guid.as_str().starts_with(beginning));
        Ok(runs)
    }

    /// Runs of this name, newest first.
    pub async fn runs_by_name(&self, name: &str, limit: u32) -> Result<Vec<Run>, Failed> {
        let mut runs = self.sought("name", name, limit).await?;
        runs.retain(|r| r.entity.model_definition.name == name);
        Ok(runs)
    }

    async fn sought(&self, key: &str, value: &str, limit: u32) -> Result<Vec<Run>, Failed> {
        let request = self.request(Method::GET, "/v3/models");
        let limit = limit.to_string();
        let page: Page<Run> = self.json(request.query(&[("limit", limit.as_str()), (key, value)])).await?;
        Ok(page.resources)
    }

    /// Asks for a cancel.
    pub async fn cancel(&self, id: &str) -> Result<(), Failed> {
        let operation =
            PatchOp { op: "replace".into(), path: "/status/state".into(), value: Value::from("canceled") };
        self.send(self.request(Method::PATCH, &format!("/v3/models/{id}")).json(&[operation]))
            .await
            .map(|_| ())
    }

    /// Removes a run's record.
    pub async fn delete(&self, id: &str) -> Result<(), Failed> {
        self.send(self.request(Method::DELETE, &format!("/v3/models/{id}"))).await.map(|_| ())
    }

    /// Has the server keep the model of a run.
    pub async fn store_model(&self, run: &str, asset: &NewModelAsset) -> Result<StoredAsset, Failed> {
        self.post(Method::PUT, &format!("/v3/models/{run}/ml_asset"), asset).await
    }

    /// One stored model.
    pub async fn model(&self, id: &str) -> Result<StoredModel, Failed> {
        self.get(&format!("/v3/ml_assets/models/{id}")).await
    }

    /// Frameworks and compute configurations.
    pub async fn frameworks(&self) -> Result<Value, Failed> {
        self.get("/v3/models/frameworks").await
    }

    /// The instance, which names the caller.
    pub async fn instance(&self, id: &str) -> Result<Value, Failed> {
        self.get(&format!("/v3/wml_instances/{id}")).await
    }
}

async fn refused(response: Response) -> Failed {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    let Ok(body) = serde_json::from_str::<ErrorBody>(&text) else {
        return Problem::new(Code::Internal, format!("the server answered {status}: {}", text.trim())).into();
    };
    let problem = |e: trainyard_api::ErrorEntry| Problem {
        code: Code::parse(&e.code).unwrap_or(Code::Internal),
        message: e.message,
        hint: e.hint,
    };
    Failed(body.errors.into_iter().map(problem).collect())
}
