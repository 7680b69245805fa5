//! Bodies that are files: streamed to disk beside where they will lie, hashed, and bounded in size, in
//! number, and in the time that they may stall.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use axum::extract::Request;
use futures::StreamExt;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use trainyard_api::Code;

use crate::{
    problem::{Answer, Refusal},
    state::App,
};

/// Longest silence of a client in the middle of a body.
const SILENCE: Duration = Duration::from_mins(1);

/// Bytes a second that are expected, after the first minute.
const LEAST_RATE: u64 = 16 * 1024;

/// A body that has come whole.
pub(crate) struct Upload {
    pub(crate) file: NamedTempFile,
    /// SHA-256, in hexadecimal.
    pub(crate) sha256: String,
    /// Bytes.
    pub(crate) size: u64,
}

/// Receives the body of a request of `owner`; `too_large` is the answer to one of more than `most` bytes.
pub(crate) async fn receive(
    app: &App,
    owner: &str,
    request: Request,
    most: u64,
    too_large: impl FnOnce(u64) -> Refusal,
) -> Answer<Upload> {
    let Some(_place) = app.uploads.take(owner) else {
        return Err(
            Refusal::new(Code::Busy, "too many uploads at once: try again in a moment").retry_after(1)
        );
    };
    let mut file = NamedTempFile::new_in(app.folder.tmp()).map_err(disk)?;
    let mut hash = Sha256::new();
    let mut size = 0u64;
    let mut body = request.into_body().into_data_stream();
    let begun = Instant::now();
    loop {
        // One byte a minute is no silence, and holds the place of others all the same.
        if begun.elapsed() > SILENCE + Duration::from_secs(size / LEAST_RATE) {
            return Err(Refusal::new(
                Code::Request,
                "the body came too slowly: 16 KiB a second are expected",
            ));
        }
        let stalled = |_| Refusal::new(Code::Request, "the body stalled for a minute");
        let Some(chunk) = tokio::time::timeout(SILENCE, body.next()).await.map_err(stalled)? else { break };
        let chunk = chunk.map_err(|e| Refusal::new(Code::Request, format!("the body broke off: {e}")))?;
        size += chunk.len() as u64;
        if size > most {
            return Err(too_large(size));
        }
        hash.update(&chunk);
        file.write_all(&chunk).map_err(disk)?;
    }
    Ok(Upload { file, sha256: hex::encode(hash.finalize()), size })
}

/// The data folder cannot be written.
#[expect(clippy::needless_pass_by_value, reason = "for use in `map_err`")]
pub(crate) fn disk(error: std::io::Error) -> Refusal {
    tracing::error!(%error, "the data folder cannot be used");
    Refusal::new(Code::ServerStorage, "the server cannot write its data folder: its disk may be full")
}
