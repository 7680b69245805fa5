//! Requests and their answers.

use std::sync::Arc;

use reqwest::{Method, RequestBuilder, Response};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::OnceCell;
use trainyard_api::{
    Code, Definition, ErrorBody, Instance, NewDefinition, NewModel, NewModelAsset, NewRun, Page, PatchOp,
    Problem, Results, Run, Secret, StoredAsset, StoredModel, Token,
};
use trainyard_transfer::Http;
use url::Url;

/// How a caller signs in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// With a token.
    Token(Secret),
    /// As the original's command line did: a token is fetched before the first request.
    Password {
        /// Name of the user.
        user: String,
        /// Its password, or one of its tokens.
        password: Secret,
    },
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
    auth: Auth,
    /// The token that a password has bought.
    bought: Arc<OnceCell<Secret>>,
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
        Ok(Self { http, base, auth, bought: Arc::default() })
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        // Links of the server are absolute; they keep our way to it.
        let path = path.find("/v3/").map_or(path, |at| &path[at..]);
        self.http.request(method, format!("{}{path}", self.url()))
    }

    /// Signs in with name and password; returns the token.
    pub async fn sign_in(&self) -> Result<Secret, Failed> {
        match &self.auth {
            Auth::Token(token) => Ok(token.clone()),
            Auth::Password { user, password } => {
                let request = self.request(Method::GET, "/v3/identity/token");
                let request = request.basic_auth(user, Some(password.expose()));
                let token: Token = read(self.send_as_it_is(request).await?).await?;
                Ok(token.token)
            }
        }
    }

    pub(crate) async fn token(&self) -> Result<&Secret, Failed> {
        match &self.auth {
            Auth::Token(token) => Ok(token),
            Auth::Password { .. } => self.bought.get_or_try_init(|| self.sign_in()).await,
        }
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Failed> {
        let token = self.token().await?.expose();
        self.send_as_it_is(request.bearer_auth(token)).await
    }

    async fn send_as_it_is(&self, request: RequestBuilder) -> Result<Response, Failed> {
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
        read(self.send(request).await?).await
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

    /// One definition.
    pub async fn definition(&self, id: &str) -> Result<Definition, Failed> {
        self.get(&format!("/v3/ml_assets/training_definitions/{id}")).await
    }

    /// Definitions, newest first: a page of at most `limit`, or the one that `next` leads to.
    pub async fn definitions(&self, limit: u32, next: Option<&str>) -> Result<Page<Definition>, Failed> {
        self.page("/v3/ml_assets/training_definitions", limit, next).await
    }

    async fn page<T: DeserializeOwned>(
        &self,
        path: &str,
        limit: u32,
        next: Option<&str>,
    ) -> Result<Page<T>, Failed> {
        match next {
            Some(url) => self.get(url).await,
            None => self.get(&format!("{path}?limit={limit}")).await,
        }
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
        self.page("/v3/models", limit, next).await
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

    /// Stored models, newest first: a page of at most `limit`, or the one that `next` leads to.
    pub async fn models(&self, limit: u32, next: Option<&str>) -> Result<Page<StoredModel>, Failed> {
        self.page("/v3/ml_assets/models", limit, next).await
    }

    /// Makes a model, without its archive.
    pub async fn create_model(&self, new: &NewModel) -> Result<StoredModel, Failed> {
        self.post(Method::POST, "/v3/ml_assets/models", new).await
    }

    /// Removes a stored model.
    pub async fn delete_model(&self, id: &str) -> Result<(), Failed> {
        self.send(self.request(Method::DELETE, &format!("/v3/ml_assets/models/{id}"))).await.map(|_| ())
    }

    /// A page of a run's results below `prefix`, behind the name `after`, with links.
    pub async fn results(&self, run: &str, prefix: &str, after: Option<&str>) -> Result<Results, Failed> {
        let request = self.request(Method::GET, &format!("/v3/models/{run}/results"));
        let request = request.query(&[("prefix", prefix)]);
        self.json(if let Some(after) = after { request.query(&[("after", after)]) } else { request }).await
    }

    /// Frameworks and compute configurations.
    pub async fn frameworks(&self) -> Result<Value, Failed> {
        self.get("/v3/models/frameworks").await
    }

    /// The instance, which names the caller.
    pub async fn instance(&self, id: &str) -> Result<Instance, Failed> {
        self.get(&format!("/v3/wml_instances/{id}")).await
    }
}

async fn read<T: DeserializeOwned>(response: Response) -> Result<T, Failed> {
    let unread = |e: reqwest::Error| {
        Problem::new(Code::Internal, format!("the server's answer cannot be read: {}", e.without_url()))
    };
    Ok(response.json().await.map_err(unread)?)
}

async fn refused(response: Response) -> Failed {
    let status = response.status();
    let text = response.text().await.unwrap_or_default();
    said(text.as_bytes()).unwrap_or_else(|| {
        Problem::new(Code::Internal, format!("the server answered {status}: {}", text.trim())).into()
    })
}

/// What the body of a refusal says; `None` where it is none of this API's.
pub(crate) fn said(body: &[u8]) -> Option<Failed> {
    let body: ErrorBody = serde_json::from_slice(body).ok()?;
    let problem = |e: trainyard_api::ErrorEntry| Problem {
        code: Code::parse(&e.code).unwrap_or(Code::Internal),
        message: e.message,
        hint: e.hint,
    };
    Some(Failed(body.errors.into_iter().map(problem).collect()))
}
