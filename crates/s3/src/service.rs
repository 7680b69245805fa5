//! The store as a service: what is open, and which keys are good.

use std::{
    collections::{HashMap, HashSet},
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
use trainyard_breakpoints::break_point;
use trainyard_sqlite::{Database, rusqlite::Connection};

use crate::{OpenError, blob::Folder, error::Failure, index, sweep};

/// Access keys and their secrets. Clones share them.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<HashMap<String, Pair>>>);

/// What belongs to an access key.
struct Pair {
    secret: String,
    /// What it may do, if not everything.
    reads: Option<Reads>,
}

/// What a pair may read that may do nothing else.
struct Reads {
    buckets: HashSet<String>,
    holds: Holds,
}

/// Whether a pair is still good.
type Holds = Arc<dyn Fn() -> bool + Send + Sync>;

impl Keys {
    /// Accepts this pair from now on.
    pub fn allow(&self, access_key: &str, secret_key: &str) {
        let pair = Pair { secret: secret_key.to_owned(), reads: None };
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(access_key.to_owned(), pair);
    }

    /// Accepts this pair for reading `bucket`, as long as `holds` says so; and the buckets that it was
    /// allowed to read before.
    pub fn allow_reading(
        &self,
        access_key: &str,
        secret_key: &str,
        bucket: &str,
        holds: impl Fn() -> bool + Send + Sync + 'static,
    ) {
        {
            let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
            let reads = keys.get(access_key).and_then(|pair| pair.reads.as_ref());
            if reads.is_some_and(|r| r.buckets.contains(bucket)) {
                return;
            }
        }
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let pair = keys.entry(access_key.to_owned()).or_insert_with(|| Pair {
            secret: secret_key.to_owned(),
            reads: Some(Reads { buckets: HashSet::new(), holds: Arc::new(holds) }),
        });
        if let Some(reads) = &mut pair.reads {
            reads.buckets.insert(bucket.to_owned());
        }
    }

    /// Whether the pair of this access key may do something with `bucket`, of which `is_read` says whether it
    /// only reads.
    fn may(&self, access_key: &str, bucket: Option<&str>, is_read: bool) -> bool {
        let keys = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(pair) = keys.get(access_key) else { return false };
        let Some(reads) = &pair.reads else { return true };
        let of_its_own = is_read && bucket.is_some_and(|b| reads.buckets.contains(b));
        let holds = Arc::clone(&reads.holds);
        drop(keys);
        of_its_own && holds()
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
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let bucket = request.s3_path().get_bucket_name();
        match request.credentials() {
            Some(c) if self.may(&c.access_key, bucket, is_read) => Ok(()),
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
        let changed = self.index.write(change).await?;
        break_point("s3:committed");
        Ok(changed)
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
