//! One attempt from its ticket to its end: staged in, run, stored, or ended early for one of the
//! reasons that there are. What an earlier attempt left decides what this one may do.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::prctl;
use trainyard_api::{
    Code, Failure,
    runner::{EngineName, Exit, LOCK, Purpose, RunnerEvent, Ticket, WorkOrder},
};
use trainyard_breakpoints::break_point;
use trainyard_remains::remove_tree;
use trainyard_transfer::{Guard, Http, Ledger};

use crate::{
    Error,
    collect::Collector,
    error::failure,
    layout::Layout,
    link::Link,
    others::Others,
    points::Points,
    program::{self, Isolation, Setting},
    reporter::Reporter,
    salvage,
    spool::{Past, Spool},
    stage_in,
    stage_out::{LOG_PATIENCE, Output, RESULTS_PATIENCE},
    stop::{Signals, Stop},
    supervise::supervise,
    team,
};

/// How long an earlier runner of the run may take to let go of its lock.
const LOCK_WAIT: Duration = Duration::from_secs(20);
const LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Everything an attempt works with.
pub(crate) struct Context {
    pub(crate) order: WorkOrder,
    pub(crate) layout: Layout,
    pub(crate) http: Http,
    pub(crate) link: Link,
    pub(crate) node: PathBuf,
    /// What keeps the program apart.
    pub(crate) isolation: Isolation,
    /// What earlier attempts of the run left on this node.
    pub(crate) past: Past,
    /// Who placed this runner.
    pub(crate) engine: EngineName,
    /// Name of the program's control group.
    pub(crate) group: String,
    /// The other learners, where this is the first of several.
    pub(crate) others: Others,
}

impl Context {
    /// What is asked before anything is stored: where a cluster starts a job again that may go on elsewhere.
    pub(crate) fn guard(&self, reporter: &Reporter) -> Option<Guard> {
        (self.engine != EngineName::Local).then(|| reporter.guard())
    }
}

/// Works off the attempt of `ticket` in `folder`. `lock` is the folder's, where whoever started this runner has
/// taken it already.
pub async fn run(folder: &Path, ticket: Ticket, lock: Option<File>) -> Result<(), Error> {
    run_with(folder, ticket, Others::none(), lock).await
}

/// The same for the first of several learners.
pub(crate) async fn run_with(
    folder: &Path,
    ticket: Ticket,
    others: Others,
    lock: Option<File>,
) -> Result<(), Error> {
    // A session of its own: what ends the server's terminal or session does not end this.
    let _ = nix::unistd::setsid();
    // Orphans of the program become children of this process, where they are found and ended.
    if let Err(error) = prctl::set_child_subreaper(true) {
        tracing::warn!(%error, "processes that leave the program's session may outlive it");
    }
    // The program runs under the same user: it must not be able to read keys out of this memory.
    if let Err(error) = prctl::set_dumpable(false) {
        tracing::warn!(%error, "the runner's memory is open to processes of its user");
    }
    // From the first moment on: engines nudge with it, and by default it ends a process.
    let signals = Signals::listen().map_err(|e| Error::file(folder, e))?;
    let _lock = take_lock(folder, lock).await?;
    break_point("runner:locked");
    let http = Http::default();
    let node = PathBuf::from(&ticket.node);
    let isolation = Isolation::of(&ticket);
    let engine = ticket.engine;
    let group = trainyard_cgroup::name_of(&ticket.server_id, ticket.run.as_str());
    let link = Link::new(ticket, &http)?;
    let order = link.claim().await?;
    tracing::info!(run = %order.run, attempt = order.attempt, "claimed");
    break_point("runner:claimed");
    let layout = Layout::new(folder);
    let past = Past::read(&layout.spool)?;
    let context = Context { order, layout, http, link, node, isolation, past, engine, group, others };
    let result = match context.order.purpose {
        // The runner before this one may have started the program without the server hearing of
        // it: what that program did is not thrown away, and it is not started again.
        Purpose::Train if context.past.started.is_none() => train(&context, signals).await,
        _ => salvage::salvage(&context).await,
    };
    if let Err(error @ Error::Fenced(_)) = &result {
        // Whoever took over needs the folder: leave it as it is.
        tracing::warn!(%error, "leaving");
        return result;
    }
    if context.layout.is_kept() {
        if engine != EngineName::Local {
            // Nobody else comes to look after this node.
            context.layout.put_aside();
        }
        return result;
    }
    // A folder that this machine's engine uses again stays; another's goes whole.
    let gone = match engine {
        EngineName::Local => context.layout.empty(),
        EngineName::Slurm => remove_tree(folder),
    };
    if let Err(error) = gone {
        tracing::warn!(%error, "the run's files stay on the node");
    }
    break_point("runner:emptied");
    result
}

async fn train(context: &Context, signals: Signals) -> Result<(), Error> {
    let Context { order, layout, link, .. } = context;
    if order.attempt > 1 {
        salvage::end_what_is_left(context).await;
    }
    layout.make()?;
    let ledger = Arc::new(Ledger::create(&layout.ledger).map_err(Error::StageOut)?);
    let mut spool = Spool::create(&layout.spool)?;
    begin_log(&layout.output)?;
    let earlier = match &order.again {
        Some(why) => go_on_with_log(context, why).await?,
        None => 0,
    };
    if earlier > 0 {
        // Whoever comes after this runner has to know what of the log is not its own.
        spool.note_bases(earlier, 0).map_err(|e| Error::file(&layout.spool, e))?;
    }
    let points = Points::of(layout);
    let mut reporter =
        Reporter::start(link.clone(), (layout.output.clone(), earlier), (points.clone(), 0), spool);
    if order.listen {
        reporter.listen(link.clone());
    }
    let failure = match work(context, &reporter, points, ledger, signals).await {
        Ok(failure) => failure,
        Err(error @ (Error::Fenced(_) | Error::Others(_))) => return Err(error),
        Err(error) => error.failure(),
    };
    reporter.finish(RunnerEvent::Finished { failure }).await
}

/// Everything between the claim and the last report; returns why the attempt failed, unless the
/// program's own exit says it.
async fn work(
    context: &Context,
    reporter: &Reporter,
    points: Points,
    ledger: Arc<Ledger>,
    signals: Signals,
) -> Result<Option<Failure>, Error> {
    let Context { order, layout, http, link, node, .. } = context;
    let mut stop = Stop::new(reporter, signals, context.engine, context.others.clone());
    if order.canceled {
        return store_early(context, &Error::Canceled, reporter).await;
    }
    let staged = tokio::select! {
        staged = stage_in::stage(order, layout, node, link, http, &ledger) => staged,
        reason = stop.reason(reporter) => Err(reason),
    };
    let staged = match staged {
        Ok(staged) => staged,
        // Nothing was begun: the job ends, and another one tries again.
        Err(error @ (Error::Fenced(_) | Error::Others(_))) => return Err(error),
        Err(error) => return store_early(context, &error, reporter).await,
    };
    let team = match team::meet(context, reporter, &mut stop).await {
        Ok(team) => team,
        Err(error @ (Error::Fenced(_) | Error::Others(_))) => return Err(error),
        Err(error) => return store_early(context, &error, reporter).await,
    };
    let kept = staged.notes.iter().try_for_each(|(name, text)| reporter.note(name, text));
    break_point("runner:staged");
    // What was fetched is known for good before anything is said to be the program's.
    ledger.flush().map_err(|e| Error::file(&layout.ledger, e))?;
    kept.and_then(|()| reporter.starting(&layout.spool)).map_err(|e| Error::file(&layout.spool, e))?;
    break_point("spool:starting");
    let collector = Collector::new(layout, points.clone())?;
    let guard = context.guard(reporter);
    let checkpoints = staged.checkpoints.guarded(guard.clone());
    let output = Output::new(order, layout, http, checkpoints, guard, staged.notes, points)?;
    let output = output.noted_in(ledger);
    let setting = Setting {
        order,
        layout,
        environment: &staged.environment,
        isolation: &context.isolation,
        team: team.as_ref(),
        engine: context.engine,
        group: &context.group,
    };
    let mut program = match program::start(&setting) {
        Ok(program) => program,
        Err(error) => return store_early(context, &error, reporter).await,
    };
    break_point("runner:spawned");
    reporter.event(RunnerEvent::Started);
    let keep_up = output.keep_up();
    let collecting = collector.keep_up(reporter.asker());
    let (exit, mut why) = supervise(context, &mut program, &mut stop, reporter).await?;
    // Background processes of the program end with it, as they did with the original's container.
    if !program.tree.end(Duration::from_secs(order.grace)).await {
        layout.spoil();
    }
    drop(program);
    append(layout, exit);
    // Before the event: whoever sees the end has all metrics.
    collecting.stop().await;
    reporter.event(RunnerEvent::Exited { exit, why: why.clone() });
    let mut output = keep_up.stop().await?;
    if let Err(error) = output.complete(order, Some(exit), why.as_ref(), reporter, RESULTS_PATIENCE).await {
        let mut unstored = error.to_string();
        if !matches!(error, Error::Fenced(_)) {
            unstored.push_str(&layout.keep());
        }
        why.get_or_insert(failure(Code::StageOut, unstored));
    }
    Ok(why)
}

/// Stores the logs of an attempt whose program never ran.
async fn store_early(
    context: &Context,
    error: &Error,
    reporter: &Reporter,
) -> Result<Option<Failure>, Error> {
    let why = error.failure();
    if why.is_some() || matches!(error, Error::Ended(_)) {
        context.layout.say(&format!("{error}\n"));
    }
    let mut output = Output::of_log(&context.order, &context.layout, &context.http, context.guard(reporter))?;
    if let Err(error) = output.complete(&context.order, None, why.as_ref(), reporter, LOG_PATIENCE).await {
        tracing::warn!(%error, "the logs could not be stored");
    }
    Ok(why)
}

fn append(layout: &Layout, exit: Exit) {
    let text = match exit {
        Exit::Code(code) => format!("Training process finished. Exit code: {code}\n"),
        Exit::Signal(signal) => format!("Training process ended by signal {signal}.\n"),
    };
    layout.say(&text);
}

/// An empty log, open to nobody else: it may hold what the program should not have printed.
fn begin_log(path: &Path) -> Result<(), Error> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
    let emptied = file.and_then(|f| if f.metadata()?.len() > 0 { f.set_len(0) } else { Ok(()) });
    emptied.map_err(|e| Error::file(path, e))
}

/// Begins the log with that of the attempts before this one, so that what is stored is whole; returns how
/// many bytes of it the server has already.
async fn go_on_with_log(context: &Context, why: &str) -> Result<u64, Error> {
    let Context { order, layout, link, .. } = context;
    let failed = |e| Error::file(&layout.output, e);
    let mut log = OpenOptions::new().append(true).open(&layout.output).map_err(failed)?;
    let mut size = 0;
    loop {
        let piece = link.earlier_log(size).await?;
        if piece.is_empty() {
            break;
        }
        log.write_all(&piece).map_err(failed)?;
        size += piece.len() as u64;
    }
    layout.say(&format!("\n--- attempt {}: {why} ---\n", order.attempt));
    Ok(size)
}

/// Takes the run's lock, unless it is `taken`, and writes the process id into it.
async fn take_lock(folder: &Path, taken: Option<File>) -> Result<File, Error> {
    let path = folder.join(LOCK);
    let failed = |e| Error::file(&path, e);
    let mut file = match taken {
        Some(file) => file,
        None => wait_for_lock(&path).await?,
    };
    file.set_len(0).map_err(failed)?;
    file.write_all(std::process::id().to_string().as_bytes()).map_err(failed)?;
    Ok(file)
}

async fn wait_for_lock(path: &Path) -> Result<File, Error> {
    let failed = |e| Error::file(path, e);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(TryLockError::WouldBlock) => return Err(Error::Locked),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
    }
}
