//! Delivers events and log to the server: at least once, in order, as fast as the server takes
//! them, and again after it was away. The server keeps each once.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};
use trainyard_api::{
    Time,
    runner::{Ack, Reported, RunnerEvent},
};

use trainyard_breakpoints::break_point;
use trainyard_transfer::Guard;

use crate::{
    Error,
    link::{Link, LinkError, Pauses},
    points::Points,
    spool::Spool,
    tail::Tail,
};

/// Log bytes of one request.
const BATCH: u64 = 1024 * 1024;
/// Pause after a delivery of log: lines gather meanwhile. It also bounds what delivering takes from
/// a program that prints faster than anybody reads: a batch per pause, 40 MB/s, until it has ended.
const GATHER: Duration = Duration::from_millis(25);
/// Bytes of a log that are kept: what a program prints behind them is nobody's to read.
pub(crate) const MOST_LOG: u64 = 64 << 30;
/// Wait for more before events are sent: a short program starts and ends within it.
const SETTLE: Duration = Duration::from_millis(10);
/// A sign of life when there is nothing to say; the answer tells whether a cancel came.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// How long an answer of the server is good for: then something may be stored no more. It is shorter than a
/// cluster takes to give a node up.
const LEASE: Duration = Duration::from_secs(15);

/// What the server told this runner to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Told {
    /// Go on.
    #[default]
    Work,
    /// Stop the program and store.
    Cancel,
    /// The same, because another learner failed: in words.
    End(String),
    /// Leave: another attempt took over.
    Leave(String),
}

struct Shared {
    pending: Mutex<Vec<Reported>>,
    wake: Notify,
    /// Bytes of this attempt's log that the server has.
    delivered: AtomicU64,
    /// Bytes of the file that belong to an earlier attempt, and were delivered by it.
    skipped: u64,
    /// Delivered bytes that are no longer in the file, because the program cut it.
    cut: AtomicU64,
    /// Collected metrics, how many bytes of the file belong to an earlier attempt, and how many of this
    /// attempt's the server has.
    points: Points,
    points_skipped: u64,
    points_delivered: AtomicU64,
    told: watch::Sender<Told>,
    /// When the server answered last.
    answered: Mutex<Instant>,
}

impl Shared {
    /// Takes what the server said for an order, unless there is one.
    fn told_by(&self, ack: &Ack) {
        let order = match &ack.end {
            _ if ack.cancel => Told::Cancel,
            Some(why) => Told::End(why.clone()),
            None => return,
        };
        self.told.send_if_modified(|told| {
            let news = *told == Told::Work;
            if news {
                *told = order;
            }
            news
        });
    }
}

/// Takes events and delivers them in the background.
pub(crate) struct Reporter {
    shared: Arc<Shared>,
    spool: Mutex<(Spool, u64)>,
    worker: Option<JoinHandle<Result<(), Error>>>,
    finishing: watch::Sender<bool>,
    listener: Option<JoinHandle<()>>,
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

impl Reporter {
    /// Begins to deliver log and metrics, each behind the first bytes that are to be skipped, and the
    /// events that follow.
    pub(crate) fn start(link: Link, log: (PathBuf, u64), points: (Points, u64), spool: Spool) -> Self {
        let (log, skipped) = log;
        let (points, points_skipped) = points;
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            wake: Notify::new(),
            delivered: AtomicU64::new(0),
            skipped,
            cut: AtomicU64::new(0),
            points,
            points_skipped,
            points_delivered: AtomicU64::new(0),
            told: watch::channel(Told::Work).0,
            answered: Mutex::new(Instant::now()),
        });
        let (finishing, finish) = watch::channel(false);
        let worker = Worker { link, log, shared: Arc::clone(&shared), finish };
        let worker = Some(tokio::spawn(worker.work()));
        Self { shared, spool: Mutex::new((spool, 0)), worker, finishing, listener: None }
    }

    /// Hears at once what the server has to say, where nobody nudges this runner.
    pub(crate) fn listen(&mut self, link: Link) {
        let shared = Arc::clone(&self.shared);
        self.listener = Some(tokio::spawn(async move {
            let mut pauses = Pauses::default();
            loop {
                match link.news().await {
                    Ok(ack) => {
                        pauses = Pauses::default();
                        shared.told_by(&ack);
                        if *shared.told.borrow() != Told::Work {
                            return;
                        }
                    }
                    // Whoever delivers finds that out, and leaves.
                    Err(LinkError::Fenced(_)) => return shared.wake.notify_one(),
                    Err(LinkError::Away(why)) if pauses.rest(&why).await.is_err() => return,
                    Err(LinkError::Away(_)) => {}
                }
            }
        }));
    }

    /// Notes that something happened; it is on disk when this returns, and delivered later.
    pub(crate) fn event(&self, event: RunnerEvent) {
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        spool.1 += 1;
        let flush = matches!(event, RunnerEvent::Exited { .. });
        let point = match event {
            RunnerEvent::Exited { .. } => Some("spool:exited"),
            RunnerEvent::Finished { .. } => Some("spool:finished"),
            _ => None,
        };
        let reported = Reported { seq: spool.1, at: Time::now(), event };
        if let Err(error) = spool.0.keep(&reported, flush) {
            // The event still goes out; only a runner that dies now would forget it.
            tracing::error!(%error, "the spool cannot be written");
        }
        if let Some(point) = point {
            break_point(point);
        }
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).push(reported);
        self.shared.wake.notify_one();
    }

    /// Notes on disk that the program is about to be started.
    pub(crate) fn starting(&self, spool: &Path) -> std::io::Result<()> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner).0.note_start(Time::now(), spool)
    }

    /// Keeps a small log for a later runner of this run.
    pub(crate) fn note(&self, name: &str, text: &str) -> std::io::Result<()> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner).0.note(name, text)
    }

    /// Asks the server at once whether there is something to do, and delivers what there is.
    pub(crate) fn ask(&self) {
        self.shared.wake.notify_one();
    }

    /// The same, for somebody who outlives this reference.
    pub(crate) fn asker(&self) -> impl Fn() + Send + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.wake.notify_one()
    }

    /// Lets nothing be stored while it may be that another attempt took this one's place without our
    /// hearing of it: the server has to have answered a moment ago.
    pub(crate) fn guard(&self) -> Guard {
        let shared = Arc::clone(&self.shared);
        Arc::new(move || {
            if matches!(*shared.told.borrow(), Told::Leave(_)) {
                return Some("another attempt took over".to_owned());
            }
            let silence = shared.answered.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
            (silence > LEASE).then(|| {
                shared.wake.notify_one();
                "the server has not answered for a while, and may have started another attempt".to_owned()
            })
        })
    }

    /// What the server said last, and what it will say.
    pub(crate) fn told(&self) -> watch::Receiver<Told> {
        self.shared.told.subscribe()
    }

    /// Delivers the rest of the log, then `last`, and ends.
    pub(crate) async fn finish(mut self, last: RunnerEvent) -> Result<(), Error> {
        self.event(last);
        let _ = self.finishing.send(true);
        let Some(worker) = self.worker.take() else { return Ok(()) };
        match worker.await {
            Ok(result) => result,
            Err(error) => Err(Error::Fenced(format!("the reporter stopped: {error}"))),
        }
    }
}

struct Worker {
    link: Link,
    log: PathBuf,
    shared: Arc<Shared>,
    finish: watch::Receiver<bool>,
}

impl Worker {
    async fn work(mut self) -> Result<(), Error> {
        let result = self.deliver_all().await;
        if let Err(error) = &result {
            let _ = self.shared.told.send(Told::Leave(error.to_string()));
        }
        result
    }

    async fn deliver_all(&mut self) -> Result<(), Error> {
        let mut tail = Tail::new(&self.log);
        let mut pauses = Pauses::default();
        let mut force = false;
        loop {
            match self.deliver(force).await {
                Ok(()) => pauses = Pauses::default(),
                Err(LinkError::Fenced(why)) => return Err(Error::Fenced(why)),
                Err(LinkError::Away(why)) => {
                    pauses.rest(&why).await?;
                    continue;
                }
            }
            if *self.finish.borrow() && self.is_idle() {
                return Ok(());
            }
            let seen = self.shared.skipped + self.delivered() - self.shared.cut.load(Relaxed);
            force = tokio::select! {
                () = tail.grown(seen) => {
                    // What is written and what happens next comes along.
                    let _ = tokio::time::timeout(GATHER, self.finish.changed()).await;
                    false
                }
                () = self.shared.wake.notified() => {
                    let _ = tokio::time::timeout(SETTLE, self.finish.changed()).await;
                    true
                }
                _ = self.finish.changed() => false,
                () = tokio::time::sleep(HEARTBEAT) => true,
            };
        }
    }

    fn is_idle(&self) -> bool {
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Delivers what there is: first log and metrics up to now, then the events, so that nobody who
    /// sees a run end misses its last words. Without events one batch is enough: the caller paces them.
    /// `force` asks even with nothing to say.
    async fn deliver(&self, force: bool) -> Result<(), LinkError> {
        let events = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let most = if events.is_empty() { self.delivered() + BATCH } else { u64::MAX };
        // Up to here and no further: a program that prints without end keeps no event back.
        let end = self.log_size().min(most);
        while let Some((offset, bytes)) = self.next_bytes(end) {
            let ack = self.link.bytes("log", offset, bytes).await?;
            self.heed(&ack);
        }
        while let Some((offset, bytes)) = self.next_points() {
            let ack = self.link.bytes("metrics", offset, bytes).await?;
            self.heed(&ack);
        }
        if events.is_empty() && !force {
            return Ok(());
        }
        let ack = self.link.events(&events).await?;
        if !events.is_empty() {
            break_point("runner:delivered");
        }
        let mut pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.retain(|e| e.seq > ack.seq);
        drop(pending);
        self.heed(&ack);
        Ok(())
    }

    fn heed(&self, ack: &Ack) {
        *self.shared.answered.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.shared.delivered.store(ack.log, Relaxed);
        self.shared.points_delivered.store(ack.metrics, Relaxed);
        self.shared.told_by(ack);
    }

    /// Bytes of this attempt's log that the server has.
    fn delivered(&self) -> u64 {
        self.shared.delivered.load(Relaxed)
    }

    /// Bytes of this attempt's log that there are, or were.
    fn log_size(&self) -> u64 {
        let here = std::fs::metadata(&self.log).map_or(0, |m| m.len()).saturating_sub(self.shared.skipped);
        let delivered = self.delivered();
        if self.shared.cut.load(Relaxed) + here < delivered {
            // It holds its own output and may do that: what it prints now goes on behind.
            self.shared.cut.store(delivered, Relaxed);
        }
        (self.shared.cut.load(Relaxed) + here).min(MOST_LOG)
    }

    /// The next batch of metrics that is not delivered yet. Those of a run are its first learner's.
    fn next_points(&self) -> Option<(u64, Vec<u8>)> {
        if !self.link.is_first() {
            return None;
        }
        let Shared { points, points_skipped, points_delivered, .. } = &*self.shared;
        let offset = points_delivered.load(Relaxed);
        let size = points.size().saturating_sub(points_skipped + offset).min(BATCH);
        if size == 0 {
            return None;
        }
        let bytes = points.read_at(points_skipped + offset, size).ok()?;
        (!bytes.is_empty()).then_some((offset, bytes))
    }

    /// The next batch that is not delivered yet, up to `end`.
    fn next_bytes(&self, end: u64) -> Option<(u64, Vec<u8>)> {
        let offset = self.delivered();
        let size = end.saturating_sub(offset).min(BATCH);
        if size == 0 {
            return None;
        }
        let cut = self.shared.cut.load(Relaxed);
        let mut bytes = vec![0; size as usize];
        let n = File::open(&self.log).ok()?.read_at(&mut bytes, self.shared.skipped + offset - cut).ok()?;
        bytes.truncate(n);
        (n > 0).then_some((offset, bytes))
    }
}
