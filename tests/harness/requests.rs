//! Users of a yard's server, and requests to its API.

use std::{fs, path::PathBuf, time::Duration};

use serde_json::Value;

use super::{Yard, block_on, yard::Typed};

/// Longest wait for an answer of a server that may not give one.
const ANSWER: Duration = Duration::from_secs(2);

impl Yard {
    /// `trainyard users` for this server.
    pub fn users(&self, words: &[&str]) -> Typed {
        let mut all = vec!["users"];
        all.extend(words);
        self.command(&all)
    }

    /// Makes a user with a password.
    pub fn add_user(&self, name: &str, password: &str) {
        self.users(&["add", name]).input(&self.secret_file(password)).run().ok();
    }

    pub fn set_password(&self, name: &str, password: &str) {
        self.users(&["password", name]).input(&self.secret_file(password)).run().ok();
    }

    fn secret_file(&self, secret: &str) -> PathBuf {
        let path = self.dir.path().join("typed");
        fs::write(&path, format!("{secret}\n")).unwrap();
        path
    }

    /// A token for scripts of this user, which is made where there is none.
    pub fn token_of(&self, name: &str) -> String {
        self.users(&["token", name]).run().ok().trim().to_owned()
    }

    /// A token for a name and a password.
    pub fn sign_in(&self, name: &str, password: &str) -> String {
        let (status, answer) = self.basic("GET", "/v3/identity/token", name, password);
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// The administrator signed in with the token of the data folder.
    pub fn sign_in_with_token(&self) -> String {
        self.sign_in("admin", &self.admin_token())
    }

    /// A request with a name and a password; status and JSON body.
    pub fn basic(&self, method: &str, path: &str, name: &str, password: &str) -> (u16, Value) {
        self.send(method, path, |request| request.basic_auth(name, Some(password)))
    }

    /// The body of an answer that has to be good.
    pub fn text(&self, path: &str) -> String {
        block_on(async {
            let response = client().get(format!("{}{path}", self.url)).send().await.unwrap();
            assert!(response.status().is_success(), "{path}: {}", response.status());
            response.text().await.unwrap()
        })
    }

    /// An HTTP request with a token; status and JSON body.
    pub fn http(&self, method: &str, path: &str, token: Option<&str>, body: Option<Vec<u8>>) -> (u16, Value) {
        self.send(method, path, |mut request| {
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.body(body);
            }
            request
        })
    }

    /// The same of a server that may be dead, or stand still: `None` where no answer came in time.
    pub fn try_http(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Option<(u16, Value)> {
        Asker::of(self).ask(method, path, body)
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        with: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
    ) -> (u16, Value) {
        block_on(async {
            let request = client().request(method.parse().unwrap(), format!("{}{path}", self.url));
            let response = with(request).send().await.unwrap();
            let status = response.status().as_u16();
            let text = response.text().await.unwrap();
            (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
        })
    }
}

/// A client that goes straight to where it is told to.
fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}

/// Asks one server again and again, as the administrator.
pub struct Asker {
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Asker {
    pub fn of(yard: &Yard) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = runtime.block_on(async { client() });
        Self { runtime, client, url: yard.url.clone(), token: yard.admin_token() }
    }

    /// Status and JSON body; `None` where no answer came in time.
    pub fn ask(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Option<(u16, Value)> {
        self.block_on(async {
            let url = format!("{}{path}", self.url);
            let mut request = self.client.request(method.parse().unwrap(), url).timeout(ANSWER);
            request = request.bearer_auth(&self.token);
            if let Some(body) = body {
                request = request.body(body);
            }
            let response = request.send().await.ok()?;
            let status = response.status().as_u16();
            let text = response.text().await.ok()?;
            Some((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
        })
    }

    /// Waits for something on this one's runtime, which keeps connections.
    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }
}
