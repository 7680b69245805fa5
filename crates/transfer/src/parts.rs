//! Large files, in parts. Every step can be repeated or is found out: the answer to any of them can be lost,
//! and the store has done it all the same.

use std::{
    fs::File,
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use md5::{Digest, Md5};
use reqwest::Method;
use rusty_s3::{S3Action as _, actions::CreateMultipartUpload};
use trainyard_breakpoints::break_point;

use crate::{
    Bucket, Error,
    bucket::{VALID, between, read_page, retrying},
    digest::content_md5,
    error::chain,
    put::{SINGLE, etag, read_up_to},
    there::{GRAIN, There},
};

/// Size of a part; grows for files that would need more parts than S3 allows.
const PART: u64 = 16 * 1024 * 1024;
const MAX_PARTS: u64 = 10_000;
/// Bytes of parts on the way at once: they are held in memory. One part goes in any case.
const PARTS_AT_ONCE: u64 = 48 * 1024 * 1024;
/// How often an upload is begun anew that the store has forgotten.
const BEGINNINGS: u32 = 3;

/// Key of an upload that is never begun, to see whether uploads are allowed.
/// It lies where those of runs do, for keys that may write there only.
const WRITE_CHECK: &str = "training-000000000/.write-check";

/// Hears of uploads before the store does, so that whoever comes later can tell what is there by them, and can give
/// up what was left.
pub(crate) trait Uploads {
    /// From now on the store may have the object. `etag`: the one that it gets then in a store that computes it as
    /// Amazon does; absent while that is not known, and the store has no more than parts.
    fn storing(&self, etag: Option<&str>);
    /// One in parts was begun.
    fn began(&self, key: &str, id: &str);
    /// It was completed or given up.
    fn ended(&self, key: &str, id: &str);
}

impl Uploads for () {
    fn storing(&self, _: Option<&str>) {}
    fn began(&self, _: &str, _: &str) {}
    fn ended(&self, _: &str, _: &str) {}
}

/// An upload under way.
struct Upload<'a> {
    key: &'a str,
    what: String,
    id: String,
    begun: Instant,
}

fn part_size(size: u64) -> u64 {
    PART.max(size.div_ceil(MAX_PARTS))
}

impl Bucket {
    /// Asks whether the keys may write to the bucket, once and quickly. Nothing is begun: a part of an upload
    /// that there cannot be is refused by its name where writing is allowed, and by the keys where it is not.
    pub async fn check_write(&self) -> Result<(), Error> {
        let id = format!("{:032x}", 0);
        let action = self.bucket.upload_part(Some(&self.credentials), WRITE_CHECK, 1, &id);
        let headers = [("content-md5", content_md5(b""))];
        let body = Some(bytes::Bytes::new().into());
        match self.act(Method::PUT, action, &headers, body, &self.what(None)).await {
            // Stores that look at the form of an id first have no such argument.
            Err(Error::Answer { status: 400, code, .. }) if code == "InvalidArgument" => Ok(()),
            Err(Error::Answer { status: 404, code, .. }) if code != "NoSuchBucket" => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Puts the first `size` bytes of `file` under `key`; returns the ETag.
    pub(crate) async fn put_parts(
        &self,
        key: &str,
        file: &File,
        size: u64,
        uploads: &impl Uploads,
    ) -> Result<String, Error> {
        let what = self.what(Some(key));
        uploads.storing(None);
        let mut left = BEGINNINGS;
        loop {
            left -= 1;
            let begun = Instant::now();
            let (begin, answers_lost) = self.begin(key, &what).await;
            let id = begin?;
            uploads.began(key, &id);
            let upload = Upload { key, what: what.clone(), id, begun };
            let sent = self.send_parts(&upload, file, size, uploads).await;
            let over = match &sent {
                Ok(_) => Ok(()),
                Err(_) => self.give_up(key, &upload.id).await,
            };
            match over {
                Ok(()) => uploads.ended(key, &upload.id),
                Err(error) => tracing::warn!(%error, "an upload of {what} is left behind for now"),
            }
            if answers_lost && let Err(error) = self.give_up_unheard(key, begun.elapsed()).await {
                tracing::warn!(%error, "an upload of {what} may be left behind");
            }
            match sent {
                Err(error) if error.is_moved() && !error.is_no_bucket() && left > 0 => {
                    tracing::warn!(%error, "the upload is begun anew");
                }
                other => return other,
            }
        }
    }

    /// Gives up uploads of `key` that were begun within the last `time` and have no part: the store began
    /// them, and we did not hear of it. Whoever else stores under this key has parts on the way by then.
    pub(crate) async fn give_up_unheard(&self, key: &str, time: Duration) -> Result<(), Error> {
        for one in self.unfinished(key).await?.into_iter().filter(|u| u.key == key) {
            let is_of_then = one.age.is_some_and(|age| age <= time + GRAIN);
            if is_of_then && !self.has_parts(key, &one.id).await? {
                self.give_up(key, &one.id).await?;
            }
        }
        Ok(())
    }

    /// Begins an upload; says also whether the answer to an earlier try was lost.
    async fn begin(&self, key: &str, what: &str) -> (Result<String, Error>, bool) {
        let lost = AtomicBool::new(false);
        let begun = retrying(|| async {
            let begun = self.begin_once(key, what).await;
            if begun.is_err() {
                lost.store(true, Relaxed);
            }
            begun
        })
        .await;
        (begun, lost.load(Relaxed))
    }

    async fn begin_once(&self, key: &str, what: &str) -> Result<String, Error> {
        let action = self.bucket.create_multipart_upload(Some(&self.credentials), key);
        let response = self.act(Method::POST, action, &[], None, what).await?;
        let text = read_page(response, what).await?;
        let answer = CreateMultipartUpload::parse_response(&text)
            .map_err(|e| Error::Unreadable { what: what.to_owned(), cause: chain(&e) })?;
        Ok(answer.upload_id().to_owned())
    }

    async fn send_parts(
        &self,
        upload: &Upload<'_>,
        file: &File,
        size: u64,
        uploads: &impl Uploads,
    ) -> Result<String, Error> {
        let Upload { key, what, id, .. } = upload;
        let part = part_size(size);
        let starts: Vec<u64> = (0..size).step_by(part as usize).collect();
        let etags: Vec<String> = stream::iter((1u16..).zip(starts))
            .map(|(number, start)| async move {
                let bytes = read_up_to(file, start, part.min(size - start))
                    .map_err(|e| Error::file(Path::new(key), e))?;
                let headers = [("content-md5", content_md5(&bytes))];
                retrying(|| async {
                    let action = self.bucket.upload_part(Some(&self.credentials), key, number, id);
                    let body = Some(bytes.clone().into());
                    let response = self.act(Method::PUT, action, &headers, body, what).await?;
                    break_point("store:part");
                    Ok(etag(&response))
                })
                .await
            })
            .buffered((PARTS_AT_ONCE / part).max(1) as usize)
            .try_collect()
            .await?;
        uploads.storing(joined(&etags).as_deref());
        let completed = retrying(|| self.complete(upload, &etags)).await;
        match completed {
            Err(error) if error.is_transient() || error.is_moved() => {
                // The answer to this try or to an earlier one may have been lost after the store had done it.
                match self.stat(key).await? {
                    Some(there) if is_ours(&there, size, &etags, upload.begun.elapsed()) => Ok(there.etag),
                    _ => Err(error),
                }
            }
            other => other,
        }
    }

    async fn complete(&self, upload: &Upload<'_>, etags: &[String]) -> Result<String, Error> {
        let Upload { key, what, id, .. } = upload;
        let parts = etags.iter().map(String::as_str);
        let action = self.bucket.complete_multipart_upload(Some(&self.credentials), key, id, parts);
        let url = action.sign(VALID);
        let response = self.post(url, action.body(), what).await?;
        break_point("store:completed");
        let text = read_page(response, what).await?;
        // S3 may say 200 first and put an error into the body later.
        if let Some(code) = between(&text, "<Code>", "</Code>").filter(|_| text.contains("<Error>")) {
            let message = between(&text, "<Message>", "</Message>").unwrap_or_default();
            return Err(Error::Answer { what: what.clone(), status: 200, code, message });
        }
        // What breaks off is an answer that was lost.
        let answer = rusty_s3::actions::CompleteMultipartUploadResponse::parse(&text)
            .map_err(|e| Error::Broken { what: what.clone(), cause: chain(&e) })?;
        Ok(answer.etag().trim_matches('"').to_owned())
    }
}

/// Whether what is there is what these parts came to, and not what was there before or what another stored.
/// `since`: how long ago the upload was begun.
fn is_ours(there: &There, size: u64, etags: &[String], since: Duration) -> bool {
    if there.size != size {
        return false;
    }
    match joined(etags) {
        Some(expected) if there.etag == expected => true,
        // Not every store computes it as Amazon does; all of them mark what came in parts.
        _ => there.etag.contains('-') && there.age.is_some_and(|age| age <= since + GRAIN),
    }
}

/// The ETag of an object of parts with these ETags, where they are MD5s.
fn joined(etags: &[String]) -> Option<String> {
    let mut all = Md5::new();
    for etag in etags {
        all.update(hex::decode(etag).ok().filter(|md5| md5.len() == 16)?);
    }
    Some(format!("{}-{}", hex::encode(all.finalize()), etags.len()))
}

/// The ETag that the first `size` bytes of `file` have in a store that computes it as Amazon does, when this
/// program has stored them.
pub(crate) fn etag_of(file: &File, size: u64) -> std::io::Result<String> {
    if size <= SINGLE {
        return Ok(hex::encode(Md5::digest(read_up_to(file, 0, size)?)));
    }
    let part = part_size(size);
    let mut etags = Vec::new();
    for start in (0..size).step_by(part as usize) {
        etags.push(hex::encode(Md5::digest(read_up_to(file, start, part.min(size - start))?)));
    }
    Ok(joined(&etags).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_before_is_not_taken_for_what_was_sent() {
        let etags = [hex::encode(Md5::digest("a")), hex::encode(Md5::digest("b"))];
        let ours = joined(&etags).unwrap();
        let there = |etag: &str, age| There { size: 9, etag: etag.to_owned(), age };
        let (minute, hour) = (Duration::from_mins(1), Duration::from_hours(1));
        assert!(is_ours(&there(&ours, None), 9, &etags, minute));
        assert!(!is_ours(&there(&ours, None), 8, &etags, minute));
        // A store with ETags of its own.
        assert!(is_ours(&there("x-2", Some(minute)), 9, &etags, minute));
        assert!(!is_ours(&there("x-2", Some(hour)), 9, &etags, minute));
        assert!(!is_ours(&there("x-2", None), 9, &etags, minute));
        assert!(!is_ours(&there("x", Some(minute)), 9, &etags, minute));
    }
}
