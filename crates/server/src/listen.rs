//! Accepts connections: as many as are allowed, each with a time limit on the head of every request, so
//! that a slow client holds nothing but its own connection.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo, response::IntoResponse};
use hyper::{
    Request, body::Incoming, header::CONNECTION, http::HeaderValue, server::conn::http1::Builder,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
};
use tower::ServiceExt;
use trainyard_api::Code;

use crate::{
    config::LimitsConfig,
    problem::{self, Refusal},
};

/// Connections past the limit that are answered at once; more are closed without a word.
const TURNED_AWAY: usize = 128;
/// How long one that is turned away may take to say what it wants.
const TURNING_AWAY: Duration = Duration::from_secs(2);
/// Pause when no connection can be accepted: those that end give file handles back.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` resolves; then requests under way have until `drain` is over.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    url: String,
    limits: &LimitsConfig,
    stop: impl Future<Output = ()>,
    drain: Duration,
) {
    let mut http = Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(limits.header_seconds));
    let places = Arc::new(Semaphore::new(limits.connections));
    let door = Arc::new(Semaphore::new(TURNED_AWAY));
    let (stopping, stops) = watch::channel(false);
    // Each connection holds one end: when the other sees them gone, all are over.
    let (open, mut all_closed) = mpsc::channel::<()>(1);
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            if let Ok(permit) = Arc::clone(&door).try_acquire_owned() {
                let url = url.clone();
                tokio::spawn(async move {
                    let _ = tokio::time::timeout(TURNING_AWAY, turn_away(stream, &url)).await;
                    drop(permit);
                });
            }
            continue;
        };
        let service =
            TowerToHyperService::new(router.clone().map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(ConnectInfo::<SocketAddr>(peer));
                request
            }));
        let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let (open, mut stops) = (open.clone(), stops.clone());
        tokio::spawn(async move {
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = async { let _ = stops.wait_for(|stop| *stop).await; } => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection broke");
            }
            drop((place, open));
        });
    }
    let _ = stopping.send(true);
    drop(open);
    let _ = tokio::time::timeout(drain, all_closed.recv()).await;
}

/// Answers one request by saying that there is no place.
async fn turn_away(stream: TcpStream, url: &str) {
    let busy = service_fn(|_: Request<Incoming>| {
        let message = "as many connections as the server takes are open: try again in a moment";
        let refusal = Refusal::new(Code::Busy, message).retry_after(1);
        let mut response = problem::write(refusal.into_response(), url);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        std::future::ready(Ok::<_, std::convert::Infallible>(response))
    });
    let _ = Builder::new().serve_connection(TokioIo::new(stream), busy).await;
}
