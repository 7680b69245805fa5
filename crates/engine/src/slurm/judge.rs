//! What a listing means for the attempts that are watched. No I/O and no clock.

use std::time::Duration;

use super::{
    listing::Job,
    state::{End, JobState, reason},
};
use crate::{Condition, Watched};

/// How long a runner whose job has ended may have been silent: its last words may be on their way.
pub(crate) const SETTLE: Duration = Duration::from_secs(3);
/// The same where Slurm lost a node from sight: the runner may go on, and speak every ten seconds.
pub(crate) const SILENT: Duration = Duration::from_secs(25);
/// How long a job that nobody can find may have been on its way into the queue.
pub(crate) const ON_ITS_WAY: Duration = Duration::from_secs(15);

/// What is known of an attempt whose jobs are these; `missing` for how long there has been none, and
/// `forgotten` how long a runner whose job Slurm does not know may be silent.
pub(crate) fn judge(watched: &Watched, jobs: &[Job], missing: Duration, forgotten: Duration) -> Condition {
    // Of two jobs of one name, which a lost answer can lead to, one waits in vain and is withdrawn.
    let job = jobs.iter().find(|j| j.state == JobState::Running).or_else(|| jobs.first());
    let Some(job) = job else { return unknown(watched, missing, forgotten) };
    let id = job.id;
    let known = watched.at.attempt.saturating_sub(watched.at.job);
    if job.restarts > known {
        let message = format!("Slurm started job {id} again");
        return Condition::Requeued { restarts: job.restarts, message };
    }
    if job.state == JobState::Waiting && watched.boarded && watched.silence >= forgotten {
        // The controller forgot that it had started it. When it does so again, that start is refused; one
        // that is held never begins.
        let silent = watched.silence.as_secs() / 60;
        let message =
            format!("job {id} is back in Slurm's queue, and its runner has been silent for {silent} min");
        return Condition::Gone { message, code: None };
    }
    let JobState::Ended(end) = job.state else { return Condition::Alive };
    if !watched.boarded && end == End::Cancelled {
        return Condition::Withdrawn(format!("job {id} was cancelled in Slurm before it began"));
    }
    let patience = if end == End::NodeFailed { SILENT } else { SETTLE };
    if watched.silence < patience {
        return Condition::Alive;
    }
    let why = match job.reason.as_str() {
        "" | "None" => String::new(),
        word => format!("; {}", reason(word)),
    };
    Condition::Gone { message: format!("job {id} {}{why}", end.words()), code: end.code() }
}

/// Slurm has no such job.
fn unknown(watched: &Watched, missing: Duration, forgotten: Duration) -> Condition {
    if !watched.boarded {
        return if missing < ON_ITS_WAY { Condition::Alive } else { Condition::Missing };
    }
    // The runner's own word is the truth: what Slurm has forgotten may run on.
    if watched.silence < forgotten || missing < forgotten {
        return Condition::Alive;
    }
    let message = format!(
        "Slurm no longer knows its job, and its runner has been silent for {} min",
        watched.silence.as_secs() / 60
    );
    Condition::Gone { message, code: None }
}

/// What a job that waits waits for, in words.
pub(crate) fn explain(job: &Job) -> Option<String> {
    match job.state {
        JobState::Waiting => {}
        JobState::Running => {
            return Some(format!(
                "job {} has begun on {}, and its runner has not spoken yet",
                job.id, job.node
            ));
        }
        JobState::Ended(_) => return None,
    }
    let start = match &job.start {
        Some(at) => format!("; Slurm expects to start it at {}", at.replace('T', " ")),
        None => String::new(),
    };
    Some(format!("job {} in Slurm's queue: {}{start}", job.id, reason(&job.reason)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AttemptRef;

    const FORGOTTEN: Duration = Duration::from_mins(10);

    fn watched(attempt: u32, job: u32, boarded: bool, silence: u64) -> Watched {
        let run = "training-abcdefghi".parse().unwrap();
        let (at, silence) = (AttemptRef { run, attempt, job }, Duration::from_secs(silence));
        Watched { at, boarded, claimed: boarded, adopted: false, silence }
    }

    fn job(state: &str, restarts: u32) -> Job {
        let (node, reason) = ("n1".to_owned(), "None".to_owned());
        Job { id: 7, state: JobState::parse(state), restarts, start: None, node, reason }
    }

    fn judged(watched: &Watched, jobs: &[Job], missing: u64) -> Condition {
        judge(watched, jobs, Duration::from_secs(missing), FORGOTTEN)
    }

    #[test]
    fn a_runner_that_speaks_is_alive_whatever_slurm_says() {
        for state in ["RUNNING", "PENDING", "NODE_FAIL"] {
            assert_eq!(judged(&watched(1, 1, true, 10), &[job(state, 0)], 0), Condition::Alive, "{state}");
        }
        assert_eq!(judged(&watched(1, 1, true, 10), &[], 3600), Condition::Alive);
        assert_eq!(judged(&watched(1, 1, true, 3600), &[], 10), Condition::Alive, "Slurm was away");
        assert_eq!(judged(&watched(1, 1, true, 3600), &[job("RUNNING", 0)], 0), Condition::Alive);
        assert_eq!(judged(&watched(1, 1, false, 3600), &[job("PENDING", 0)], 0), Condition::Alive);
    }

    #[test]
    fn a_silent_runner_of_a_job_that_ended_is_gone() {
        for (state, code) in
            [("OUT_OF_MEMORY", true), ("TIMEOUT", true), ("NODE_FAIL", false), ("FAILED", false)]
        {
            let Condition::Gone { message, code: said } =
                judged(&watched(1, 1, true, 30), &[job(state, 0)], 0)
            else {
                panic!("{state}")
            };
            assert_eq!(said.is_some(), code, "{state}");
            assert!(message.starts_with("job 7 "), "{message}");
        }
        assert!(matches!(judged(&watched(1, 1, true, 601), &[], 601), Condition::Gone { .. }));
        let held = job("REQUEUE_HOLD", 0);
        assert!(matches!(judged(&watched(1, 1, true, 601), &[held], 0), Condition::Gone { .. }));
    }

    #[test]
    fn a_restart_counts_once() {
        let message = || "Slurm started job 7 again".to_owned();
        let requeued = |restarts| Condition::Requeued { restarts, message: message() };
        assert_eq!(judged(&watched(1, 1, true, 0), &[job("PENDING", 1)], 0), requeued(1));
        assert_eq!(judged(&watched(2, 1, false, 0), &[job("RUNNING", 1)], 0), Condition::Alive);
        assert_eq!(judged(&watched(5, 4, false, 0), &[job("RUNNING", 3)], 0), requeued(3));
    }

    #[test]
    fn a_job_that_never_came_is_submitted_again_and_one_that_was_cancelled_is_not() {
        assert_eq!(judged(&watched(1, 1, false, 5), &[], 5), Condition::Alive);
        assert_eq!(judged(&watched(1, 1, false, 20), &[], 20), Condition::Missing);
        assert!(matches!(
            judged(&watched(1, 1, false, 0), &[job("CANCELLED", 0)], 0),
            Condition::Withdrawn(_)
        ));
    }

    #[test]
    fn of_two_jobs_of_one_name_the_one_that_runs_counts() {
        let jobs = [Job { id: 3, ..job("PENDING", 0) }, job("OUT_OF_MEMORY", 0)];
        assert_eq!(judged(&watched(1, 1, false, 0), &jobs, 0), Condition::Alive);
    }

    #[test]
    fn what_a_job_waits_for() {
        let start = Some("2026-11-24T13:46:59".to_owned());
        let waiting = Job { start, reason: "Resources".to_owned(), ..job("PENDING", 0) };
        assert_eq!(
            explain(&waiting).unwrap(),
            "job 7 in Slurm's queue: no node has enough free now (Resources); Slurm expects to start it at 2026-11-24 13:46:59"
        );
        assert_eq!(
            explain(&job("RUNNING", 0)).unwrap(),
            "job 7 has begun on n1, and its runner has not spoken yet"
        );
        assert_eq!(explain(&job("COMPLETED", 0)), None);
    }
}
