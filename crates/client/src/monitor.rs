//! The monitor of a run, taken up again where it broke off.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{
        Error as WsError, Message,
        client::IntoClientRequest,
        http::{HeaderValue, StatusCode},
        protocol::frame::coding::CloseCode,
    },
};
use trainyard_api::{Code, Frame, Problem};

use crate::{Client, Failed, client::said};

/// Where a monitor begins, and whether it goes on.
#[derive(Clone, Debug, Default)]
pub struct MonitorOptions {
    /// Start this many lines back.
    pub last: Option<usize>,
    /// Start at what arrived at this time or later, in milliseconds since 1970.
    pub since: Option<i64>,
    /// Close after what is there.
    pub no_follow: bool,
    /// Frames of one kind alone: `log`, `metrics` or `state`.
    pub only: Option<&'static str>,
    /// Whose log, where a run has several learners; absent: the first one's.
    pub learner: Option<u32>,
}

/// First and longest pause before a broken monitor is taken up again.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Longest silence of a live server.
const SILENCE: Duration = Duration::from_secs(75);

/// Frames of one run.
pub struct Monitor {
    client: Client,
    run: String,
    options: MonitorOptions,
    /// Bytes of log that have come.
    offset: Option<u64>,
    /// Bytes of metrics that have come.
    metrics: Option<u64>,
    socket: Option<WebSocketStream<MaybeTlsStream<TcpStream>>>,
}

impl Client {
    /// Opens the monitor of a run.
    pub async fn monitor(&self, run: &str, options: MonitorOptions) -> Result<Monitor, Failed> {
        let mut monitor = Monitor {
            client: self.clone(),
            run: run.to_owned(),
            options,
            offset: None,
            metrics: None,
            socket: None,
        };
        monitor.connect().await?;
        Ok(monitor)
    }
}

impl Monitor {
    async fn connect(&mut self) -> Result<(), Failed> {
        let mut url = self.client.base.clone();
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        let bad = || Problem::new(Code::Configuration, "the server's address cannot be used for a monitor");
        url.set_scheme(scheme).map_err(|()| bad())?;
        url.set_path(&format!("{}/v3/models/{}/monitor", url.path().trim_end_matches('/'), self.run));
        {
            let mut query = url.query_pairs_mut();
            if let Some(offset) = self.offset {
                query.append_pair("offset", &offset.to_string());
            } else if let Some(ms) = self.options.since {
                query.append_pair("since", &ms.to_string());
            } else if let Some(lines) = self.options.last {
                query.append_pair("last", &lines.to_string());
            }
            if let Some(metrics) = self.metrics {
                query.append_pair("metrics", &metrics.to_string());
            }
            if let Some(only) = self.options.only {
                query.append_pair("only", only);
            }
            if let Some(learner) = self.options.learner {
                query.append_pair("learner", &learner.to_string());
            }
            query.append_pair("follow", if self.options.no_follow { "false" } else { "true" });
        }
        let mut request = url.as_str().into_client_request().map_err(|_| bad())?;
        let header = format!("Bearer {}", self.client.token().await?.expose());
        let header = HeaderValue::from_str(&header).map_err(|_| bad())?;
        request.headers_mut().insert("authorization", header);
        match connect_async(request).await {
            Ok((socket, _)) => {
                self.socket = Some(socket);
                Ok(())
            }
            Err(WsError::Http(response)) => {
                // As far as it has come.
                if let Some(refusal) = response.body().as_deref().and_then(said) {
                    return Err(refusal);
                }
                let code = match response.status() {
                    StatusCode::UNAUTHORIZED => Code::Unauthenticated,
                    StatusCode::NOT_FOUND => Code::NotFound,
                    StatusCode::SERVICE_UNAVAILABLE => Code::Busy,
                    _ => Code::Internal,
                };
                let message = match code {
                    Code::Unauthenticated => "the token is not known".to_owned(),
                    Code::NotFound => format!("there is no training run `{}`", self.run),
                    Code::Busy => "as many monitors as the server takes are open".to_owned(),
                    _ => format!("the server answered {}", response.status()),
                };
                Err(Problem::new(code, message).into())
            }
            Err(error) => {
                let message = format!("{} does not answer: {error}", self.client.url());
                Err(Problem::new(Code::ServerUnreachable, message).into())
            }
        }
    }

    /// The next frame; `None` when the run is over and everything has come. A connection that
    /// breaks, or a server that restarts, is waited for.
    pub async fn next(&mut self) -> Result<Option<Frame>, Failed> {
        let mut pause = FIRST_PAUSE;
        loop {
            let Some(socket) = &mut self.socket else {
                match self.connect().await {
                    Ok(()) => {}
                    Err(error) if matches!(error.code(), Code::ServerUnreachable | Code::Busy) => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                    Err(error) => return Err(error),
                }
                continue;
            };
            // The server pings every 30 s: a longer silence is a connection that is gone.
            let Ok(message) = tokio::time::timeout(SILENCE, socket.next()).await else {
                self.socket = None;
                continue;
            };
            match message {
                Some(Ok(Message::Text(text))) => {
                    let Ok(frame) = serde_json::from_str::<Frame>(&text) else { continue };
                    self.offset = frame.status.offset.or(self.offset);
                    self.metrics = frame.status.metrics_seen.or(self.metrics);
                    return Ok(Some(frame));
                }
                Some(Ok(Message::Close(Some(close)))) if close.code == CloseCode::Normal => {
                    let _ = socket.close(None).await;
                    return Ok(None);
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => {
                    self.socket = None;
                    tokio::time::sleep(FIRST_PAUSE).await;
                }
                Some(Ok(Message::Ping(_))) => {
                    let _ = socket.flush().await;
                }
                Some(Ok(_)) => {}
            }
        }
    }
}
