//! From the program's start to its end: waits for it, and brings the end about when there is a
//! reason to.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use trainyard_api::{
    Code, Failure,
    runner::{EngineName, Exit},
};

use crate::{
    Error, attempt::Context, container::has_begun, error::failure, program::Program, reporter::Reporter,
    stop::Stop, tree::KILL_WAIT,
};

/// Longest time of grace where the node ends the runner soon.
const HURRIED: Duration = Duration::from_secs(10);
/// Exit status by which a shell says that its command was ended by SIGKILL.
const SHELL_SAW_KILL: i32 = 128 + Signal::SIGKILL as i32;

/// Waits for the program's end; returns how it ended, and why it failed where its exit alone does
/// not say it.
pub(crate) async fn supervise(
    context: &Context,
    program: &mut Program,
    stop: &mut Stop,
    reporter: &Reporter,
) -> Result<(Exit, Option<Failure>), Error> {
    let Context { order, engine, layout, .. } = context;
    let begun = Instant::now();
    let killed_before = killed_for_memory();
    let limit = async {
        if order.max_run_time == 0 {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_secs(order.max_run_time)).await;
    };
    let mut grace = Duration::from_secs(order.grace);
    // The cluster itself told the program to stop, if it started it.
    let mut told = false;
    let why = tokio::select! {
        exit = program.wait() => {
            let exit = exit?;
            if *engine != EngineName::Local && stop.is_node_stopped(exit == Exit::Code(0)).await {
                return Ok((exit, Error::NodeStopped.failure()));
            }
            if order.environment.container.is_some() && exit != Exit::Code(0) && !has_begun(layout) {
                return Ok((exit, Some(no_container(exit))));
            }
            let killed_since = || killed_for_memory()?.checked_sub(killed_before?);
            return Ok((exit, out_of_memory(exit, killed_since)));
        }
        reason = stop.reason(reporter) => match reason {
            Error::Canceled => None,
            ended @ Error::Ended(_) => {
                layout.say(&format!("{ended}\n"));
                None
            }
            fenced @ Error::Fenced(_) => {
                // Another attempt may be starting: this one's program has to be gone at once.
                let _ = program.tree.end(Duration::ZERO).await;
                return Err(fenced);
            }
            other => {
                if matches!(other, Error::NodeStopped) {
                    told = true;
                    // The node does not wait for ever, and results have to be stored as well.
                    grace = grace.min(HURRIED);
                }
                other.failure()
            }
        },
        () = limit => {
            let seconds = begun.elapsed().as_secs();
            Some(if order.environment.container.is_some() && !has_begun(layout) {
                let message = format!("the program's container did not start in the {seconds} s that it may run");
                failure(Code::ProgramStart, message)
            } else {
                failure(Code::TimeLimit, format!("the program ran for {seconds} s, which is as long as it may"))
            })
        }
    };
    let exit = end_gently(grace, program, told && program.tree.is_step()).await?;
    Ok((exit, why))
}

/// What the runtime printed stands in the log.
fn no_container(exit: Exit) -> Failure {
    let status = match exit {
        Exit::Code(code) => format!("exited with status {code}"),
        Exit::Signal(signal) => format!("was ended by signal {signal}"),
    };
    let message =
        format!("the program's container was not started: its runtime {status}, and the log says why");
    failure(Code::ProgramStart, message)
}

/// TERM to everything that the program started, a time of grace, KILL.
async fn end_gently(grace: Duration, program: &mut Program, told: bool) -> Result<Exit, Error> {
    if !told {
        program.tree.signal(Signal::SIGTERM);
    }
    if let Ok(exit) = tokio::time::timeout(grace, program.wait()).await {
        return exit;
    }
    program.tree.signal(Signal::SIGKILL);
    if let Ok(exit) = tokio::time::timeout(KILL_WAIT, program.wait()).await {
        return exit;
    }
    program.tree.kill();
    program.wait().await
}

/// A program that was killed, by nobody that is known, while the kernel killed somebody for lack
/// of memory, was killed for that. `killed_since` counts those since its start.
fn out_of_memory(exit: Exit, killed_since: impl FnOnce() -> Option<u64>) -> Option<Failure> {
    let killed = matches!(exit, Exit::Signal(9) | Exit::Code(SHELL_SAW_KILL));
    if !killed || killed_since()? == 0 {
        return None;
    }
    let message = "the kernel ended the program because the memory was used up";
    Some(Failure { signal: Some("SIGKILL".to_owned()), ..failure(Code::OutOfMemory, message.to_owned()) })
}

/// How many processes the kernel has killed for lack of memory since it started, on the whole
/// machine or in a memory cgroup: `oom_kill` of `/proc/vmstat`.
fn killed_for_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|l| l.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kill_that_the_kernel_counted_is_one_for_memory() {
        assert!(killed_for_memory().is_some(), "the kernel's count cannot be read");
        for exit in [Exit::Signal(9), Exit::Code(137)] {
            assert_eq!(out_of_memory(exit, || Some(1)).unwrap().code, Code::OutOfMemory.as_str());
            assert!(out_of_memory(exit, || Some(0)).is_none());
            assert!(out_of_memory(exit, || None).is_none());
        }
        for exit in [Exit::Code(0), Exit::Code(9), Exit::Signal(11)] {
            assert!(out_of_memory(exit, || Some(1)).is_none());
        }
    }
}
