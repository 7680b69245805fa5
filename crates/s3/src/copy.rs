//! Copies within the store: whole objects, and ranges as parts.

use std::ops::Range;

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};

use crate::{
    EmbeddedStore,
    blob::{self, Received, Source},
    checksum::Verified,
    conditions::Conditions,
    index::{Content, Headers, Object},
    multipart::check_number,
    object::find_with_bytes,
    service::{now, timestamp},
};

impl EmbeddedStore {
    /// Looks the source of a copy up.
    fn source(&self, source: &CopySource, conditions: &Conditions) -> S3Result<(Object, Source)> {
        let CopySource::Bucket { bucket, key, .. } = source else {
            return Err(s3_error!(NotImplemented, "access points are not there"));
        };
        let (object, inline) = self.ask(|c| find_with_bytes(c, bucket, key))?;
        // A source that has not changed is 412 for a copy, never 304.
        conditions
            .check_read(&object)
            .map_err(|_| s3_error!(PreconditionFailed, "the source does not meet the condition"))?;
        let source = match inline {
            Some(bytes) => Source::Inline(bytes),
            None => Source::Segments(object.segments.clone()),
        };
        Ok((object, source))
    }

    pub(crate) async fn copy_object(
        &self,
        request: S3Request<CopyObjectInput>,
    ) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = request.input;
        let conditions = Conditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let (object, source) = self.source(&input.copy_source, &conditions)?;
        let replace = input.metadata_directive.is_some_and(|d| d.as_str() == MetadataDirective::REPLACE);
        let onto_itself = matches!(&input.copy_source,
            CopySource::Bucket { bucket, key, .. } if **bucket == *input.bucket && **key == *input.key);
        if onto_itself && !replace {
            return Err(s3_error!(InvalidRequest, "a copy onto itself has to change something"));
        }
        let checksums = object.headers.checksums.clone();
        let headers = if replace {
            Headers {
                content_type: input.content_type,
                content_encoding: input.content_encoding,
                content_disposition: input.content_disposition,
                content_language: input.content_language,
                cache_control: input.cache_control,
                expires: None,
                metadata: input.metadata.map(|m| m.into_iter().collect()).unwrap_or_default(),
                checksums,
            }
        } else {
            object.headers.clone()
        };
        let content = match source {
            Source::Inline(bytes) => Content::Inline(bytes),
            source @ Source::Segments(_) => {
                let (folder, range) = (self.folder.clone(), 0..object.size);
                let copied = blob::blocking(move || blob::copy(&folder, source, &range)).await?;
                let (segment, _) =
                    copied.ok_or_else(|| s3_error!(SlowDown, "the source is being replaced"))?;
                Content::Segments(vec![segment])
            }
        };
        let verified = Verified { etag: object.etag.clone(), checksums: Vec::new() };
        let received = Received { content, size: object.size, verified };
        let etag = self.store(input.bucket, input.key, headers, received, Conditions::default()).await?;
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(timestamp(now())),
            ..CopyObjectResult::default()
        };
        Ok(S3Response::new(CopyObjectOutput {
            copy_object_result: Some(result),
            ..CopyObjectOutput::default()
        }))
    }

    pub(crate) async fn upload_part_copy(
        &self,
        request: S3Request<UploadPartCopyInput>,
    ) -> S3Result<S3Response<UploadPartCopyOutput>> {
        let input = request.input;
        check_number(input.part_number)?;
        let conditions = Conditions {
            if_match: input.copy_source_if_match,
            if_none_match: input.copy_source_if_none_match,
            if_modified_since: input.copy_source_if_modified_since,
            if_unmodified_since: input.copy_source_if_unmodified_since,
        };
        let (object, source) = self.source(&input.copy_source, &conditions)?;
        let range = copy_range(input.copy_source_range.as_deref(), object.size)?;
        let folder = self.folder.clone();
        let copied = blob::blocking(move || blob::copy(&folder, source, &range)).await?;
        let (segment, verified) =
            copied.ok_or_else(|| s3_error!(SlowDown, "the source is being replaced"))?;
        let crc64 = verified.checksums.into_iter().next().map(|(_, value)| value).unwrap_or_default();
        let etag = verified.etag;
        self.keep_part(
            (input.upload_id, input.bucket, input.key),
            input.part_number,
            etag.clone(),
            vec![segment],
            crc64,
        )
        .await?;
        let result = CopyPartResult {
            e_tag: Some(ETag::Strong(etag)),
            last_modified: Some(timestamp(now())),
            ..CopyPartResult::default()
        };
        Ok(S3Response::new(UploadPartCopyOutput {
            copy_part_result: Some(result),
            ..UploadPartCopyOutput::default()
        }))
    }
}

/// `bytes=first-last`, both there and inside the object, as S3 asks of copies.
fn copy_range(text: Option<&str>, size: u64) -> S3Result<Range<u64>> {
    let Some(text) = text else { return Ok(0..size) };
    let parsed = text
        .strip_prefix("bytes=")
        .and_then(|t| t.split_once('-'))
        .and_then(|(first, last)| Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?)));
    match parsed {
        Some((first, last)) if first <= last && last < size => Ok(first..last + 1),
        Some(_) => Err(s3_error!(InvalidRange, "the range is not inside the source")),
        None => Err(s3_error!(InvalidArgument, "x-amz-copy-source-range is `bytes=first-last`")),
    }
}
