//! Puts bytes and files: in one request or in parts, each with its MD5 for the store to check.

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{
    Method,
    header::{CONTENT_LENGTH, ETAG},
};
use rusty_s3::{S3Action as _, actions::CreateMultipartUpload};

use crate::{
    Bucket, Error,
    bucket::{broken, retrying},
    digest::content_md5,
    error::chain,
};

/// Files up to this size go in one request.
pub(crate) const SINGLE: u64 = 16 * 1024 * 1024;
/// Size of a part; grows for files that would need more parts than S3 allows.
const PART: u64 = 16 * 1024 * 1024;
const MAX_PARTS: u64 = 10_000;
/// Largest object of S3: 5 TiB.
const MAX_SIZE: u64 = 5 << 40;
/// Bytes of parts on the way at once: they are held in memory. One part goes in any case.
const PARTS_AT_ONCE: u64 = 48 * 1024 * 1024;

/// Key of an upload that is begun and given up, to see whether uploads are allowed.
/// It lies where those of runs do, for keys that may write there only.
const WRITE_CHECK: &str = "training-000000000/.write-check";

impl Bucket {
    /// Asks whether the keys may write to the bucket, once and quickly. Nothing is left there.
    pub async fn check_write(&self) -> Result<(), Error> {
        let what = self.what(None);
        let upload = self.begin_once(WRITE_CHECK, &what).await?;
        // On its own, so that nobody who stops waiting leaves the upload behind.
        let bucket = self.clone();
        tokio::spawn(async move {
            let action =
                bucket.bucket.abort_multipart_upload(Some(&bucket.credentials), WRITE_CHECK, &upload);
            if let Err(error) = bucket.act(Method::DELETE, action, &[], None, &what).await {
                tracing::warn!(%error, "a check of {what} left an empty upload behind");
            }
        });
        Ok(())
    }

    /// Puts `bytes` under `key`; returns the ETag.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<String, Error> {
        let headers = [("content-md5", content_md5(&bytes))];
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
        self.put_opened(key, &file, size).await
    }

    /// The same for a file that is open: its first `size` bytes.
    pub(crate) async fn put_opened(&self, key: &str, file: &File, size: u64) -> Result<(u64, String), Error> {
        let path = Path::new(key);
        if size > MAX_SIZE {
            let why = format!("it has {size} bytes, and an object has at most {MAX_SIZE}");
            return Err(Error::file(path, std::io::Error::new(std::io::ErrorKind::FileTooLarge, why)));
        }
        if size <= SINGLE {
            let bytes = read_up_to(file, 0, size).map_err(|e| Error::file(path, e))?;
            return Ok((bytes.len() as u64, self.put(key, bytes).await?));
        }
        let etag = self.put_parts(key, file, path, size).await?;
        Ok((size, etag))
    }

    async fn put_parts(&self, key: &str, file: &File, path: &Path, size: u64) -> Result<String, Error> {
        let what = self.what(Some(key));
        let upload = self.begin(key, &what).await?;
        let mut result = self.send_parts(key, &upload, file, path, size, &what).await;
        if matches!(&result, Err(Error::Answer { code, .. }) if code == "NoSuchUpload") {
            // The answer to an earlier try may have been lost after the store had done it.
            if let Ok(Some((there, etag))) = self.stat(key, &what).await
                && there == size
                && etag.contains('-')
            {
                result = Ok(etag);
            }
        }
        if result.is_err() {
            let action = self.bucket.abort_multipart_upload(Some(&self.credentials), key, &upload);
            if let Err(error) = self.act(Method::DELETE, action, &[], None, &what).await {
                tracing::warn!(%error, "cannot abort the upload of {what}");
            }
        }
        result
    }

    /// Size and ETag of an object; `None` where there is none.
    async fn stat(&self, key: &str, what: &str) -> Result<Option<(u64, String)>, Error> {
        let action = self.bucket.head_object(Some(&self.credentials), key);
        let response = match self.act(Method::HEAD, action, &[], None, what).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let length = response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok());
        Ok(length.map(|l| (l, etag(&response))))
    }

    async fn begin(&self, key: &str, what: &str) -> Result<String, Error> {
        retrying(|| self.begin_once(key, what)).await
    }

    async fn begin_once(&self, key: &str, what: &str) -> Result<String, Error> {
        let action = self.bucket.create_multipart_upload(Some(&self.credentials), key);
        let response = self.act(Method::POST, action, &[], None, what).await?;
        let text = response.text().await.map_err(|e| broken(what, &e))?;
        let answer = CreateMultipartUpload::parse_response(&text)
            .map_err(|e| Error::Unreadable { what: what.to_owned(), cause: chain(&e) })?;
        Ok(answer.upload_id().to_owned())
    }

    async fn send_parts(
        &self,
        key: &str,
        upload: &str,
        file: &File,
        path: &Path,
        size: u64,
        what: &str,
    ) -> Result<String, Error> {
        let part = PART.max(size.div_ceil(MAX_PARTS));
        let starts: Vec<u64> = (0..size).step_by(part as usize).collect();
        let etags: Vec<String> = stream::iter((1u16..).zip(starts))
            .map(|(number, start)| async move {
                let bytes =
                    read_up_to(file, start, part.min(size - start)).map_err(|e| Error::file(path, e))?;
                let headers = [("content-md5", content_md5(&bytes))];
                retrying(|| async {
                    let action = self.bucket.upload_part(Some(&self.credentials), key, number, upload);
                    let response =
                        self.act(Method::PUT, action, &headers, Some(bytes.clone().into()), what).await?;
                    Ok(etag(&response))
                })
                .await
            })
            .buffered((PARTS_AT_ONCE / part).max(1) as usize)
            .try_collect()
            .await?;
        retrying(|| async {
            let parts = etags.iter().map(String::as_str);
            let action = self.bucket.complete_multipart_upload(Some(&self.credentials), key, upload, parts);
            let url = action.sign(std::time::Duration::from_hours(1));
            let response = self.post(url, action.body(), what).await?;
            let text = response.text().await.map_err(|e| broken(what, &e))?;
            // S3 may say 200 first and put an error into the body later.
            let answer = rusty_s3::actions::CompleteMultipartUploadResponse::parse(&text)
                .map_err(|e| Error::Unreadable { what: what.to_owned(), cause: chain(&e) })?;
            Ok(answer.etag().trim_matches('"').to_owned())
        })
        .await
    }
}

fn etag(response: &reqwest::Response) -> String {
    let value = response.headers().get(ETAG).and_then(|v| v.to_str().ok()).unwrap_or("");
    value.trim_matches('"').to_owned()
}

/// Reads `length` bytes from `start`, or less where the file has become shorter.
fn read_up_to(file: &File, start: u64, length: u64) -> std::io::Result<Bytes> {
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
