//! Where an object is fetched from: a bucket whose keys are known, or a link that needs none.

use reqwest::{Method, Response};
use rusty_s3::Map;

use crate::{
    Bucket, Error, Http, Links,
    bucket::{CHECKSUM_MODE, retrying, send},
};

/// Fetches objects.
#[expect(async_fn_in_trait, reason = "callers wait for it where they are")]
pub trait Origin {
    /// The object `key`, or a part of it, as `headers` ask for.
    async fn get(&self, key: &str, headers: &[(&'static str, String)]) -> Result<Response, Error>;
    /// Size and checksums of the object `key`.
    async fn head(&self, key: &str) -> Result<Response, Error>;
    /// The object as errors name it.
    fn what(&self, key: &str) -> String;
}

impl Origin for Bucket {
    async fn get(&self, key: &str, headers: &[(&'static str, String)]) -> Result<Response, Error> {
        let what = Origin::what(self, key);
        retrying(|| async {
            let action = self.bucket.get_object(Some(&self.credentials), key);
            self.act(Method::GET, action, headers, None, &what).await
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<Response, Error> {
        let what = Origin::what(self, key);
        let headers = [(CHECKSUM_MODE.0, CHECKSUM_MODE.1.to_owned())];
        retrying(|| async {
            let action = self.bucket.head_object(Some(&self.credentials), key);
            self.act(Method::HEAD, action, &headers, None, &what).await
        })
        .await
    }

    fn what(&self, key: &str) -> String {
        Bucket::what(self, Some(key))
    }
}

/// One object behind links.
pub struct Linked {
    client: reqwest::Client,
    links: Links,
    endpoint: String,
}

impl Linked {
    /// Behind these links.
    pub fn new(http: &Http, links: Links) -> Result<Self, Error> {
        let client = http.client(&links.get)?;
        let endpoint = links.get.origin().ascii_serialization();
        Ok(Self { client, links, endpoint })
    }

    async fn follow(
        &self,
        method: Method,
        key: &str,
        headers: &[(&'static str, String)],
    ) -> Result<Response, Error> {
        let mut map = Map::new();
        // What only the signature of the other link covers cannot be asked for here.
        for (name, value) in
            headers.iter().filter(|(name, _)| method == Method::HEAD || *name != CHECKSUM_MODE.0)
        {
            map.insert(*name, value.clone());
        }
        let url = if method == Method::HEAD { &self.links.head } else { &self.links.get };
        let what = self.what(key);
        retrying(|| send(&self.client, &self.endpoint, method.clone(), url.clone(), &map, None, &what)).await
    }
}

impl Origin for Linked {
    async fn get(&self, key: &str, headers: &[(&'static str, String)]) -> Result<Response, Error> {
        self.follow(Method::GET, key, headers).await
    }

    async fn head(&self, key: &str) -> Result<Response, Error> {
        self.follow(Method::HEAD, key, &[(CHECKSUM_MODE.0, CHECKSUM_MODE.1.to_owned())]).await
    }

    fn what(&self, key: &str) -> String {
        key.to_owned()
    }
}
