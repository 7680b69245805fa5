//! Following: a run's log and phases to its end, and views that are drawn again.

use std::io::IsTerminal;

use trainyard_api::{Code, Phase, Problem, Run, RunState};
use trainyard_client::{Client, MonitorOptions};

use crate::{
    Error, Output,
    output::{Shown, spinner},
};

/// Follows a run to its end, and ends as it did.
pub(crate) async fn to_the_end(client: &Client, id: &str, output: &Output) -> Result<(), Error> {
    let following = async {
        let mut monitor =
            client.monitor(id, MonitorOptions { only: Some("log"), ..MonitorOptions::default() }).await?;
        let spinner = spinner(output, "");
        let mut phase: Option<Phase> = None;
        while let Some(frame) = monitor.next().await? {
            let status = frame.status;
            if status.phase.is_some() && status.phase != phase {
                phase = status.phase;
                let word = status.phase.map_or("", Phase::as_str);
                spinner.suspend(|| output.talk(&format!("Status: {word}")));
                spinner.set_message(word.to_lowercase());
            }
            if status.log {
                spinner.suspend(|| output.data(&status.message))?;
            }
        }
        spinner.finish_and_clear();
        Ok::<(), Error>(())
    };
    interruptible(id, following).await?;
    outcome(&client.run(id).await?)
}

/// Ctrl-C ends the work, never the run.
pub(crate) async fn interruptible<T>(
    id: &str,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => {
            let problem = Problem::new(Code::Interrupted, format!("you stopped following; {id} goes on"));
            Err(problem.hint(format!("follow it again with `trainyard logs -f {id}`, end it with `trainyard cancel {id}`")).into())
        }
    }
}

/// What a run's end means for the exit code.
pub(crate) fn outcome(run: &Run) -> Result<(), Error> {
    let id = &run.metadata.guid;
    let status = &run.entity.status;
    match status.state {
        RunState::Completed => Ok(()),
        RunState::Canceled => Err(Error::new(Code::RunCanceled, format!("{id} was canceled"))),
        RunState::Error => {
            let failure = status.error.as_ref().and_then(|e| e.errors.first());
            let why = failure.map_or_else(String::new, |f| format!(": {} ({})", f.message, f.code));
            Err(Problem::new(Code::RunFailed, format!("{id} failed{why}"))
                .hint(format!("`trainyard show {id}` has the last lines of its log"))
                .into())
        }
        RunState::Pending | RunState::Running => {
            Err(Error::new(Code::RunNotFinished, format!("{id} is {}", status.state.as_str())))
        }
    }
}

/// Draws a view in place of the last one, when it changed.
pub(crate) fn redraw(output: &Output, view: &dyn Shown, last: &mut String) -> Result<(), Error> {
    let mut value = view.value();
    forget_times(&mut value);
    let now = value.to_string();
    if now == *last {
        return Ok(());
    }
    if output.is_for_people() && std::io::stdout().is_terminal() {
        output.data("\u{1b}[2J\u{1b}[H")?;
    }
    output.show(view)?;
    *last = now;
    Ok(())
}

/// Takes out the time of the answer, which alone is no news.
fn forget_times(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.remove("current_at");
            map.values_mut().for_each(forget_times);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(forget_times),
        _ => {}
    }
}
