//! Buckets.
#![expect(
    clippy::unused_async,
    reason = "operations of one trait: those that only ask the index do not wait"
)]

use s3s::{S3Request, S3Response, S3Result, dto::*, s3_error};
use trainyard_sqlite::rusqlite::params;

use crate::{
    EmbeddedStore,
    index::require_bucket,
    multipart::segments_of,
    service::{now, timestamp},
};

impl EmbeddedStore {
    pub(crate) async fn list_buckets(
        &self,
        _: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let rows: Vec<(String, i64)> = self.ask(|c| {
            let mut query = c.prepare_cached("SELECT name, created FROM buckets ORDER BY name")?;
            let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?;
            Ok(rows.collect::<Result<_, _>>()?)
        })?;
        let bucket = |(name, created)| Bucket {
            name: Some(name),
            creation_date: Some(timestamp(created)),
            ..Bucket::default()
        };
        let buckets = rows.into_iter().map(bucket).collect();
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), ..ListBucketsOutput::default() }))
    }

    pub(crate) async fn create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        let name = request.input.bucket;
        let location = format!("/{name}");
        self.change(move |c| {
            let made = c.execute("INSERT OR IGNORE INTO buckets VALUES (?1, ?2)", params![name, now()])?;
            if made == 0 {
                return Err(s3_error!(BucketAlreadyOwnedByYou, "the bucket exists already").into());
            }
            Ok(())
        })
        .await?;
        Ok(S3Response::new(CreateBucketOutput { location: Some(location) }))
    }

    pub(crate) async fn delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let name = request.input.bucket;
        let freed = self
            .change(move |c| {
                require_bucket(c, &name)?;
                if c.prepare("SELECT 1 FROM objects WHERE bucket = ?1 LIMIT 1")?.exists([&name])? {
                    return Err(s3_error!(BucketNotEmpty, "the bucket is not empty").into());
                }
                // Uploads that were never completed are no content.
                let mut ids = c.prepare("SELECT id FROM uploads WHERE bucket = ?1")?;
                let ids: Vec<String> = ids.query_map([&name], |r| r.get(0))?.collect::<Result<_, _>>()?;
                let mut freed = Vec::new();
                for id in &ids {
                    freed.extend(segments_of(c, id)?);
                }
                c.execute("DELETE FROM uploads WHERE bucket = ?1", [&name])?;
                c.execute("DELETE FROM buckets WHERE name = ?1", [&name])?;
                Ok(freed)
            })
            .await?;
        self.discard(freed);
        Ok(S3Response::new(DeleteBucketOutput {}))
    }

    pub(crate) async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        self.ask(|c| require_bucket(c, &request.input.bucket))?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    pub(crate) async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.ask(|c| require_bucket(c, &request.input.bucket))?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    pub(crate) async fn get_bucket_versioning(
        &self,
        request: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        self.ask(|c| require_bucket(c, &request.input.bucket))?;
        Ok(S3Response::new(GetBucketVersioningOutput::default()))
    }
}
