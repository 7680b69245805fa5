//! Packs the model folder of a run into a tar.gz that the server keeps.

use std::{fs::File, path::Path};

use flate2::{Compression, write::GzEncoder};
use tokio::sync::mpsc;
use trainyard_transfer::{Bucket, Error, Object, fetch_to};

/// Files fetched ahead of the one being packed.
const AHEAD: usize = 4;

/// Why a model could not be archived.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("{0}")]
    Transfer(#[from] Error),
    #[error("the run left nothing in its `model` folder")]
    Empty,
    #[error("the model has {size} bytes, and the server keeps {most} at most")]
    TooLarge { size: u64, most: u64 },
    #[error("{0}")]
    File(#[from] std::io::Error),
}

/// Packs what lies below `prefix` of `bucket`, `most` bytes at most, into `target`; returns its size in bytes.
pub(crate) async fn pack(
    bucket: &Bucket,
    prefix: &str,
    target: &Path,
    tmp: &Path,
    most: u64,
) -> Result<u64, ArchiveError> {
    let objects: Vec<Object> =
        bucket.list(prefix).await?.into_iter().filter(|o| !o.key.ends_with('/')).collect();
    if objects.is_empty() {
        return Err(ArchiveError::Empty);
    }
    let size = objects.iter().fold(0u64, |sum, o| sum.saturating_add(o.size));
    if size > most {
        return Err(ArchiveError::TooLarge { size, most });
    }
    let names: Vec<String> = objects.iter().map(|o| o.key[prefix.len()..].to_owned()).collect();
    trainyard_transfer::check_names(names.iter().map(String::as_str)).map_err(Error::Names)?;

    let folder = tempfile::tempdir_in(tmp)?;
    let part = tempfile::NamedTempFile::new_in(tmp)?;
    let (fetched, mut ready) = mpsc::channel::<(String, std::path::PathBuf)>(AHEAD);
    let file = part.reopen()?;
    let packer = tokio::task::spawn_blocking(move || {
        let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
        while let Some((name, path)) = ready.blocking_recv() {
            archive.append_path_with_name(&path, name)?;
            std::fs::remove_file(path)?;
        }
        let file: File = archive.into_inner()?.finish()?;
        file.sync_all()
    });
    for (n, (object, name)) in objects.iter().zip(names).enumerate() {
        let path = folder.path().join(n.to_string());
        fetch_to(bucket, object, &path).await?;
        if fetched.send((name, path)).await.is_err() {
            break;
        }
    }
    drop(fetched);
    packer.await.map_err(std::io::Error::other)??;
    let size = part.as_file().metadata()?.len();
    part.persist(target).map_err(|e| e.error)?;
    Ok(size)
}
