//! Serves the store over HTTP until told to stop.

use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONNECTION, CONTENT_LENGTH, EXPECT, HeaderValue},
    server::conn::http1::Builder,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use s3s::service::S3Service;
use std::{future::Future, time::Duration};
use tokio::net::TcpListener;

/// Longest wait for requests under way after the stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Longest time that a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Accepts connections until `stop` resolves, then lets requests under way end.
pub async fn serve(listener: TcpListener, service: S3Service, stop: impl Future<Output = ()>) {
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: connections that end give some back.
                tracing::warn!(%error, "cannot accept a connection to the object store");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        let polite = service_fn(move |request| close_after_expect(service.clone(), request));
        let connection = http.serve_connection(TokioIo::new(stream), polite);
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the object store broke");
            }
        });
    }
    let _ = tokio::time::timeout(DRAIN, graceful.shutdown()).await;
}

/// An answer to `Expect: 100-continue` that comes without a `100 Continue` before it, because
/// nothing of the body was read, ends the connection. The protocol would allow to go on, but
/// botocore then takes the status of this answer for that of the next one on the connection.
async fn close_after_expect(
    service: S3Service,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, s3s::HttpError> {
    let expects = request.headers().contains_key(EXPECT);
    let is_empty = request.headers().get(CONTENT_LENGTH).is_none_or(|l| l == "0");
    let mut response = service.call(request.map(s3s::Body::from)).await?;
    if expects && (is_empty || !response.status().is_success()) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
