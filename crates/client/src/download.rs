//! Fetches a stored model's archive into a file, whole or not at all.

use std::{io::Write, path::Path};

use futures::StreamExt;
use reqwest::Method;
use trainyard_api::{Code, Problem};

use crate::{Client, Failed, Meter};

impl Client {
    /// Fetches the archive of a stored model to `path`, which must not be there.
    pub async fn download_model(&self, id: &str, path: &Path, meter: Meter) -> Result<(), Failed> {
        let unusable = |e: std::io::Error| Problem::new(Code::LocalFile, format!("{}: {e}", path.display()));
        if path.exists() {
            return Err(unusable(std::io::ErrorKind::AlreadyExists.into()).into());
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let response = self.send(self.request(Method::GET, &format!("/v3/ml_assets/models/{id}/content")));
        let response = response.await?;
        let expected = response.content_length();
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(unusable)?;
        let mut body = response.bytes_stream();
        let mut size = 0;
        let broke = |why: String| {
            Problem::new(Code::ServerUnreachable, format!("the download broke off: {why}")).hint("try again")
        };
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|e| broke(e.without_url().to_string()))?;
            file.write_all(&chunk).map_err(unusable)?;
            size += chunk.len() as u64;
            meter(chunk.len() as u64);
        }
        if expected.is_some_and(|e| e != size) {
            return Err(broke(format!("{size} bytes came")).into());
        }
        file.persist_noclobber(path).map_err(|e| unusable(e.error))?;
        Ok(())
    }
}
