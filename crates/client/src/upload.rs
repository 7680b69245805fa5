//! Puts a definition's zip, streamed, with a meter for a progress bar.

use std::{path::Path, sync::Arc};

use futures::TryStreamExt;
use reqwest::{Body, Method};
use serde_json::Value;
use tokio_util::io::ReaderStream;
use trainyard_api::{Code, Problem};

use crate::{Client, Failed};

/// Told how many bytes have gone.
pub type Meter = Arc<dyn Fn(u64) + Send + Sync>;

impl Client {
    /// Puts the zip at `path` to the definition's `content_url`.
    pub async fn put_content(&self, content_url: &str, path: &Path, meter: Meter) -> Result<Value, Failed> {
        let unusable = |e: std::io::Error| Problem::new(Code::LocalFile, format!("{}: {e}", path.display()));
        let file = tokio::fs::File::open(path).await.map_err(unusable)?;
        let size = file.metadata().await.map_err(unusable)?.len();
        let stream =
            ReaderStream::with_capacity(file, 64 * 1024).inspect_ok(move |chunk| meter(chunk.len() as u64));
        let request = self.request(Method::PUT, content_url).header("content-length", size);
        let response = self.send(request.body(Body::wrap_stream(stream))).await?;
        let unread = |e: reqwest::Error| Problem::new(Code::Internal, e.without_url().to_string());
        Ok(response.json().await.map_err(unread)?)
    }
}
