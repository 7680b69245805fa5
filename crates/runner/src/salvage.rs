//! Stores what a lost runner left: its program is ended, what it wrote goes into the bucket.

use std::time::Duration;

use trainyard_api::{
    Code, Failure,
    runner::{Exit, RunnerEvent},
};

use crate::{
    Error,
    attempt::Context,
    cgroup::Cgroup,
    error::failure,
    reporter::Reporter,
    spool::{self, Spool},
    stage_out::Output,
    tree::{Tree, kill_by_environment},
};

/// Works off a salvage.
pub(crate) async fn salvage(context: &Context) -> Result<(), Error> {
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
    let reporter = Reporter::start(link.clone(), layout.output.clone(), Spool::create(&layout.spool)?);
    let stored = store(context, exit).await.err();
    let failure: Option<Failure> =
        stored.map(|e| failure(Code::StageOut, format!("what it left could not be stored: {e}")));
    reporter.finish(RunnerEvent::Finished { failure }).await
}

async fn store(context: &Context, exit: Option<Exit>) -> Result<(), Error> {
    let mut output = Output::new(&context.order, &context.layout, &context.http, None)?;
    let lost = failure(Code::RunnerLost, "the runner was lost".to_owned());
    output.complete(&context.order, exit, Some(&lost)).await
}
