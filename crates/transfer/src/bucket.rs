//! One bucket: the requests that staging needs, each signed, answered and retried alike.

use std::{sync::Arc, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use reqwest::{Body, Method, Response};
use rusty_s3::{
    Credentials, Map, S3Action, UrlStyle,
    actions::{ListObjectsV2, list_objects_v2::ListObjectsContent},
};
use trainyard_api::Connection;
use url::Url;

use crate::{Error, Http, endpoint, error::chain, normalize_endpoint};

/// How long a signature stays good: longer than any single request, retries are signed anew.
pub(crate) const VALID: Duration = Duration::from_hours(1);

/// Longest wait for an answer, and longest silence in the middle of one.
pub(crate) const SILENCE: Duration = Duration::from_mins(1);
/// Longest wait for the answer to a request with a body: 16 MiB at 30 KiB/s.
const ANSWER_TO_BODY: Duration = Duration::from_mins(10);
/// Bytes of an error that are read, characters of its message, and bytes of a page of a list.
const MOST_OF_ERROR: usize = 64 * 1024;
const MOST_OF_MESSAGE: usize = 500;
const MOST_OF_PAGE: usize = 16 << 20;
/// Objects of a list: it is held in memory, and a store may lie without end.
const MOST_OBJECTS: usize = 2_000_000;

/// Says before each change of a bucket why it may not be made now; `None`: it may.
pub type Guard = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A bucket of an object store. Clones share connections.
#[derive(Clone)]
pub struct Bucket {
    guard: Option<Guard>,
    client: reqwest::Client,
    pub(crate) bucket: rusty_s3::Bucket,
    pub(crate) credentials: Credentials,
    endpoint: String,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its whole key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Without quotes.
    pub etag: String,
}

/// Asks for checksums.
pub(crate) const CHECKSUM_MODE: (&str, &str) = ("x-amz-checksum-mode", "ENABLED");

/// Links to one object.
#[derive(Clone, Debug)]
pub struct Links {
    /// For GET, whole or in ranges.
    pub get: Url,
    /// For HEAD, with the header `x-amz-checksum-mode: ENABLED`.
    pub head: Url,
}

impl Bucket {
    /// The bucket `name` behind `connection`.
    pub fn new(http: &Http, connection: &Connection, name: &str) -> Result<Self, Error> {
        let url = normalize_endpoint(&connection.endpoint_url)?;
        let client = http.client(&url)?;
        let region = endpoint::region(&url);
        let endpoint = url.as_str().trim_end_matches('/').to_owned();
        let bucket = rusty_s3::Bucket::new(url, UrlStyle::Path, name.to_owned(), region)
            .map_err(|_| Error::BadEndpoint(connection.endpoint_url.clone()))?;
        let credentials = Credentials::new(
            connection.access_key_id.clone(),
            connection.secret_access_key.expose().to_owned(),
        );
        Ok(Self { guard: None, client, bucket, credentials, endpoint })
    }

    /// With a guard, which is asked before every try of every change.
    #[must_use]
    pub fn guarded(self, guard: Option<Guard>) -> Self {
        Self { guard, ..self }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.bucket.name()
    }

    /// The endpoint, without a slash at its end.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Asks whether the bucket is there and the keys may read it, once and quickly.
    pub async fn check(&self) -> Result<(), Error> {
        let mut list = self.bucket.list_objects_v2(Some(&self.credentials));
        list.with_max_keys(1);
        let url = list.sign(VALID);
        self.send(Method::GET, url, &Map::new(), None, &self.what(None)).await.map(|_| ())
    }

    /// Makes the bucket; one that is there already is fine.
    pub async fn create(&self) -> Result<(), Error> {
        let url = self.bucket.create_bucket(&self.credentials).sign(VALID);
        match self.send(Method::PUT, url, &Map::new(), None, &self.what(None)).await {
            Err(Error::Answer { code, .. }) if code.starts_with("BucketAlready") => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// All objects below `prefix`, in order of keys.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, Error> {
        let what = self.what(None);
        let mut objects = Vec::new();
        let mut token: Option<String> = None;
        loop {
            let page = || async {
                let mut list: ListObjectsV2<'_> = self.bucket.list_objects_v2(Some(&self.credentials));
                if !prefix.is_empty() {
                    list.with_prefix(prefix);
                }
                if let Some(token) = &token {
                    list.with_continuation_token(token.as_str());
                }
                let response = self.send(Method::GET, list.sign(VALID), &Map::new(), None, &what).await?;
                let text = read_page(response, &what).await?;
                ListObjectsV2::parse_response(&text)
                    .map_err(|e| Error::Unreadable { what: what.clone(), cause: chain(&e) })
            };
            let page = retrying(page).await?;
            if objects.len() > MOST_OBJECTS {
                let cause = format!("it lists more than {MOST_OBJECTS} objects");
                return Err(Error::Unreadable { what, cause });
            }
            objects.extend(page.contents.into_iter().map(object).filter(|o| o.key.starts_with(prefix)));
            match page.next_continuation_token {
                Some(next) if token.as_ref() == Some(&next) => {
                    let cause = "a list goes round in circles".to_owned();
                    return Err(Error::Unreadable { what, cause });
                }
                Some(next) => token = Some(next),
                None => return Ok(objects),
            }
        }
    }

    /// The first thousand objects below `prefix`, in order of keys, behind the key `after`; and whether
    /// there are more.
    pub async fn page(&self, prefix: &str, after: Option<&str>) -> Result<(Vec<Object>, bool), Error> {
        let what = self.what(None);
        let page = retrying(|| async {
            let mut list: ListObjectsV2<'_> = self.bucket.list_objects_v2(Some(&self.credentials));
            list.with_prefix(prefix);
            if let Some(after) = after {
                list.with_start_after(after);
            }
            let response = self.send(Method::GET, list.sign(VALID), &Map::new(), None, &what).await?;
            let text = read_page(response, &what).await?;
            ListObjectsV2::parse_response(&text)
                .map_err(|e| Error::Unreadable { what: what.clone(), cause: chain(&e) })
        })
        .await?;
        let objects = page.contents.into_iter().map(object).filter(|o| o.key.starts_with(prefix));
        Ok((objects.collect(), page.next_continuation_token.is_some()))
    }

    /// Links to one object, which whoever has them can follow without keys for the time `valid`.
    pub fn links(&self, key: &str, valid: Duration) -> Links {
        let get = self.bucket.get_object(Some(&self.credentials), key).sign(valid);
        let mut head = self.bucket.head_object(Some(&self.credentials), key);
        head.headers_mut().insert(CHECKSUM_MODE.0, CHECKSUM_MODE.1);
        Links { get, head: head.sign(valid) }
    }

    /// Deletes one object; a missing one is fine.
    pub async fn delete(&self, key: &str) -> Result<(), Error> {
        retrying(|| async {
            let url = self.bucket.delete_object(Some(&self.credentials), key).sign(VALID);
            self.send(Method::DELETE, url, &Map::new(), None, &self.what(Some(key))).await.map(|_| ())
        })
        .await
    }

    /// The whole of a small object.
    pub async fn get_bytes(&self, key: &str) -> Result<Bytes, Error> {
        retrying(|| async {
            let url = self.bucket.get_object(Some(&self.credentials), key).sign(VALID);
            let what = self.what(Some(key));
            let response = self.send(Method::GET, url, &Map::new(), None, &what).await?;
            response.bytes().await.map_err(|e| broken(&what, &e))
        })
        .await
    }

    /// `bucket` or `bucket/key`, as errors name it.
    pub(crate) fn what(&self, key: Option<&str>) -> String {
        match key {
            Some(key) => format!("{}/{key}", self.name()),
            None => format!("bucket {}", self.name()),
        }
    }

    /// Signs `action` with `headers` and sends it, once.
    pub(crate) async fn act<'a>(
        &self,
        method: Method,
        mut action: impl S3Action<'a>,
        headers: &[(&'static str, String)],
        body: Option<Body>,
        what: &str,
    ) -> Result<Response, Error> {
        for (name, value) in headers {
            action.headers_mut().insert(*name, value.clone());
        }
        let url = action.sign(VALID);
        let mut map = Map::new();
        for (name, value) in headers {
            map.insert(*name, value.clone());
        }
        self.send(method, url, &map, body, what).await
    }

    /// Posts `body` to a URL that is signed already.
    pub(crate) async fn post(&self, url: Url, body: String, what: &str) -> Result<Response, Error> {
        self.send(Method::POST, url, &Map::new(), Some(body.into()), what).await
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: Url,
        headers: &Map<'_>,
        body: Option<Body>,
        what: &str,
    ) -> Result<Response, Error> {
        let changes = !matches!(method, Method::GET | Method::HEAD);
        if let Some(why) = self.guard.as_ref().filter(|_| changes).and_then(|may| may()) {
            return Err(Error::Withheld { what: what.to_owned(), why });
        }
        send(&self.client, &self.endpoint, method, url, headers, body, what).await
    }
}

/// Sends a request to a URL that is signed already, once.
pub(crate) async fn send(
    client: &reqwest::Client,
    endpoint: &str,
    method: Method,
    url: Url,
    headers: &Map<'_>,
    body: Option<Body>,
    what: &str,
) -> Result<Response, Error> {
    let bodiless = matches!(method, Method::GET | Method::HEAD | Method::DELETE);
    let sends = body.is_some();
    let mut request = client.request(method, url);
    for (name, value) in headers.iter() {
        request = request.header(name, value);
    }
    request = match body {
        Some(body) => request.body(body),
        None if bodiless => request,
        None => request.body(""),
    };
    // The URL holds a signature: it never becomes part of a message.
    let limit = if sends { ANSWER_TO_BODY } else { SILENCE };
    let unreachable = |cause| Error::Unreachable { endpoint: endpoint.to_owned(), cause };
    let response = match tokio::time::timeout(limit, request.send()).await {
        Ok(sent) => sent.map_err(|e| unreachable(chain(&e.without_url())))?,
        Err(_) => return Err(unreachable(format!("no answer within {} s", limit.as_secs()))),
    };
    if response.status().is_success() { Ok(response) } else { Err(answer(response, what).await) }
}

fn object(entry: ListObjectsContent) -> Object {
    let etag = entry.etag.unwrap_or_default().trim_matches('"').to_owned();
    Object { key: entry.key, size: entry.size.unwrap_or(0), etag }
}

/// The connection broke while the body came.
pub(crate) fn broken(what: &str, error: &reqwest::Error) -> Error {
    Error::Broken {
        what: what.to_owned(),
        cause: chain(error).replace(error.url().map_or("", Url::as_str), ""),
    }
}

/// Reads S3's error out of an answer.
async fn answer(response: Response, what: &str) -> Error {
    let status = response.status();
    let text = read_up_to(response, MOST_OF_ERROR, what).await.unwrap_or_default();
    let code = between(&text, "<Code>", "</Code>")
        .unwrap_or_else(|| status.canonical_reason().unwrap_or("").replace(' ', ""));
    let message = between(&text, "<Message>", "</Message>").unwrap_or_default();
    // It goes into logs and answers, line by line.
    let tame = |text: String| -> String {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_OF_MESSAGE).collect()
    };
    let (code, message) = (tame(code), tame(message));
    Error::Answer { what: what.to_owned(), status: status.as_u16(), code, message }
}

/// The text of an answer that lists something or says what was done.
pub(crate) async fn read_page(response: Response, what: &str) -> Result<String, Error> {
    read_up_to(response, MOST_OF_PAGE, what).await
}

/// The text of an answer, which has to end before `most` bytes and must not stall.
async fn read_up_to(mut response: Response, most: usize, what: &str) -> Result<String, Error> {
    let mut bytes = Vec::new();
    loop {
        let stalled = |_| Error::Broken { what: what.to_owned(), cause: "the answer stalled".to_owned() };
        let chunk = tokio::time::timeout(SILENCE, response.chunk()).await.map_err(stalled)?;
        match chunk.map_err(|e| broken(what, &e))? {
            Some(chunk) => bytes.extend_from_slice(&chunk),
            None => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
        if bytes.len() > most {
            let cause = format!("it has more than {most} bytes");
            return Err(Error::Unreadable { what: what.to_owned(), cause });
        }
    }
}

/// Error bodies have two plain fields of interest; some stores send broken XML around them.
pub(crate) fn between(text: &str, open: &str, close: &str) -> Option<String> {
    let start = text.find(open)? + open.len();
    let end = text[start..].find(close)? + start;
    let plain = text[start..end]
        .replace("&quot;", "\"")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&");
    Some(plain)
}

/// Tries again, with growing pauses and jitter, where that may help.
pub(crate) async fn retrying<T, F: Future<Output = Result<T, Error>>>(
    work: impl FnMut() -> F,
) -> Result<T, Error> {
    let pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(10))
        .with_max_times(6)
        .with_jitter();
    work.retry(pauses)
        .when(Error::is_transient)
        .notify(|error, pause| tracing::warn!(%error, pause_ms = pause.as_millis(), "trying again"))
        .await
}
