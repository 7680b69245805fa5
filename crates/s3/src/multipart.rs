//! Multipart uploads. Parts are files; completing an upload only lists them in the index, so
//! joining a terabyte takes no longer than joining a megabyte.
#![expect(
    clippy::unused_async,
    reason = "operations of one trait: those that only ask the index do not wait"
)]

use std::collections::HashMap;

use md5::{Digest, Md5};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};
use trainyard_sqlite::rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::{
    EmbeddedStore, blob,
    checksum::{Digests, empty_crc64, join_crc64, say_checksums, sent},
    conditions::Conditions,
    encoding::Encoding,
    error::{Failure, no_such_upload},
    index::{self, Content, Headers, Object, Segment},
    object::header,
    service::{now, timestamp},
};

/// Parts of an upload at most, and the smallest size of all but the last, as S3 has it.
const MAX_PART: i32 = 10_000;
const MIN_PART_SIZE: u64 = 5 * 1024 * 1024;
/// Entries of one page at most.
const PAGE: i32 = 1000;

struct PartRow {
    number: i32,
    etag: String,
    modified: i64,
    size: u64,
    crc64: String,
    segments: Vec<Segment>,
}

/// A part's segments, and its checksum for joining, as one column of the index.
#[derive(serde::Serialize, serde::Deserialize)]
struct PartContent {
    segments: Vec<Segment>,
    crc64: String,
}

pub(crate) fn require_upload(c: &Connection, id: &str, bucket: &str, key: &str) -> Result<Headers, Failure> {
    let mut query =
        c.prepare_cached("SELECT headers FROM uploads WHERE id = ?1 AND bucket = ?2 AND key = ?3")?;
    let headers: Option<String> =
        query.query_row(params![id, bucket, key.as_bytes()], |r| r.get(0)).optional()?;
    Ok(serde_json::from_str(&headers.ok_or_else(no_such_upload)?)?)
}

fn parts(c: &Connection, upload: &str, after: i32, limit: i32) -> Result<Vec<PartRow>, Failure> {
    let mut query = c.prepare_cached(
        "SELECT number, etag, modified, size, segments FROM parts
         WHERE upload = ?1 AND number > ?2 ORDER BY number LIMIT ?3",
    )?;
    let mut rows = query.query(params![upload, after, limit])?;
    let mut found = Vec::new();
    while let Some(r) = rows.next()? {
        let content: PartContent = serde_json::from_str(&r.get::<_, String>(4)?)?;
        found.push(PartRow {
            number: r.get(0)?,
            etag: r.get(1)?,
            modified: r.get(2)?,
            size: r.get(3)?,
            crc64: content.crc64,
            segments: content.segments,
        });
    }
    Ok(found)
}

/// All segments of an unfinished upload.
pub(crate) fn segments_of(c: &Connection, upload: &str) -> Result<Vec<Segment>, Failure> {
    Ok(parts(c, upload, 0, MAX_PART)?.into_iter().flat_map(|p| p.segments).collect())
}

impl EmbeddedStore {
    pub(crate) async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        let id = Uuid::new_v4().simple().to_string();
        let headers = Headers {
            content_type: input.content_type,
            content_encoding: input.content_encoding,
            content_disposition: input.content_disposition,
            content_language: input.content_language,
            cache_control: input.cache_control,
            metadata: input.metadata.map(|m| m.into_iter().collect()).unwrap_or_default(),
            ..Headers::default()
        };
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket.clone()),
            key: Some(input.key.clone()),
            upload_id: Some(id.clone()),
            ..CreateMultipartUploadOutput::default()
        };
        self.change(move |c| {
            index::require_bucket(c, &input.bucket)?;
            let headers = serde_json::to_string(&headers)?;
            c.prepare_cached("INSERT INTO uploads VALUES (?1, ?2, ?3, ?4, ?5)")?.execute(params![
                id,
                input.bucket,
                input.key.as_bytes(),
                now(),
                headers
            ])?;
            Ok(())
        })
        .await?;
        Ok(S3Response::new(output))
    }

    pub(crate) async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let trailer = header(&request.headers, "x-amz-trailer");
        let trailers = request.trailing_headers;
        let input = request.input;
        check_number(input.part_number)?;
        self.ask(|c| require_upload(c, &input.upload_id, &input.bucket, &input.key))?;
        let digests = Digests::new(sent!(input, trailer));
        let received =
            blob::receive(&self.folder, input.body, input.content_length, digests, trailers.as_ref(), true)
                .await?;
        let Content::Segments(segments) = received.content else {
            return Err(s3_error!(InternalError));
        };
        let crc64 =
            received.verified.checksums.iter().find(|(n, _)| n == "crc64nvme").map(|(_, v)| v.clone());
        let etag = received.verified.etag;
        self.keep_part(
            (input.upload_id, input.bucket, input.key),
            input.part_number,
            etag.clone(),
            segments,
            crc64.unwrap_or_default(),
        )
        .await?;
        let mut output = UploadPartOutput { e_tag: Some(ETag::Strong(etag)), ..UploadPartOutput::default() };
        say_checksums!(output, received.verified.checksums);
        Ok(S3Response::new(output))
    }

    /// Puts a part in the place of an earlier one of its number.
    pub(crate) async fn keep_part(
        &self,
        (upload, bucket, key): (String, String, String),
        number: i32,
        etag: String,
        segments: Vec<Segment>,
        crc64: String,
    ) -> S3Result<()> {
        let size: u64 = segments.iter().map(|s| s.size).sum();
        let ours = segments.clone();
        let content = PartContent { segments, crc64 };
        let freed = self
            .change(move |c| {
                require_upload(c, &upload, &bucket, &key)?;
                let before = parts(c, &upload, number - 1, 1)?;
                let freed =
                    before.into_iter().filter(|p| p.number == number).flat_map(|p| p.segments).collect();
                c.prepare_cached("INSERT OR REPLACE INTO parts VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![upload, number, etag, now(), size, serde_json::to_string(&content)?])?;
                Ok::<Vec<Segment>, Failure>(freed)
            })
            .await;
        match freed {
            Ok(freed) => self.discard(freed),
            Err(error) => {
                self.discard(ours);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let asked = input.multipart_upload.and_then(|m| m.parts).unwrap_or_default();
        if asked.len() > MAX_PART as usize {
            return Err(s3_error!(InvalidArgument, "an upload has at most 10000 parts"));
        }
        let conditions = Conditions {
            if_match: input.if_match,
            if_none_match: input.if_none_match,
            ..Conditions::default()
        };
        let (bucket, key, upload) = (input.bucket, input.key, input.upload_id);
        let mut output = CompleteMultipartUploadOutput {
            bucket: Some(bucket.clone()),
            key: Some(key.clone()),
            location: Some(format!("/{bucket}/{key}")),
            ..CompleteMultipartUploadOutput::default()
        };
        let (etag, crc64, freed) = self
            .change(move |c| {
                let mut headers = require_upload(c, &upload, &bucket, &key)?;
                let all = parts(c, &upload, 0, MAX_PART)?;
                let (chosen, unused) = choose(all, &asked)?;
                let mut md5s = Md5::new();
                let mut crc64 = Some(empty_crc64());
                for part in &chosen {
                    md5s.update(hex::decode(&part.etag).unwrap_or_default());
                    crc64 = crc64.and_then(|c| join_crc64(&c, &part.crc64, part.size));
                }
                let etag = format!("{}-{}", hex::encode(md5s.finalize()), chosen.len());
                headers.checksums = crc64.iter().map(|c| ("crc64nvme".to_owned(), c.clone())).collect();
                let object = Object {
                    key,
                    etag: etag.clone(),
                    size: chosen.iter().map(|p| p.size).sum(),
                    modified: now(),
                    inline: None,
                    segments: Vec::new(),
                    headers,
                };
                conditions.check_write(index::find(c, &bucket, &object.key)?.as_ref())?;
                let segments = chosen.into_iter().flat_map(|p| p.segments).filter(|s| s.size > 0).collect();
                let mut freed = index::replace(c, &bucket, &object, Content::Segments(segments))?;
                freed.extend(unused.into_iter().flat_map(|p| p.segments));
                c.execute("DELETE FROM uploads WHERE id = ?1", [&upload])?;
                Ok((etag, crc64, freed))
            })
            .await?;
        self.discard(freed);
        output.e_tag = Some(ETag::Strong(etag));
        output.checksum_crc64nvme = crc64;
        output.checksum_type = Some(ChecksumType::from_static(ChecksumType::FULL_OBJECT));
        Ok(S3Response::new(output))
    }

    pub(crate) async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let input = request.input;
        let freed = self
            .change(move |c| {
                require_upload(c, &input.upload_id, &input.bucket, &input.key)?;
                let freed = segments_of(c, &input.upload_id)?;
                c.execute("DELETE FROM uploads WHERE id = ?1", [&input.upload_id])?;
                Ok(freed)
            })
            .await?;
        self.discard(freed);
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    pub(crate) async fn list_parts(
        &self,
        request: S3Request<ListPartsInput>,
    ) -> S3Result<S3Response<ListPartsOutput>> {
        let input = request.input;
        let limit = input.max_parts.unwrap_or(PAGE).clamp(1, PAGE);
        let after = match &input.part_number_marker {
            None => 0,
            Some(marker) => {
                marker.to_string().parse().map_err(|_| s3_error!(InvalidArgument, "part-number-marker"))?
            }
        };
        let mut rows = self.ask(|c| {
            require_upload(c, &input.upload_id, &input.bucket, &input.key)?;
            parts(c, &input.upload_id, after, limit + 1)
        })?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next = rows.last().filter(|_| more).map(|p| p.number);
        let part = |p: PartRow| Part {
            part_number: Some(p.number),
            e_tag: Some(ETag::Strong(p.etag)),
            size: Some(p.size as i64),
            last_modified: Some(timestamp(p.modified)),
            ..Part::default()
        };
        Ok(S3Response::new(ListPartsOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(input.upload_id),
            max_parts: Some(limit),
            is_truncated: Some(more),
            next_part_number_marker: next.and_then(|n| n.to_string().parse().ok()),
            parts: Some(rows.into_iter().map(part).collect()),
            ..ListPartsOutput::default()
        }))
    }

    pub(crate) async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        let encoding = Encoding::of(input.encoding_type.as_ref());
        let limit = input.max_uploads.unwrap_or(PAGE).clamp(1, PAGE);
        let prefix = input.prefix.clone().unwrap_or_default();
        let (key_marker, id_marker) = (
            input.key_marker.clone().unwrap_or_default(),
            input.upload_id_marker.clone().unwrap_or_default(),
        );
        let rows: Vec<(Vec<u8>, String, i64)> = self.ask(|c| {
            index::require_bucket(c, &input.bucket)?;
            let mut query = c.prepare_cached(
                "SELECT key, id, started FROM uploads
                 WHERE bucket = ?1 AND substr(key, 1, length(?2)) = ?2
                   AND (key > ?3 OR (key = ?3 AND ?4 <> '' AND id > ?4))
                 ORDER BY key, id LIMIT ?5",
            )?;
            let rows = query.query_map(
                params![input.bucket, prefix.as_bytes(), key_marker.as_bytes(), id_marker, limit + 1],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)),
            )?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let more = rows.len() > limit as usize;
        let upload = |(key, id, started): (Vec<u8>, String, i64)| MultipartUpload {
            key: Some(encoding.apply(&String::from_utf8_lossy(&key))),
            upload_id: Some(id),
            initiated: Some(timestamp(started)),
            ..MultipartUpload::default()
        };
        let uploads: Vec<_> = rows.into_iter().take(limit as usize).map(upload).collect();
        let last = uploads.last().filter(|_| more).cloned();
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            prefix: input.prefix.map(|p| encoding.apply(&p)),
            max_uploads: Some(limit),
            is_truncated: Some(more),
            next_key_marker: last.as_ref().and_then(|u| u.key.clone()),
            next_upload_id_marker: last.and_then(|u| u.upload_id),
            encoding_type: input.encoding_type,
            uploads: Some(uploads),
            ..ListMultipartUploadsOutput::default()
        }))
    }
}

pub(crate) fn check_number(number: i32) -> S3Result<()> {
    if (1..=MAX_PART).contains(&number) {
        Ok(())
    } else {
        Err(s3_error!(InvalidArgument, "a part number is between 1 and 10000"))
    }
}

/// The parts that the client lists, checked, and those that it leaves out.
fn choose(all: Vec<PartRow>, asked: &[CompletedPart]) -> Result<(Vec<PartRow>, Vec<PartRow>), Failure> {
    if asked.is_empty() {
        return Err(s3_error!(MalformedXML, "the list of parts is empty").into());
    }
    if asked.windows(2).any(|w| w[0].part_number >= w[1].part_number) {
        return Err(s3_error!(InvalidPartOrder, "the parts are not in ascending order").into());
    }
    let wanted: HashMap<i32, &CompletedPart> =
        asked.iter().filter_map(|a| Some((a.part_number?, a))).collect();
    let (mut chosen, mut unused) = (Vec::new(), Vec::new());
    for part in all {
        match wanted.get(&part.number) {
            Some(a) if a.e_tag.as_ref().is_some_and(|e| e.value() == part.etag) => chosen.push(part),
            Some(_) => return Err(s3_error!(InvalidPart, "a part has another ETag").into()),
            None => unused.push(part),
        }
    }
    if chosen.len() != asked.len() {
        return Err(s3_error!(InvalidPart, "a part has not been uploaded").into());
    }
    if chosen.iter().rev().skip(1).any(|p| p.size < MIN_PART_SIZE) {
        return Err(s3_error!(EntityTooSmall, "all parts but the last have at least 5 MiB").into());
    }
    Ok((chosen, unused))
}
