//! Stores results and logs: now and then while the program runs, and completely after it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use bytes::Bytes;
use serde::Serialize;
use tokio::{sync::watch, task::JoinHandle};
use trainyard_api::{
    Failure, Time,
    runner::{Exit, OUTPUT, WorkOrder},
};
use trainyard_breakpoints::break_point;
use trainyard_transfer::{
    Bucket, Error as TransferError, Guard, Http, Inventory, Ledger, Past as Known, Upload,
};

use crate::{
    Error,
    layout::Layout,
    points::{EMETRICS, Points, own_size},
    reporter::{MOST_LOG, Reporter, Told},
    spool::Past,
    stage_in::CHECKPOINTS,
};

/// Time between two uploads while the program runs, at least. A pass that takes long is followed
/// by a pause ten times as long, so that uploading never takes more than a tenth of the time.
const PAUSE: Duration = Duration::from_secs(5);
const PAUSE_FACTOR: u32 = 10;
/// How long a store that is away is waited for when there are results, and when there is only the
/// log of a program that never ran, which the server has too.
pub(crate) const RESULTS_PATIENCE: Duration = Duration::from_hours(24);
pub(crate) const LOG_PATIENCE: Duration = Duration::from_secs(10);
/// The same once the run was canceled.
const CANCELED_PATIENCE: Duration = Duration::from_mins(1);
/// Pauses between tries.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// What is written last beside the logs: whoever sees it sees everything of the learner.
const MARKER: &str = ".log-copy-complete";

/// The marker's content.
#[derive(Serialize)]
struct Marker<'a> {
    run: &'a str,
    attempt: u32,
    exit: Option<Exit>,
    failure: Option<&'a Failure>,
    files: Inventory,
    /// What is not stored, with the reason: links that lead out, names that are not UTF-8, what cannot be read,
    /// checkpoints that another run has stored since.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    left_out: BTreeMap<String, String>,
}

/// The results of a run on their way.
pub(crate) struct Output {
    results: Upload,
    /// Where the logs go, below the upload's prefix.
    logs: String,
    /// Where what the program wrote goes.
    below: &'static str,
    /// Only where the program may have changed some: what was being fetched when an attempt
    /// broke off must not go back over what other runs have stored.
    checkpoints: Option<Upload>,
    /// Names and texts of logs that were never files.
    notes: Vec<(String, String)>,
    /// The program may have written something. Where none was started, what lies in its folders is
    /// not its own.
    began: bool,
    layout: Layout,
    run: String,
    /// Collected metrics; absent where no program was started.
    points: Option<Points>,
    /// How many bytes of them, and of the program's own file, the stored file was made of.
    points_stored: (u64, u64),
    /// Another attempt may take this one's place unnoticed: what is asked before anything is stored.
    guard: Option<Guard>,
    /// It goes on where a lost runner stopped: when that one's program was started.
    lost: Option<Time>,
    /// What the lost runner is said to have stored was looked for.
    checked: bool,
    /// Somebody may have stored before: an attempt before this one, or a lost runner of this one.
    after_others: bool,
}

impl Output {
    /// For a run whose program was not started: its log.
    pub(crate) fn of_log(
        order: &WorkOrder,
        layout: &Layout,
        http: &Http,
        guard: Option<Guard>,
    ) -> Result<Self, Error> {
        // What the first learner writes is the run's; what the others write is below their own names.
        let (place, logs, below) = match order.learner {
            1 => (format!("{}/", order.run), learner_folder(1), ""),
            other => (format!("{}/{}", order.run, learner_folder(other)), String::new(), "results/"),
        };
        let mut results = Upload::new(bucket(order, http, guard.clone())?, place);
        if order.attempt > 1 {
            // Whatever became of the attempt before this one, and of what it noted.
            results = results.after_others();
        }
        Ok(Self {
            results,
            logs,
            below,
            checkpoints: None,
            notes: Vec::new(),
            began: false,
            layout: layout.clone(),
            run: order.run.to_string(),
            points: None,
            points_stored: (0, 0),
            guard,
            lost: None,
            checked: false,
            after_others: order.attempt > 1,
        })
    }

    /// For a run whose program is about to be started.
    pub(crate) fn new(
        order: &WorkOrder,
        layout: &Layout,
        http: &Http,
        checkpoints: Upload,
        guard: Option<Guard>,
        notes: Vec<(String, String)>,
        points: Points,
    ) -> Result<Self, Error> {
        let (checkpoints, points) = (Some(checkpoints), Some(points));
        Ok(Self { checkpoints, notes, points, began: true, ..Self::of_log(order, layout, http, guard)? })
    }

    /// With a ledger of what is stored of the results. The checkpoints have one already.
    pub(crate) fn noted_in(self, ledger: Arc<Ledger>) -> Self {
        Self { results: self.results.noted_in(ledger), ..self }
    }

    /// For what a lost runner left: what its program wrote since that runner stored it last. The ledger tells what
    /// that is; of a runner of an earlier release, which kept none, the times of files do.
    pub(crate) fn salvaged(
        order: &WorkOrder,
        layout: &Layout,
        http: &Http,
        past: &Past,
        points: Points,
        guard: Option<Guard>,
    ) -> Result<Self, Error> {
        let known = Known::read(&layout.ledger).map_err(Error::StageOut)?;
        let checkpoints = Upload::new(bucket(order, http, guard.clone())?, CHECKPOINTS.to_owned());
        let mut checkpoints = checkpoints.giving_way();
        let mut output = Self::of_log(order, layout, http, guard)?;
        if let Some(known) = &known {
            let ledger = Arc::new(Ledger::go_on(&layout.ledger).map_err(Error::StageOut)?);
            output = output.noted_in(Arc::clone(&ledger));
            output.results.resume(known, &layout.root);
            checkpoints = checkpoints.noted_in(ledger);
            checkpoints.resume(known, &layout.root);
        } else if let Some(start) = past.started {
            let start = UNIX_EPOCH + Duration::from_millis(u64::try_from(start.0).unwrap_or(0));
            checkpoints.adopt_older(&layout.checkpoints, "", start);
        }
        output.after_others = true;
        output.results = output.results.after_others();
        output.lost = past.started;
        output.began = past.started.is_some();
        output.checkpoints = output.began.then_some(checkpoints);
        Ok(Self { notes: past.notes.clone(), points: Some(points), ..output })
    }

    /// Stores what is new.
    async fn pass(&mut self) -> Result<(), TransferError> {
        while let Some((name, text)) = self.notes.last() {
            self.results.put(&format!("{}{name}", self.logs), Bytes::from(text.clone())).await?;
            self.notes.pop();
        }
        let (mut results, mut logs) = (Ok(()), Ok(()));
        if self.began {
            results = self.results.sync(&self.layout.results, self.below).await;
            logs = self.results.sync(&self.layout.logs, &self.logs).await.and(self.store_points().await);
        }
        let key = format!("{}{OUTPUT}", self.logs);
        let output = if self.is_shorter_than_stored(&key).await? {
            Ok(())
        } else {
            self.results.sync_file(&self.layout.root, OUTPUT, &key, MOST_LOG).await
        };
        let checkpoints = match &mut self.checkpoints {
            Some(upload) => upload.sync(&self.layout.checkpoints, "").await,
            None => Ok(()),
        };
        results.and(logs).and(output).and(checkpoints)
    }

    /// Where no program was started here, the log of one before may be whole only in the bucket.
    async fn is_shorter_than_stored(&self, key: &str) -> Result<bool, TransferError> {
        if self.began || !self.after_others {
            return Ok(false);
        }
        let size = std::fs::metadata(self.layout.root.join(OUTPUT)).map_or(0, |m| m.len());
        Ok(self.results.size_of(key).await? > size)
    }

    /// Stores the metrics as one file of the original's form, where the program has not written all of
    /// them there itself.
    async fn store_points(&mut self) -> Result<(), TransferError> {
        let Some(points) = self.points.clone().filter(Points::has_others) else { return Ok(()) };
        let made_of = (points.size(), own_size(&self.layout.logs));
        if made_of == self.points_stored {
            return Ok(());
        }
        let (run, logs, file) = (self.run.clone(), self.layout.logs.clone(), self.layout.root.join(EMETRICS));
        let failed = |source| TransferError::File { path: EMETRICS.to_owned(), source };
        let written = tokio::task::spawn_blocking(move || points.write_emetrics(&run, &logs, &file));
        written.await.map_err(std::io::Error::other).and_then(|w| w).map_err(failed)?;
        let key = format!("{}{EMETRICS}", self.logs);
        self.results.leave_out(&key);
        self.results.sync_file(&self.layout.root, EMETRICS, &key, u64::MAX).await?;
        self.points_stored = made_of;
        Ok(())
    }

    /// Stores what is new again and again, until told to stop; gives itself back then.
    pub(crate) fn keep_up(mut self) -> KeepUp {
        let (stop, mut stopped) = watch::channel(());
        let task = tokio::spawn(async move {
            let mut pause = PAUSE;
            loop {
                tokio::select! {
                    _ = stopped.changed() => return self,
                    () = tokio::time::sleep(pause) => {}
                }
                let begun = Instant::now();
                if let Err(error) = self.pass().await {
                    // The last pass is the one that has to succeed.
                    tracing::warn!(%error, "results could not be stored while the program runs");
                }
                pause = PAUSE.max(begun.elapsed() * PAUSE_FACTOR);
            }
        });
        KeepUp { task, stop }
    }

    /// Stores everything there is, verifies it, and writes the marker. A store that is away is
    /// waited for, and so is room on a full disk: the results exist here and nowhere else.
    pub(crate) async fn complete(
        &mut self,
        order: &WorkOrder,
        exit: Option<Exit>,
        failure: Option<&Failure>,
        reporter: &Reporter,
        patience: Duration,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        let mut pause = FIRST_WAIT;
        loop {
            match self.complete_once(order, exit, failure).await {
                Err(Error::StageOut(error))
                    if (error.is_worth_repeating() || error.is_disk_full()) && begun.elapsed() < patience =>
                {
                    match &*reporter.told().borrow() {
                        Told::Leave(why) => return Err(Error::Fenced(why.clone())),
                        // Its owner does not want to wait for ever.
                        Told::Cancel if begun.elapsed() > CANCELED_PATIENCE => {
                            return Err(Error::StageOut(error));
                        }
                        _ => {}
                    }
                    tracing::warn!(%error, "the results wait for their store");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_WAIT);
                }
                other => return other,
            }
        }
    }

    async fn complete_once(
        &mut self,
        order: &WorkOrder,
        exit: Option<Exit>,
        failure: Option<&Failure>,
    ) -> Result<(), Error> {
        let marker_key = format!("{}{MARKER}", self.logs);
        // Below the first learner's prefix are those of the others.
        let is_of_another = |key: &str| {
            order.learner == 1 && (2..=order.learners).any(|n| key.starts_with(&learner_folder(n)))
        };
        let is_no_file = |key: &str| is_of_another(key) || key == marker_key;
        if self.after_others && !self.checked {
            // What is known of whoever stored before may not be all of it: its node may be gone.
            if self.lost.is_some() {
                self.results.check().await.map_err(Error::StageOut)?;
            }
            self.give_up_left(&is_of_another).await?;
            self.checked = true;
        }
        self.pass().await.map_err(Error::StageOut)?;
        self.results.prune().await.map_err(Error::StageOut)?;
        if self.guard.is_some() && self.began && order.attempt > 1 {
            // What the attempt before this one stored, and this one did not, is no result of the run.
            self.results.remove_others(&is_of_another).await.map_err(Error::StageOut)?;
        }
        self.results.verify().await.map_err(Error::StageOut)?;
        self.give_up_left(&is_of_another).await?;
        if self.after_others {
            self.results.find_others(&is_no_file).await.map_err(Error::StageOut)?;
        }
        let marker = Marker {
            run: order.run.as_str(),
            attempt: order.attempt,
            exit,
            failure,
            files: self.results.inventory(),
            left_out: self.left_out(),
        };
        let text =
            serde_json::to_vec_pretty(&marker).map_err(|e| Error::file(&self.layout.root, e.into()))?;
        self.results.put(&marker_key, Bytes::from(text)).await.map_err(Error::StageOut)?;
        break_point("store:marker");
        Ok(())
    }

    /// Gives up what was begun in the store and not completed.
    async fn give_up_left(&mut self, is_of_another: &(dyn Fn(&str) -> bool + Sync)) -> Result<(), Error> {
        let since = self.lost.map_or(0, |start| Time::now().since(start));
        let since = Duration::from_millis(since);
        self.results.give_up_left(Some(is_of_another), since).await.map_err(Error::StageOut)?;
        match &mut self.checkpoints {
            Some(upload) => upload.give_up_left(None, since).await.map_err(Error::StageOut),
            None => Ok(()),
        }
    }

    /// What is not stored, by key, with the reason.
    fn left_out(&self) -> BTreeMap<String, String> {
        let mut left_out = self.results.skipped.clone();
        let checkpoints = self.checkpoints.iter().flat_map(|c| &c.skipped);
        left_out.extend(checkpoints.map(|(key, why)| (format!("{CHECKPOINTS}{key}"), why.clone())));
        left_out
    }
}

/// The folder of a learner's logs.
fn learner_folder(learner: u32) -> String {
    format!("learner-{learner}/")
}

fn bucket(order: &WorkOrder, http: &Http, guard: Option<Guard>) -> Result<Bucket, Error> {
    let bucket = Bucket::new(http, &order.results.connection, &order.results.bucket);
    Ok(bucket.map_err(Error::StageOut)?.guarded(guard))
}

/// Uploads in the background.
pub(crate) struct KeepUp {
    task: JoinHandle<Output>,
    stop: watch::Sender<()>,
}

impl KeepUp {
    /// Stops after the pass under way.
    pub(crate) async fn stop(self) -> Result<Output, Error> {
        drop(self.stop);
        self.task.await.map_err(|e| Error::file(std::path::Path::new("upload"), std::io::Error::other(e)))
    }
}
