//! Lists of objects, versions 1 and 2: prefix, delimiter, pages.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};
use trainyard_sqlite::rusqlite::Connection;

use crate::{
    EmbeddedStore,
    encoding::Encoding,
    error::Failure,
    index::{Object, require_bucket, scan},
    service::timestamp,
};

/// Entries of one page at most, as S3 has it.
const PAGE: usize = 1000;

/// One page: keys and common prefixes in one order.
#[derive(Default)]
struct Listing {
    objects: Vec<Object>,
    prefixes: Vec<String>,
    /// Key or prefix after which the next page starts.
    next: Option<String>,
}

/// The smallest byte string greater than all that begin with `prefix`; `None`: there is none.
fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut bound = prefix.to_vec();
    while let Some(last) = bound.pop() {
        if last < u8::MAX {
            bound.push(last + 1);
            return Some(bound);
        }
    }
    None
}

/// Entries after `after`. A common prefix is found by its first key and then jumped over, so
/// that a folder of a million keys costs one look.
fn list(
    c: &Connection,
    bucket: &str,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> Result<Listing, Failure> {
    require_bucket(c, bucket)?;
    let below = if prefix.is_empty() { None } else { after_prefix(prefix.as_bytes()) };
    let mut from = prefix.as_bytes().to_vec();
    if let Some(after) = after {
        let inside = delimiter
            .is_some_and(|d| after.len() > prefix.len() && after.starts_with(prefix) && after.ends_with(d));
        // A page may end with a common prefix: all of what it stands for has been said.
        let next =
            if inside { after_prefix(after.as_bytes()) } else { Some([after.as_bytes(), b"\0"].concat()) };
        match next {
            Some(next) => from = from.max(next),
            None => return Ok(Listing::default()),
        }
    }
    let mut listing = Listing::default();
    let mut last = String::new();
    loop {
        let count = listing.objects.len() + listing.prefixes.len();
        // One more than fits tells whether there is another page.
        let batch = scan(
            c,
            bucket,
            &from,
            below.as_deref(),
            if delimiter.is_some() { 64 } else { limit + 1 - count },
        )?;
        if batch.is_empty() {
            return Ok(listing);
        }
        let mut jump = None;
        for object in batch {
            if listing.objects.len() + listing.prefixes.len() == limit {
                listing.next = Some(last);
                return Ok(listing);
            }
            let tail = object.key.get(prefix.len()..).unwrap_or("");
            if let Some(end) = delimiter.and_then(|d| tail.find(d).map(|at| prefix.len() + at + d.len())) {
                let common = object.key[..end].to_owned();
                jump = Some(after_prefix(common.as_bytes()));
                last.clone_from(&common);
                listing.prefixes.push(common);
                break;
            }
            from = [object.key.as_bytes(), b"\0"].concat();
            last.clone_from(&object.key);
            listing.objects.push(object);
        }
        match jump {
            Some(Some(next)) => from = next,
            Some(None) => return Ok(listing),
            None => {}
        }
    }
}

fn limit(asked: Option<i32>) -> S3Result<usize> {
    match asked {
        None => Ok(PAGE),
        Some(n) => usize::try_from(n)
            .map(|n| n.min(PAGE))
            .map_err(|_| s3_error!(InvalidArgument, "max-keys is negative")),
    }
}

fn contents(objects: Vec<Object>, encoding: Encoding) -> ObjectList {
    let entry = |o: Object| s3s::dto::Object {
        key: Some(encoding.apply(&o.key)),
        e_tag: Some(ETag::Strong(o.etag)),
        size: Some(o.size as i64),
        last_modified: Some(timestamp(o.modified)),
        storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        ..s3s::dto::Object::default()
    };
    objects.into_iter().map(entry).collect()
}

fn common(prefixes: Vec<String>, encoding: Encoding) -> CommonPrefixList {
    prefixes.into_iter().map(|p| CommonPrefix { prefix: Some(encoding.apply(&p)) }).collect()
}

impl EmbeddedStore {
    async fn page(
        &self,
        bucket: String,
        prefix: String,
        delimiter: Option<String>,
        after: Option<String>,
        limit: usize,
    ) -> S3Result<Listing> {
        if limit == 0 {
            self.ask(|c| require_bucket(c, &bucket))?;
            return Ok(Listing::default());
        }
        let delimiter = delimiter.filter(|d| !d.is_empty());
        let listing = self
            .index
            .read_long(move |c| list(c, &bucket, &prefix, delimiter.as_deref(), after.as_deref(), limit))
            .await?;
        Ok(listing)
    }

    pub(crate) async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        let limit = limit(input.max_keys)?;
        let encoding = Encoding::of(input.encoding_type.as_ref());
        let after =
            match &input.continuation_token {
                None => input.start_after.clone(),
                Some(token) => {
                    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
                    let text = bytes.and_then(|b| String::from_utf8(b).ok());
                    Some(text.ok_or_else(|| {
                        s3_error!(InvalidArgument, "the continuation token is not one of ours")
                    })?)
                }
            };
        let prefix = input.prefix.clone().unwrap_or_default();
        let found = self.page(input.bucket.clone(), prefix, input.delimiter.clone(), after, limit).await?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix.map(|p| encoding.apply(&p)),
            max_keys: Some(limit as i32),
            key_count: Some((found.objects.len() + found.prefixes.len()) as i32),
            continuation_token: input.continuation_token,
            is_truncated: Some(found.next.is_some()),
            next_continuation_token: found.next.map(|n| URL_SAFE_NO_PAD.encode(n)),
            contents: Some(contents(found.objects, encoding)),
            common_prefixes: Some(common(found.prefixes, encoding)),
            delimiter: input.delimiter.map(|d| encoding.apply(&d)),
            encoding_type: input.encoding_type,
            start_after: input.start_after.map(|s| encoding.apply(&s)),
            ..ListObjectsV2Output::default()
        }))
    }

    pub(crate) async fn list_objects(
        &self,
        request: S3Request<ListObjectsInput>,
    ) -> S3Result<S3Response<ListObjectsOutput>> {
        let input = request.input;
        let limit = limit(input.max_keys)?;
        let encoding = Encoding::of(input.encoding_type.as_ref());
        let prefix = input.prefix.clone().unwrap_or_default();
        let found = self
            .page(input.bucket.clone(), prefix, input.delimiter.clone(), input.marker.clone(), limit)
            .await?;
        Ok(S3Response::new(ListObjectsOutput {
            name: Some(input.bucket),
            prefix: Some(encoding.apply(&input.prefix.unwrap_or_default())),
            marker: Some(encoding.apply(&input.marker.unwrap_or_default())),
            max_keys: Some(limit as i32),
            is_truncated: Some(found.next.is_some()),
            next_marker: found.next.map(|n| encoding.apply(&n)),
            contents: Some(contents(found.objects, encoding)),
            common_prefixes: Some(common(found.prefixes, encoding)),
            delimiter: input.delimiter.map(|d| encoding.apply(&d)),
            encoding_type: input.encoding_type,
            ..ListObjectsOutput::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_of_prefixes() {
        assert_eq!(after_prefix(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(after_prefix(b"a\xff"), Some(b"b".to_vec()));
        assert_eq!(after_prefix(b"\xff\xff"), None);
    }
}
