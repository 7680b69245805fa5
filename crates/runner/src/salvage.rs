//! Stores what a lost runner left: its program is ended, what it wrote goes into the bucket.

use std::time::Duration;

use trainyard_api::{
    Code, Failure,
    runner::{Exit, Purpose, RunnerEvent},
};

use crate::{
    Error,
    attempt::Context,
    cgroup::Cgroup,
    error::failure,
    layout::Layout,
    reporter::Reporter,
    spool::{self, Spool},
    stage_out::Output,
    tree::{Tree, kill_by_environment},
};

/// Whether an earlier runner started the program here.
pub(crate) fn program_ran(layout: &Layout) -> bool {
    spool::read(&layout.spool).iter().any(|r| r.event == RunnerEvent::Started)
}

/// Stores what is there. The server has the first `delivered` bytes of the log from an attempt
/// of its own.
pub(crate) async fn salvage(context: &Context, delivered: u64) -> Result<(), Error> {
    let Context { order, layout, link, .. } = context;
    if let Some(cgroup) = Cgroup::find(order.run.as_str()) {
        cgroup.kill();
        Tree::new(Some(cgroup)).end(Duration::ZERO).await;
    }
    kill_by_environment(order.run.as_str());
    let exit = spool::read(&layout.spool).into_iter().find_map(|r| match r.event {
        RunnerEvent::Exited { exit } => Some(exit),
        _ => None,
    });
    // The log goes on where the lost runner's deliveries ended: the server knows how far that is.
    // The spool is left as it is until this is done: a runner after this one needs it.
    let spool = Spool::create(&layout.root.join(format!("spool-{}.jsonl", order.attempt)))?;
    let reporter = Reporter::start(link.clone(), layout.output.clone(), spool, delivered);
    let stored = store(context, exit).await.err();
    let failure: Option<Failure> =
        stored.map(|e| failure(Code::StageOut, format!("what it left could not be stored: {e}")));
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

async fn store(context: &Context, exit: Option<Exit>) -> Result<(), Error> {
    let mut output = Output::new(&context.order, &context.layout, &context.http, None)?;
    output.complete(&context.order, exit, Some(&lost())).await
}
