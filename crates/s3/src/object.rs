//! Single objects: put, get, head, delete.
#![expect(
    clippy::unused_async,
    reason = "operations of one trait: those that only ask the index do not wait"
)]

use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result, dto::*};
use trainyard_sqlite::rusqlite::Connection;

use crate::{
    EmbeddedStore,
    blob::{self, Received},
    checksum::{Digests, say_checksums, sent},
    conditions::Conditions,
    error::{Failure, no_such_key},
    index::{self, Content, Headers, Object, Segment},
    service::{now, timestamp},
};

/// Tries to read an object that is replaced between the look-up and the opening of its files.
const READ_TRIES: usize = 5;

/// Keys of one batch, as S3 has it.
const MOST_DELETED: usize = 1000;

impl EmbeddedStore {
    pub(crate) async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let trailer = header(&request.headers, "x-amz-trailer");
        let trailers = request.trailing_headers;
        let input = request.input;
        // Before the body, so that a large upload into nowhere is not taken in.
        self.ask(|c| index::require_bucket(c, &input.bucket))?;
        let digests = Digests::new(sent!(input, trailer));
        let received =
            blob::receive(&self.folder, input.body, input.content_length, digests, trailers.as_ref(), false)
                .await?;
        let headers = Headers {
            content_type: input.content_type,
            content_encoding: without_chunking(input.content_encoding),
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            expires: None,
            metadata: input.metadata.map(|m| m.into_iter().collect()).unwrap_or_default(),
            checksums: received.verified.checksums.clone(),
        };
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            ..Conditions::default()
        };
        let checksums = received.verified.checksums.clone();
        let etag = self.store(input.bucket, input.key, headers, received, conditions).await?;
        let mut output = PutObjectOutput { e_tag: Some(ETag::Strong(etag)), ..PutObjectOutput::default() };
        say_checksums!(output, checksums);
        Ok(S3Response::new(output))
    }

    /// Makes what was received visible under `key`; returns its ETag.
    pub(crate) async fn store(
        &self,
        bucket: String,
        key: String,
        headers: Headers,
        received: Received,
        conditions: Conditions,
    ) -> S3Result<String> {
        let etag = received.verified.etag;
        let object = Object {
            key,
            etag: etag.clone(),
            size: received.size,
            modified: now(),
            inline: None,
            segments: Vec::new(),
            headers,
        };
        let ours = match &received.content {
            Content::Segments(segments) => segments.clone(),
            Content::Inline(_) => Vec::new(),
        };
        let content = received.content;
        let freed = self
            .change(move |c| {
                let present = index::find(c, &bucket, &object.key)?;
                conditions.check_write(present.as_ref())?;
                index::replace(c, &bucket, &object, content)
            })
            .await;
        match freed {
            Ok(freed) => self.discard(freed),
            Err(error) => {
                self.discard(ours);
                return Err(error);
            }
        }
        Ok(etag)
    }

    /// Removes freed files without keeping the caller waiting.
    pub(crate) fn discard(&self, segments: Vec<Segment>) {
        if !segments.is_empty() {
            let folder = self.folder.clone();
            tokio::task::spawn_blocking(move || folder.discard(&segments));
        }
    }

    pub(crate) async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        for _ in 0..READ_TRIES {
            let (object, inline) = self.ask(|c| find_with_bytes(c, &input.bucket, &input.key))?;
            conditions.check_read(&object)?;
            let (range, partial) = match &input.range {
                None => (0..object.size, false),
                Some(range) => (range.check(object.size)?, true),
            };
            let length = range.end - range.start;
            let content_range = partial
                .then(|| format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), object.size));
            let body = match inline {
                Some(bytes) => Some(blob::read_inline(bytes, range)),
                None => blob::read(&self.folder, object.segments.clone(), range).await?,
            };
            // Replaced since we asked: look again.
            let Some(body) = body else { continue };
            let checksums = input.checksum_mode.is_some() && !partial;
            let head = describe(&object, checksums);
            return Ok(S3Response::new(GetObjectOutput {
                accept_ranges: Some("bytes".to_owned()),
                body: Some(body),
                cache_control: input.response_cache_control.or(head.cache_control),
                checksum_crc32: head.checksum_crc32,
                checksum_crc32c: head.checksum_crc32c,
                checksum_crc64nvme: head.checksum_crc64nvme,
                checksum_sha1: head.checksum_sha1,
                checksum_sha256: head.checksum_sha256,
                content_disposition: input.response_content_disposition.or(head.content_disposition),
                content_encoding: input.response_content_encoding.or(head.content_encoding),
                content_language: input.response_content_language.or(head.content_language),
                content_length: Some(length as i64),
                content_range,
                content_type: input.response_content_type.or(head.content_type),
                e_tag: head.e_tag,
                last_modified: head.last_modified,
                metadata: head.metadata,
                ..GetObjectOutput::default()
            }));
        }
        Err(S3Error::with_message(S3ErrorCode::SlowDown, "the object is being replaced again and again"))
    }

    pub(crate) async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let object = self.ask(|c| find(c, &input.bucket, &input.key))?;
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            if_modified_since: input.if_modified_since,
            if_unmodified_since: input.if_unmodified_since,
        };
        conditions.check_read(&object)?;
        let mut output = describe(&object, input.checksum_mode.is_some());
        if let Some(range) = &input.range {
            let range = range.check(object.size)?;
            output.content_length = Some((range.end - range.start) as i64);
            output.content_range =
                Some(format!("bytes {}-{}/{}", range.start, range.end.saturating_sub(1), object.size));
        }
        Ok(S3Response::new(output))
    }

    pub(crate) async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = request.input;
        let conditions = Conditions { if_match: input.if_match, ..Conditions::default() };
        let freed = self
            .change(move |c| {
                let present = index::find(c, &input.bucket, &input.key)?;
                conditions.check_write(present.as_ref())?;
                index::remove(c, &input.bucket, &input.key)
            })
            .await?;
        self.discard(freed);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    pub(crate) async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let DeleteObjectsInput { bucket, delete, .. } = request.input;
        if delete.objects.len() > MOST_DELETED {
            return Err(S3Error::with_message(
                S3ErrorCode::MalformedXML,
                "at most 1000 keys are deleted at once",
            ));
        }
        let quiet = delete.quiet.unwrap_or(false);
        let keys: Vec<String> = delete.objects.into_iter().map(|o| o.key).collect();
        let gone = keys.clone();
        let freed = self
            .change(move |c| {
                index::require_bucket(c, &bucket)?;
                let mut freed = Vec::new();
                for key in &keys {
                    freed.extend(index::remove(c, &bucket, key)?);
                }
                Ok(freed)
            })
            .await?;
        self.discard(freed);
        let deleted = |key| DeletedObject { key: Some(key), ..DeletedObject::default() };
        let deleted = (!quiet).then(|| gone.into_iter().map(deleted).collect());
        Ok(S3Response::new(DeleteObjectsOutput { deleted, ..DeleteObjectsOutput::default() }))
    }
}

pub(crate) fn header(headers: &hyper::HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

pub(crate) fn find(c: &Connection, bucket: &str, key: &str) -> Result<Object, Failure> {
    index::find(c, bucket, key)?.ok_or_else(|| no_such_key(key).into())
}

/// The object, and its bytes where they lie in the index. One query after the other inside one
/// read transaction, so that both are of the same version.
pub(crate) fn find_with_bytes(
    c: &Connection,
    bucket: &str,
    key: &str,
) -> Result<(Object, Option<Vec<u8>>), Failure> {
    let transaction = c.unchecked_transaction()?;
    let object = find(&transaction, bucket, key)?;
    let bytes = match object.inline {
        Some(id) => index::inline_bytes(&transaction, id)?,
        None if object.segments.is_empty() => Some(Vec::new()),
        None => None,
    };
    Ok((object, bytes))
}

/// What GET and HEAD say about an object.
fn describe(object: &Object, checksums: bool) -> HeadObjectOutput {
    let headers = object.headers.clone();
    let metadata = (!headers.metadata.is_empty()).then(|| headers.metadata.into_iter().collect());
    let mut output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        cache_control: headers.cache_control,
        content_disposition: headers.content_disposition,
        content_encoding: headers.content_encoding,
        content_language: headers.content_language,
        content_length: Some(object.size as i64),
        content_type: headers.content_type.or(Some("binary/octet-stream".to_owned())),
        e_tag: Some(ETag::Strong(object.etag.clone())),
        last_modified: Some(timestamp(object.modified)),
        metadata,
        ..HeadObjectOutput::default()
    };
    if checksums {
        output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        say_checksums!(output, headers.checksums);
    }
    output
}

/// `aws-chunked` is how the body travelled, and no property of the object.
fn without_chunking(encoding: Option<String>) -> Option<String> {
    let kept: Vec<String> = encoding?
        .split(',')
        .map(|e| e.trim().to_owned())
        .filter(|e| e != "aws-chunked" && !e.is_empty())
        .collect();
    if kept.is_empty() { None } else { Some(kept.join(",")) }
}
