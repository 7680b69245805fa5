//! Files as answers.

use axum::{
    body::Body as HttpBody,
    http::header,
    response::{IntoResponse, Response},
};
use trainyard_api::Code;

use crate::problem::{Answer, Refusal};

/// A file as an answer, streamed.
pub(crate) async fn file_answer(path: &std::path::Path, kind: &'static str) -> Answer<Response> {
    let file = tokio::fs::File::open(path).await.map_err(|e| match e.kind() {
        // Somebody cleaned up by hand: to ask again and again would not bring it back.
        std::io::ErrorKind::NotFound => Refusal::new(Code::NotFound, "the file is not there any more"),
        _ => Refusal::internal(e),
    })?;
    let size = file.metadata().await.map_err(Refusal::internal)?.len();
    let stream = tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024);
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_LENGTH, size.to_string())];
    Ok((headers, HttpBody::from_stream(stream)).into_response())
}
