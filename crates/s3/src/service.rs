//! The store as a service: what is open, and which keys are good.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use hyper::Method;
use s3s::{
    S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    dto::*,
    service::{S3Service, S3ServiceBuilder},
    validation::NameValidation,
};
use trainyard_sqlite::{Database, rusqlite::Connection};

use crate::{OpenError, blob::Folder, error::Failure, index, sweep};

/// Access keys and their secrets. Clones share them.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<HashMap<String, Pair>>>);

/// What belongs to an access key.
struct Pair {
    secret: String,
    /// May read, and change nothing.
    reads_only: bool,
}

impl Keys {
    /// Accepts this pair from now on.
    pub fn allow(&self, access_key: &str, secret_key: &str) {
        self.insert(access_key, Pair { secret: secret_key.to_owned(), reads_only: false });
    }

    /// Accepts this pair from now on, for reading.
    pub fn allow_reading(&self, access_key: &str, secret_key: &str) {
        if self.reads_only(access_key) != Some(true) {
            self.insert(access_key, Pair { secret: secret_key.to_owned(), reads_only: true });
        }
    }

    fn insert(&self, access_key: &str, pair: Pair) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(access_key.to_owned(), pair);
    }

    /// Whether the pair of this access key may only read; `None`: there is none.
    fn reads_only(&self, access_key: &str) -> Option<bool> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        keys.get(access_key).map(|pair| pair.reads_only)
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let unknown =
            || S3Error::with_message(S3ErrorCode::InvalidAccessKeyId, "the access key id does not exist");
        keys.get(access_key).map(|pair| SecretKey::from(pair.secret.as_str())).ok_or_else(unknown)
    }
}

#[async_trait::async_trait]
impl S3Access for Keys {
    async fn check(&self, request: &mut S3AccessContext<'_>) -> S3Result<()> {
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        match request.credentials().and_then(|c| self.reads_only(&c.access_key)) {
            Some(reads_only) if reads || !reads_only => Ok(()),
            _ => Err(S3Error::with_message(S3ErrorCode::AccessDenied, "these keys may not do this")),
        }
    }
}

/// Bucket names: what AWS allows, and underscores, which old buckets have.
struct BucketNames;

impl NameValidation for BucketNames {
    fn validate_bucket_name(&self, name: &str) -> bool {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        (3..=63).contains(&name.len()) && name.bytes().all(legal) && !name.starts_with('.')
    }
}

/// The object store of one folder. Clones share it.
#[derive(Clone)]
pub struct EmbeddedStore {
    pub(crate) index: Database,
    pub(crate) folder: Folder,
}

impl EmbeddedStore {
    /// Opens or makes the store in `folder`, and removes what an earlier stop left half-written.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let objects = folder.join("objects");
        std::fs::create_dir_all(&objects)
            .map_err(|source| OpenError::Io { path: objects.display().to_string(), source })?;
        let index = Database::open(&folder.join("index.db"), index::MIGRATIONS)?;
        let store = Self { index, folder: Folder::new(&objects) };
        sweep::start(&store);
        Ok(store)
    }

    /// The protocol around the store, for callers that hold one of `keys`.
    pub fn service(&self, keys: Keys) -> S3Service {
        let mut builder = S3ServiceBuilder::new(self.clone());
        builder.set_auth(keys.clone());
        builder.set_access(keys);
        builder.set_validation(BucketNames);
        builder.build()
    }

    /// Runs a change of the index.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Connection) -> Result<T, Failure> + Send + 'static,
    ) -> S3Result<T> {
        Ok(self.index.write(change).await?)
    }

    /// Asks the index.
    pub(crate) fn ask<T>(&self, query: impl FnOnce(&Connection) -> Result<T, Failure>) -> S3Result<T> {
        Ok(self.index.read(query)?)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// A time of the index as S3 has it, in whole seconds: that is all HTTP dates carry.
pub(crate) fn timestamp(milliseconds: i64) -> Timestamp {
    let seconds = u64::try_from(milliseconds / 1000).unwrap_or(0);
    Timestamp::from(UNIX_EPOCH + std::time::Duration::from_secs(seconds))
}

macro_rules! operations {
    ($($name:ident($input:ident) -> $output:ident;)*) => {
        #[async_trait::async_trait]
        impl S3 for EmbeddedStore {
            $(async fn $name(&self, request: S3Request<$input>) -> S3Result<S3Response<$output>> {
                self.$name(request).await
            })*
        }
    };
}

// Each is an inherent method of the same name, in the file of its subject; inherent methods are
// found first, so this does not call itself.
operations! {
    list_buckets(ListBucketsInput) -> ListBucketsOutput;
    create_bucket(CreateBucketInput) -> CreateBucketOutput;
    delete_bucket(DeleteBucketInput) -> DeleteBucketOutput;
    head_bucket(HeadBucketInput) -> HeadBucketOutput;
    get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput;
    get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput;
    list_objects(ListObjectsInput) -> ListObjectsOutput;
    list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output;
    put_object(PutObjectInput) -> PutObjectOutput;
    get_object(GetObjectInput) -> GetObjectOutput;
    head_object(HeadObjectInput) -> HeadObjectOutput;
    delete_object(DeleteObjectInput) -> DeleteObjectOutput;
    delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput;
    copy_object(CopyObjectInput) -> CopyObjectOutput;
    create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput;
    upload_part(UploadPartInput) -> UploadPartOutput;
    upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput;
    list_parts(ListPartsInput) -> ListPartsOutput;
    list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput;
    complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput;
    abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput;
}
