//! Stores what a lost runner left: its program is ended, what it wrote goes into the bucket. The
//! program is never started again.

use std::time::Duration;

use trainyard_api::{
    Code, Failure,
    runner::{Purpose, RunnerEvent},
};

use trainyard_cgroup::Cgroup;

use crate::{
    Error,
    attempt::Context,
    collect::Collector,
    error::failure,
    points::Points,
    reporter::Reporter,
    spool::Spool,
    stage_out::{Output, RESULTS_PATIENCE},
    tree::{Tree, kill_by_environment},
};

/// Ends what an earlier runner of this run left running.
pub(crate) async fn end_what_is_left(context: &Context) {
    let Context { order, layout, group, .. } = context;
    let run = order.run.as_str();
    // One of an earlier release is called by the run alone.
    for group in [group, run].into_iter().filter_map(Cgroup::find) {
        group.kill();
        if !Tree::new(Some(group)).end(Duration::ZERO).await {
            layout.spoil();
        }
    }
    kill_by_environment(run, order.learner);
}

/// Stores what is there.
pub(crate) async fn salvage(context: &Context) -> Result<(), Error> {
    let Context { order, layout, link, past, .. } = context;
    end_what_is_left(context).await;
    // A salvage that the server asked for goes on with the log of the attempt before it; one
    // that took a new attempt's place begins where that one's deliveries ended.
    let (base, metrics_base) = match order.purpose {
        Purpose::Salvage => (past.log_base, past.metrics_base),
        Purpose::Train => (past.log_base + order.earlier_log, past.metrics_base + order.earlier_metrics),
    };
    let noted = Spool::open(&layout.spool)?.note_bases(base, metrics_base);
    noted.map_err(|e| Error::file(&layout.spool, e))?;
    // A runner that was lost before it began one left none: every run has a log.
    layout.say("");
    let points = Points::of(layout);
    Collector::resume(layout, points.clone())?.finish().await;
    // The log goes on where the lost runner's deliveries ended: the server knows how far that is.
    // The spool is left as it is until this is done: a runner after this one needs it.
    let spool = Spool::create(&layout.root.join(format!("spool-{}.jsonl", order.attempt)))?;
    let (log, metrics) = ((layout.output.clone(), base), (points.clone(), metrics_base));
    let reporter = Reporter::start(link.clone(), log, metrics, spool);
    let stored = store(context, points, &reporter).await.err();
    let failure: Option<Failure> = stored
        .map(|e| failure(Code::StageOut, format!("what it left could not be stored: {e}{}", layout.keep())));
    // A salvage that the server asked for has its reason already; otherwise this is the reason.
    let failure = match order.purpose {
        Purpose::Salvage => failure,
        Purpose::Train => failure.or_else(|| Some(lost())),
    };
    reporter.finish(RunnerEvent::Finished { failure }).await
}

fn lost() -> Failure {
    failure(Code::RunnerLost, "the runner was lost after it had started the program".to_owned())
}

async fn store(context: &Context, points: Points, reporter: &Reporter) -> Result<(), Error> {
    let Context { order, layout, http, past, .. } = context;
    let mut output = Output::salvaged(order, layout, http, past, points, context.guard(reporter))?;
    // That its runner was lost is no failure of a run that nobody wants any more.
    let failure = (!order.canceled).then(lost);
    output.complete(order, past.exit, failure.as_ref(), reporter, RESULTS_PATIENCE).await
}
