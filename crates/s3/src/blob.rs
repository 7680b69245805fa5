//! Bytes of objects: taken in from a request, and given out again in ranges.

use std::{
    collections::VecDeque,
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders, dto::StreamingBlob};
use uuid::Uuid;

use crate::{
    checksum::{Digests, Sent, Verified},
    error::io_error,
    index::{Content, Segment},
};

/// Objects up to this size lie in the index: their write is one group commit, without a file and
/// its two flushes.
const INLINE_MAX: usize = 64 * 1024;
/// Bytes hashed and written at a time.
const WRITE_CHUNK: usize = 1024 * 1024;
/// Bytes read at a time; smaller reads cost a thread hop each.
const READ_CHUNK: usize = 512 * 1024;

/// The folder of object files. Names are random; two hexadecimal digits of them make sub-folders.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// A body that has been taken in.
pub(crate) struct Received {
    pub(crate) content: Content,
    pub(crate) size: u64,
    pub(crate) verified: Verified,
}

impl Folder {
    pub(crate) fn new(root: &Path) -> Self {
        Self(root.to_owned())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name.get(..2).unwrap_or("xx")).join(name)
    }

    pub(crate) fn create(&self) -> std::io::Result<(String, File)> {
        let name = Uuid::new_v4().simple().to_string();
        let path = self.path(&name);
        let parent = path.parent().unwrap_or(&self.0);
        std::fs::create_dir_all(parent)?;
        Ok((name, File::options().read(true).write(true).create_new(true).open(path)?))
    }

    /// Makes a new file durable: its bytes, and its name in the folder.
    pub(crate) fn sync(&self, name: &str, file: &File) -> std::io::Result<()> {
        file.sync_all()?;
        if let Some(parent) = self.path(name).parent() {
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    }

    /// Removes files that no object refers to any more. What fails is swept at the next start.
    pub(crate) fn discard(&self, segments: &[Segment]) {
        for segment in segments {
            if let Err(error) = std::fs::remove_file(self.path(&segment.file))
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(%error, file = segment.file, "cannot remove a freed object file");
            }
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }
}

/// A file being written; removed again unless it is kept.
struct Spill {
    folder: Folder,
    name: String,
    file: File,
    kept: bool,
}

impl Drop for Spill {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(self.folder.path(&self.name));
        }
    }
}

struct Intake {
    folder: Folder,
    digests: Digests,
    spill: Option<Spill>,
    size: u64,
}

impl Intake {
    fn write(&mut self, bytes: &[u8]) -> S3Result<()> {
        self.digests.update(bytes);
        self.size += bytes.len() as u64;
        let failed = |e: std::io::Error| io_error("writing an object", &e);
        if self.spill.is_none() {
            let (name, file) = self.folder.create().map_err(failed)?;
            self.spill = Some(Spill { folder: self.folder.clone(), name, file, kept: false });
        }
        if let Some(spill) = &mut self.spill {
            spill.file.write_all(bytes).map_err(failed)?;
        }
        Ok(())
    }
}

/// Takes a request's body in. Small bodies stay in memory unless `to_file`; large ones go to a
/// file that is on disk when this returns.
pub(crate) async fn receive(
    folder: &Folder,
    body: Option<StreamingBlob>,
    expected: Option<i64>,
    digests: Digests,
    trailers: Option<&TrailingHeaders>,
    to_file: bool,
) -> S3Result<Received> {
    let mut intake = Intake { folder: folder.clone(), digests, spill: None, size: 0 };
    let mut buffer: Vec<u8> = Vec::new();
    if let Some(mut body) = body {
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|e| {
                S3Error::with_message(S3ErrorCode::IncompleteBody, format!("the body broke off: {e}"))
            })?;
            buffer.extend_from_slice(&chunk);
            if buffer.len() >= WRITE_CHUNK {
                let full = std::mem::take(&mut buffer);
                intake = blocking(move || {
                    intake.write(&full)?;
                    Ok(intake)
                })
                .await?;
            }
        }
    }
    let size = intake.size + buffer.len() as u64;
    if let Some(expected) = expected
        && u64::try_from(expected) != Ok(size)
    {
        let text = format!("the body has {size} bytes, Content-Length says {expected}");
        return Err(S3Error::with_message(S3ErrorCode::IncompleteBody, text));
    }
    if intake.spill.is_none() && buffer.len() <= INLINE_MAX && !to_file {
        intake.digests.update(&buffer);
        let verified = intake.digests.verify(trailers)?;
        return Ok(Received { content: Content::Inline(buffer), size, verified });
    }
    let intake = blocking(move || {
        intake.write(&buffer)?;
        Ok(intake)
    })
    .await?;
    let verified = intake.digests.verify(trailers)?;
    let Some(mut spill) = intake.spill else {
        return Err(S3Error::new(S3ErrorCode::InternalError));
    };
    let segment = blocking(move || {
        spill.folder.sync(&spill.name, &spill.file).map_err(|e| io_error("flushing an object", &e))?;
        spill.kept = true;
        Ok(Segment { file: spill.name.clone(), size })
    })
    .await?;
    Ok(Received { content: Content::Segments(vec![segment]), size, verified })
}

/// Runs file work on a thread that may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> S3Result<T> + Send + 'static,
) -> S3Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(S3Error::internal_error(e)))
}

/// An open stretch of a file: what is left to read.
struct Stretch {
    file: File,
    left: u64,
}

/// Opens the files behind `range` of an object. All of them at once: a reader then sees the
/// version that it began with, whatever is written meanwhile. `None` when one is gone, because
/// the object was replaced since the index was asked.
fn open(
    folder: &Folder,
    segments: &[Segment],
    range: &Range<u64>,
) -> std::io::Result<Option<VecDeque<Stretch>>> {
    let mut stretches = VecDeque::new();
    let mut start = 0;
    for segment in segments {
        let end = start + segment.size;
        let (from, to) = (range.start.max(start), range.end.min(end));
        if from < to {
            let mut file = match File::open(folder.path(&segment.file)) {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e),
            };
            if from > start {
                file.seek(SeekFrom::Start(from - start))?;
            }
            stretches.push_back(Stretch { file, left: to - from });
        }
        start = end;
    }
    Ok(Some(stretches))
}

/// The bytes of `range` as a stream; `None` when the object was replaced meanwhile.
pub(crate) async fn read(
    folder: &Folder,
    segments: Vec<Segment>,
    range: Range<u64>,
) -> S3Result<Option<StreamingBlob>> {
    let folder = folder.clone();
    let opened =
        blocking(move || open(&folder, &segments, &range).map_err(|e| io_error("opening an object", &e)))
            .await?;
    let Some(stretches) = opened else { return Ok(None) };
    let chunks = stream::try_unfold(stretches, |mut stretches| async move {
        tokio::task::spawn_blocking(move || {
            let Some(stretch) = stretches.front_mut() else { return Ok(None) };
            let mut chunk = vec![0; READ_CHUNK.min(stretch.left as usize)];
            stretch.file.read_exact(&mut chunk)?;
            stretch.left -= chunk.len() as u64;
            if stretch.left == 0 {
                stretches.pop_front();
            }
            Ok(Some((Bytes::from(chunk), stretches)))
        })
        .await
        .unwrap_or_else(|e| Err(std::io::Error::other(e)))
    });
    Ok(Some(StreamingBlob::wrap(chunks)))
}

/// The bytes of `range` of what lies in the index.
pub(crate) fn read_inline(bytes: Vec<u8>, range: Range<u64>) -> StreamingBlob {
    let bytes = Bytes::from(bytes);
    let end = (range.end as usize).min(bytes.len());
    let slice = bytes.slice((range.start as usize).min(end)..end);
    StreamingBlob::from(s3s::Body::from(slice))
}

/// Copies `range` of an object's files into a new file, by the kernel where it can.
pub(crate) fn copy(
    folder: &Folder,
    source: Source,
    range: &Range<u64>,
) -> S3Result<Option<(Segment, Verified)>> {
    let failed = |e: std::io::Error| io_error("copying an object", &e);
    let (name, mut target) = folder.create().map_err(failed)?;
    let mut spill = Spill {
        folder: folder.clone(),
        name: name.clone(),
        file: target.try_clone().map_err(failed)?,
        kept: false,
    };
    match source {
        Source::Inline(bytes) => {
            let end = (range.end as usize).min(bytes.len());
            target.write_all(&bytes[(range.start as usize).min(end)..end]).map_err(failed)?;
        }
        Source::Segments(segments) => {
            let Some(stretches) = open(folder, &segments, range).map_err(failed)? else { return Ok(None) };
            for stretch in stretches {
                std::io::copy(&mut stretch.file.take(stretch.left), &mut target).map_err(failed)?;
            }
        }
    }
    folder.sync(&name, &target).map_err(failed)?;
    // A second look at the bytes gives the copy the digests that clients expect of a part.
    target.rewind().map_err(failed)?;
    let mut digests = Digests::new(Sent::default());
    let mut buffer = vec![0; READ_CHUNK];
    loop {
        match target.read(&mut buffer).map_err(failed)? {
            0 => break,
            n => digests.update(&buffer[..n]),
        }
    }
    let verified = digests.verify(None)?;
    spill.kept = true;
    Ok(Some((Segment { file: name, size: range.end - range.start }, verified)))
}

/// What [`copy`] reads.
pub(crate) enum Source {
    Inline(Vec<u8>),
    Segments(Vec<Segment>),
}
