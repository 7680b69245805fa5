//! Fetches one object into a file: in one go or in ranges side by side, resumed, verified.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::Path,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use futures::{StreamExt, TryStreamExt, stream};
use reqwest::{Response, StatusCode};
use tokio::sync::Semaphore;

use crate::{
    Bucket, Error, Object, Origin,
    bucket::{CHECKSUM_MODE, SILENCE, broken},
    digest::{Expected, Running, check_joined},
};

/// Objects up to this size come in one request; larger ones in ranges of this size.
pub(crate) const STRETCH: u64 = 32 * 1024 * 1024;
/// Ranges of one object on the way at once.
const STRETCHES_AT_ONCE: usize = 4;
/// Breaks of one stretch after which it is given up; every break must come after new bytes, or
/// it counts as a failed request of its own.
const MAX_BREAKS: u32 = 20;

/// Permits bound how many requests are on the way at once, over all objects.
#[derive(Debug)]
pub(crate) struct Permits {
    requests: Semaphore,
    /// Bytes that came over the network, also of what was fetched in vain.
    pub(crate) received: AtomicU64,
}

impl Permits {
    pub(crate) fn new(requests: usize) -> Self {
        Self { requests: Semaphore::new(requests), received: AtomicU64::new(0) }
    }
}

/// What a fetch did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes that came over the network.
    pub bytes: u64,
    /// Connections that broke and were taken up again.
    pub resumed: u32,
}

/// Fetches `object` into a new file at `path`.
pub async fn fetch_to(bucket: &Bucket, object: &Object, path: &Path) -> Result<Fetched, Error> {
    let file = File::create(path).map_err(|e| Error::file(path, e))?;
    fetch(bucket, object, &file, path, &Permits::new(STRETCHES_AT_ONCE)).await
}

/// Fetches `object` into the file at `path`, going on behind what is there already. The caller
/// names the file by the object's ETag, so that two versions never mix.
pub async fn fetch_on(
    bucket: &impl Origin,
    object: &Object,
    path: &Path,
    mut seen: impl FnMut(u64),
) -> Result<(), Error> {
    let failed = |e| Error::file(path, e);
    let file =
        File::options().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
    let what = bucket.what(&object.key);
    let at = file.metadata().map_err(failed)?.len();
    let at = if at > object.size { 0 } else { at };
    file.set_len(at).map_err(failed)?;
    seen(at);
    if at < object.size {
        let mut sink = Sink { file: &file, path, at, end: object.size };
        let permits = Permits::new(1);
        stretch(bucket, object, &what, &permits, &mut sink, |bytes, _| seen(bytes.len() as u64)).await?;
    }
    let head = bucket.head(&object.key).await?;
    let checked = check_file(&file, path, &Expected::of(head.headers(), &object.etag), &what);
    if checked.is_err() {
        // What is there is of no use for the next try.
        file.set_len(0).map_err(failed)?;
    }
    checked
}

/// Whether the file at `path` is the object, by the best checksum that the store has of it. Where
/// it has none the answer is no: equal sizes prove nothing.
pub async fn is_object(bucket: &impl Origin, object: &Object, path: &Path) -> bool {
    let what = bucket.what(&object.key);
    let Ok(file) = File::open(path) else { return false };
    if file.metadata().map_or(true, |m| m.len() != object.size) {
        return false;
    }
    let Ok(head) = bucket.head(&object.key).await else { return false };
    match Expected::of(head.headers(), &object.etag) {
        Expected::Length => object.size == 0,
        expected => check_file(&file, path, &expected, &what).is_ok(),
    }
}

/// Fetches `object` into `file`, which is empty. Bytes that are not the store's are fetched once
/// more before it is an error.
pub(crate) async fn fetch(
    bucket: &impl Origin,
    object: &Object,
    file: &File,
    path: &Path,
    permits: &Permits,
) -> Result<Fetched, Error> {
    let what = bucket.what(&object.key);
    let work = || async {
        file.set_len(0).map_err(|e| Error::file(path, e))?;
        if object.size <= STRETCH {
            whole(bucket, object, file, path, &what, permits).await
        } else {
            in_stretches(bucket, object, file, path, &what, permits).await
        }
    };
    match work().await {
        Err(error @ Error::Corrupt { .. }) => {
            tracing::warn!(%error, "fetching again");
            work().await
        }
        other => other,
    }
}

async fn whole(
    bucket: &impl Origin,
    object: &Object,
    file: &File,
    path: &Path,
    what: &str,
    permits: &Permits,
) -> Result<Fetched, Error> {
    let mut running: Option<Running> = None;
    let mut sink = Sink { file, path, at: 0, end: object.size };
    let fetched = stretch(bucket, object, what, permits, &mut sink, |bytes, response| {
        if let Some(response) = response {
            running.get_or_insert_with(|| Running::new(&Expected::of(response.headers(), &object.etag)));
        }
        if let Some(running) = &mut running {
            running.update(bytes);
        }
    })
    .await?;
    if let Some(running) = running {
        running.check(what)?;
    }
    Ok(fetched)
}

async fn in_stretches(
    bucket: &impl Origin,
    object: &Object,
    file: &File,
    path: &Path,
    what: &str,
    permits: &Permits,
) -> Result<Fetched, Error> {
    // Answers to ranges carry no checksum of the whole: HEAD does.
    let head = bucket.head(&object.key).await?;
    let expected = Expected::of(head.headers(), &object.etag);
    file.set_len(object.size).map_err(|e| Error::file(path, e))?;
    let starts: Vec<u64> = (0..object.size).step_by(STRETCH as usize).collect();
    let results: Vec<(Fetched, Option<u64>, u64)> = stream::iter(starts)
        .map(|start| {
            let expected = &expected;
            async move {
                let end = (start + STRETCH).min(object.size);
                let mut sink = Sink { file, path, at: start, end };
                // Only a CRC can be joined; an MD5 needs the file in order, below.
                let mut running = match expected {
                    Expected::Crc(..) => Running::new(expected),
                    _ => Running::Length,
                };
                let fetched =
                    stretch(bucket, object, what, permits, &mut sink, |bytes, _| running.update(bytes))
                        .await?;
                Ok::<_, Error>((fetched, running.crc(), end - start))
            }
        })
        .buffered(STRETCHES_AT_ONCE)
        .try_collect()
        .await?;
    match &expected {
        Expected::Crc(algorithm, value) => {
            let parts: Vec<(u64, u64)> =
                results.iter().filter_map(|(_, crc, length)| Some(((*crc)?, *length))).collect();
            check_joined(what, *algorithm, *value, &parts)?;
        }
        Expected::Md5(_) => check_file(file, path, &expected, what)?,
        Expected::Length => {}
    }
    let total = results.iter().fold(Fetched::default(), |sum, (f, ..)| Fetched {
        bytes: sum.bytes + f.bytes,
        resumed: sum.resumed + f.resumed,
    });
    Ok(total)
}

/// Reads the file once more to check what could not be checked while it came.
fn check_file(file: &File, path: &Path, expected: &Expected, what: &str) -> Result<(), Error> {
    let mut running = Running::new(expected);
    let mut buffer = vec![0; 1024 * 1024];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at).map_err(|e| Error::file(path, e))? {
            0 => return running.check(what),
            n => {
                running.update(&buffer[..n]);
                at += n as u64;
            }
        }
    }
}

/// Where a stretch goes, and how far it is.
struct Sink<'a> {
    file: &'a File,
    path: &'a Path,
    at: u64,
    end: u64,
}

/// Fetches from `sink.at` to `sink.end`; goes on where it broke off.
async fn stretch(
    bucket: &impl Origin,
    object: &Object,
    what: &str,
    permits: &Permits,
    sink: &mut Sink<'_>,
    mut seen: impl FnMut(&[u8], Option<&Response>),
) -> Result<Fetched, Error> {
    let _permit = permits.requests.acquire().await;
    let start = sink.at;
    let mut breaks = 0;
    loop {
        let response = request(bucket, object, what, sink).await?;
        let before = sink.at;
        seen(&[], Some(&response));
        let received = receive(response, sink, what, &mut seen).await;
        permits.received.fetch_add(sink.at - before, Relaxed);
        match received {
            Ok(()) => return Ok(Fetched { bytes: sink.end - start, resumed: breaks }),
            Err(error @ Error::Broken { .. }) if breaks < MAX_BREAKS && (sink.at > before || breaks < 5) => {
                breaks += 1;
                tracing::warn!(%error, at = sink.at, "going on where the connection broke off");
            }
            Err(error) => return Err(error),
        }
    }
}

async fn request(
    bucket: &impl Origin,
    object: &Object,
    what: &str,
    sink: &Sink<'_>,
) -> Result<Response, Error> {
    let partial = sink.at > 0 || sink.end < object.size;
    let mut headers = Vec::new();
    if !object.etag.is_empty() {
        headers.push(("if-match", format!("\"{}\"", object.etag)));
    }
    if partial {
        headers.push(("range", format!("bytes={}-{}", sink.at, sink.end - 1)));
    } else {
        headers.push((CHECKSUM_MODE.0, CHECKSUM_MODE.1.to_owned()));
    }
    let response = match bucket.get(&object.key, &headers).await {
        Err(Error::Answer { status: 412, .. }) => return Err(Error::Changed(what.to_owned())),
        other => other?,
    };
    if partial && response.status() != StatusCode::PARTIAL_CONTENT {
        return Err(Error::Unreadable {
            what: what.to_owned(),
            cause: format!("a range was asked for, and {} came", response.status()),
        });
    }
    Ok(response)
}

async fn receive(
    mut response: Response,
    sink: &mut Sink<'_>,
    what: &str,
    seen: &mut impl FnMut(&[u8], Option<&Response>),
) -> Result<(), Error> {
    let stalled = |_| Error::Broken { what: what.to_owned(), cause: "no byte came for a minute".to_owned() };
    while let Some(bytes) = tokio::time::timeout(SILENCE, response.chunk())
        .await
        .map_err(stalled)?
        .map_err(|e| broken(what, &e))?
    {
        let end = sink.at + bytes.len() as u64;
        if end > sink.end {
            return Err(Error::Corrupt {
                what: what.to_owned(),
                expected: format!("{} bytes", sink.end),
                found: "more".to_owned(),
            });
        }
        sink.file.write_all_at(&bytes, sink.at).map_err(|e| Error::file(sink.path, e))?;
        seen(&bytes, None);
        sink.at = end;
    }
    if sink.at < sink.end {
        let cause = format!("{} of {} bytes came", sink.at, sink.end);
        return Err(Error::Broken { what: what.to_owned(), cause });
    }
    Ok(())
}
