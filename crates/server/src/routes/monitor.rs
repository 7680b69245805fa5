//! The monitor WebSocket: the log from the start or near its end, changes of state, and a normal
//! close when the run is over.

use std::time::{Duration, Instant};

use axum::{
    Extension,
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket, close_code},
    },
    response::Response,
};
use serde::Deserialize;
use trainyard_api::{Code, Frame, FrameStatus, Metric, Phase, Time};
use trainyard_store::{Caller, Record};
use utoipa::{IntoParams, ToSchema};

use super::{Stops, documented::Refused, runs};
use crate::{
    auth::User,
    extract::{Path, Query},
    logs::RunLog,
    points,
    problem::{Answer, Refusal},
    state::App,
};

/// Log bytes of one frame at most.
const FRAME: usize = 64 * 1024;
/// Frames of the log before metrics have their turn.
const FRAMES_A_TURN: usize = 16;
/// Lines that `last` may ask for.
const MOST_LINES: usize = 100_000;
/// Longest wait for a client that does not read.
const SLOW_CLIENT: Duration = Duration::from_mins(1);
/// Time between pings, so that a client that is gone is noticed; and between two looks at whether its user's
/// tokens were revoked.
const PING: Duration = Duration::from_secs(30);

/// Query of the monitor.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// Start this many lines back, and as many metrics.
    last: Option<usize>,
    /// Trainyard: start at this byte of the log.
    offset: Option<u64>,
    /// Trainyard: start at this byte of the metrics, from `metrics_seen` of a frame.
    metrics: Option<u64>,
    /// Trainyard: start at what arrived at this time or later, in milliseconds since 1970.
    since: Option<i64>,
    /// Trainyard: `false` closes after what is there.
    follow: Option<bool>,
    /// Trainyard: the log of this learner, from 1, where there are several.
    learner: Option<u32>,
    /// Trainyard: `log`, `metrics` or `state`: frames of one kind alone, besides changes of state.
    only: Option<Only>,
}

/// What a monitor can be asked for alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Only {
    Log,
    Metrics,
    State,
}

/// Monitor a training run: a WebSocket.
///
/// The server sends text frames: changes of state, lines of the log, and one metric a frame; from the
/// start unless something else is asked for. It closes normally (1000) when the run is over.
#[utoipa::path(
    get, path = "/v3/models/{run}/monitor", tag = "training runs",
    params(("run" = String, Path, description = "Id of the run"), Wanted),
    responses((status = 101, description = "The WebSocket begins"), Refused),
)]
pub(crate) async fn monitor(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
    Extension(Stops(stops)): Extension<Stops>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Answer<Response> {
    let record = runs::find(&app, &caller, &id)?;
    let learners = record.spec.learners();
    if let Some(learner) = wanted.learner.filter(|n| *n == 0 || *n > learners) {
        let message = format!("there is no learner {learner}: {id} has {learners}");
        return Err(Refusal::new(Code::Request, message));
    }
    let upgrade = upgrade.map_err(|e| Refusal::new(Code::Request, format!("this is a WebSocket: {e}")))?;
    // Clients have nothing to say here.
    let upgrade = upgrade.max_message_size(4096).max_frame_size(4096);
    let upgrade = upgrade.read_buffer_size(1024).write_buffer_size(0);
    let Some(place) = app.monitors.take(&caller.owner) else {
        return Err(Refusal::new(Code::Busy, "too many monitors are open: try again later").retry_after(10));
    };
    Ok(upgrade.on_upgrade(move |socket| async move {
        let _place = place;
        let mut session = Session { app, caller, record, socket, offset: 0, metrics: 0, phase: None };
        let result = session.run(&wanted, stops).await;
        let ended = result.is_ok();
        let code = if ended { close_code::NORMAL } else { close_code::AWAY };
        let close = CloseFrame { code, reason: "".into() };
        let _ = tokio::time::timeout(SLOW_CLIENT, session.socket.send(Message::Close(Some(close)))).await;
    }))
}

/// The client is gone, or may see no more, or the server stops.
struct Gone;

struct Session {
    app: App,
    caller: Caller,
    record: Record,
    socket: WebSocket,
    /// Bytes of the log that are sent.
    offset: u64,
    /// Bytes of the metrics that are sent.
    metrics: u64,
    phase: Option<Phase>,
}

impl Session {
    async fn run(
        &mut self,
        wanted: &Wanted,
        mut stops: tokio::sync::watch::Receiver<bool>,
    ) -> Result<(), Gone> {
        let id = self.record.id.clone();
        let learner = wanted.learner.unwrap_or(1);
        let log = self.app.logs.of_learner(&id, learner);
        let metrics = self.app.metrics.of(&id);
        self.offset = match wanted {
            Wanted { offset: Some(offset), .. } => *offset,
            Wanted { since: Some(ms), .. } => log.since(Time(*ms)),
            Wanted { last: Some(lines), .. } => log.last_lines((*lines).min(MOST_LINES)),
            _ => 0,
        };
        self.metrics = match wanted {
            Wanted { metrics: Some(offset), .. } => *offset,
            Wanted { last: Some(points), .. } => metrics.last_lines((*points).min(MOST_LINES)),
            _ => 0,
        };
        // Woken by what any learner logs.
        let mut pulse = self.app.logs.of(&id).follow();
        let mut looked = Instant::now();
        loop {
            if looked.elapsed() >= PING {
                looked = Instant::now();
                let Caller { owner, generation, .. } = &self.caller;
                if !self.app.store.is_generation(owner, *generation).unwrap_or(true) {
                    return Err(Gone);
                }
            }
            pulse.borrow_and_update();
            // The state first: what an ended run wrote is all there.
            let Ok(record) = self.app.store.run(&id) else { return Ok(()) };
            self.record = record;
            let ended = self.record.run.is_ended();
            // By turns: a program that prints without end holds back neither metrics nor the state.
            let more_log =
                matches!(wanted.only, None | Some(Only::Log)) && self.send_log(&log, ended).await?;
            let more_metrics =
                matches!(wanted.only, None | Some(Only::Metrics)) && self.send_metrics(&metrics).await?;
            self.send_phase().await?;
            if more_log || more_metrics {
                if *stops.borrow() {
                    return Err(Gone);
                }
                continue;
            }
            if ended || wanted.follow == Some(false) {
                if ended {
                    self.app.logs.close(&id);
                    self.app.metrics.close(&id);
                }
                return self.send(format!("{id}: "), false, None).await;
            }
            tokio::select! {
                // A log is closed when its run ends: then, too, look once more.
                _ = pulse.changed() => {}
                () = async { let _ = stops.wait_for(|s| *s).await; } => return Err(Gone),
                message = self.socket.recv() => match message {
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(Gone),
                    Some(Ok(_)) => {}
                },
                () = tokio::time::sleep(PING) => self.deliver(Message::Ping(Vec::new().into())).await?,
            }
        }
    }

    /// Sends whole lines; at the end of the run also a last one without a line end. Returns whether there
    /// is more.
    async fn send_log(&mut self, log: &RunLog, ended: bool) -> Result<bool, Gone> {
        for _ in 0..FRAMES_A_TURN {
            let bytes = log.read(self.offset, FRAME);
            if bytes.is_empty() {
                return Ok(false);
            }
            let lines = bytes.iter().rposition(|b| *b == b'\n').map(|at| at + 1);
            let take = match lines {
                Some(take) => take,
                None if bytes.len() == FRAME => whole_characters(&bytes),
                None if ended => bytes.len(),
                // A progress bar without line ends is shown as it goes.
                None => whole_characters(&bytes),
            };
            if take == 0 {
                return Ok(false);
            }
            self.offset += take as u64;
            let text = String::from_utf8_lossy(&bytes[..take]).into_owned();
            self.send(text, true, None).await?;
        }
        Ok(true)
    }

    /// One metric a frame: clients of the original look at the first of each. Returns whether there is more.
    async fn send_metrics(&mut self, log: &RunLog) -> Result<bool, Gone> {
        let (points, end) = points::read(log, self.metrics);
        let more = end > self.metrics;
        for (metric, behind) in points {
            self.metrics = behind;
            self.send(String::new(), false, Some(metric)).await?;
        }
        self.metrics = end;
        Ok(more)
    }

    async fn send_phase(&mut self) -> Result<(), Gone> {
        let phase = self.record.run.phase();
        if self.phase == Some(phase) {
            return Ok(());
        }
        self.phase = Some(phase);
        self.send(String::new(), false, None).await
    }

    async fn send(&mut self, message: String, log: bool, metric: Option<Metric>) -> Result<(), Gone> {
        let run = &self.record.run;
        let frame = Frame {
            status: FrameStatus {
                state: Some(run.api_state()),
                message,
                metrics: metric.into_iter().collect(),
                submitted_at: run.submitted_at,
                current_at: Time::now(),
                phase: Some(run.phase()),
                log,
                offset: Some(self.offset),
                metrics_seen: Some(self.metrics),
            },
        };
        let text = serde_json::to_string(&frame).map_err(|_| Gone)?;
        self.deliver(Message::Text(text.into())).await
    }

    async fn deliver(&mut self, message: Message) -> Result<(), Gone> {
        match tokio::time::timeout(SLOW_CLIENT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Gone),
        }
    }
}

/// Bytes up to the end of the last whole character.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        // Cut inside a character: it comes with the next frame.
        Err(e) if e.error_len().is_none() && e.valid_up_to() > 0 => e.valid_up_to(),
        _ => bytes.len(),
    }
}
