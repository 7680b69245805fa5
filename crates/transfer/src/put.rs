//! Puts bytes and files, each with its MD5 for the store to check: small ones in one request, which may be sent
//! again; large ones in parts.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use md5::{Digest, Md5};
use reqwest::{Method, Response, header::ETAG};

use crate::{Bucket, Error, bucket::retrying, parts::Uploads};

/// Files up to this size go in one request.
pub(crate) const SINGLE: u64 = 16 * 1024 * 1024;
/// Largest object of S3: 5 TiB.
const MAX_SIZE: u64 = 5 << 40;

impl Bucket {
    /// Puts `bytes` under `key`; returns the ETag.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<String, Error> {
        let md5 = Md5::digest(&bytes);
        self.put_checked(key, bytes, &md5).await
    }

    /// The same for bytes whose MD5 is known.
    async fn put_checked(&self, key: &str, bytes: Bytes, md5: &[u8]) -> Result<String, Error> {
        let headers = [("content-md5", STANDARD.encode(md5))];
        let what = self.what(Some(key));
        let response = retrying(|| async {
            let action = self.bucket.put_object(Some(&self.credentials), key);
            self.act(Method::PUT, action, &headers, Some(bytes.clone().into()), &what).await
        })
        .await?;
        Ok(etag(&response))
    }

    /// Puts the file at `path` under `key`, as it is now: bytes that are appended meanwhile are
    /// not sent. Returns the number of bytes and the ETag.
    pub async fn put_file(&self, key: &str, path: &Path) -> Result<(u64, String), Error> {
        let failed = |e| Error::file(path, e);
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        self.put_opened(key, &file, size, &()).await
    }

    /// The same for a file that is open: its first `size` bytes.
    pub(crate) async fn put_opened(
        &self,
        key: &str,
        file: &File,
        size: u64,
        uploads: &impl Uploads,
    ) -> Result<(u64, String), Error> {
        let path = Path::new(key);
        if size > MAX_SIZE {
            let why = format!("it has {size} bytes, and an object has at most {MAX_SIZE}");
            return Err(Error::file(path, std::io::Error::new(std::io::ErrorKind::FileTooLarge, why)));
        }
        if size <= SINGLE {
            let bytes = read_up_to(file, 0, size).map_err(|e| Error::file(path, e))?;
            let md5 = Md5::digest(&bytes);
            uploads.storing(Some(&hex::encode(md5)));
            return Ok((bytes.len() as u64, self.put_checked(key, bytes, &md5).await?));
        }
        let etag = self.put_parts(key, file, size, uploads).await?;
        Ok((size, etag))
    }
}

/// The ETag of an answer, without quotes.
pub(crate) fn etag(response: &Response) -> String {
    let value = response.headers().get(ETAG).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.trim_matches('"').to_owned()
}

/// Reads `length` bytes from `start`, or less where the file has become shorter.
pub(crate) fn read_up_to(file: &File, start: u64, length: u64) -> std::io::Result<Bytes> {
    let mut buffer = vec![0; length as usize];
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], start + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    buffer.truncate(filled);
    Ok(Bytes::from(buffer))
}
