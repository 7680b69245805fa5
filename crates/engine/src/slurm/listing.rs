//! What `squeue` and `sacct` print, a job a line. No I/O.

use std::collections::HashMap;

use trainyard_api::RunId;

use super::state::JobState;
use crate::AttemptRef;

/// The format that `squeue -O` is asked for. The reason is last: it alone may hold a bar.
pub(crate) const FORMAT: &str = "JobID:|,Name:|,State:|,RestartCnt:|,StartTime:|,BatchHost:|,Reason:|";

/// The fields that `sacct -P` is asked for: those of [`FORMAT`]. It cannot tell how often a job was started anew;
/// what stands in that place is no number.
pub(crate) const HISTORY: &str = "JobIDRaw,JobName,State,ExitCode,Start,NodeList,Reason";

/// A job of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Slurm's number.
    pub(crate) id: u64,
    pub(crate) state: JobState,
    /// How often Slurm has started it anew.
    pub(crate) restarts: u32,
    /// When it started, or is expected to, as Slurm prints it.
    pub(crate) start: Option<String>,
    /// The first node.
    pub(crate) node: String,
    /// Why it waits, in Slurm's words.
    pub(crate) reason: String,
}

impl Job {
    /// Whether it is over.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, JobState::Ended(_))
    }
}

/// A job that was listed, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) job: Job,
}

/// How the jobs of one server are called.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    /// Of the server with this id.
    pub(crate) fn new(server: &str) -> Self {
        let id: String = server.chars().filter(char::is_ascii_alphanumeric).take(12).collect();
        Self { prefix: format!("trainyard-{id}-") }
    }

    /// The name of the job that began with attempt `job` of `run`.
    pub(crate) fn of(&self, run: &RunId, job: u32) -> String {
        format!("{}{run}-{job}", self.prefix)
    }

    /// The run whose job is called like this; `None`: it is another server's, or none.
    pub(crate) fn run(&self, name: &str) -> Option<RunId> {
        name.strip_prefix(&self.prefix)?.rsplit_once('-')?.0.parse().ok()
    }

    /// The same for an attempt.
    pub(crate) fn job(&self, attempt: &AttemptRef) -> String {
        self.of(&attempt.run, attempt.job)
    }

    /// The same for trial jobs, which are no runs.
    pub(crate) fn of_trials(server: &str) -> Self {
        let Self { prefix } = Self::new(server);
        Self { prefix: prefix.replacen("trainyard", "trainyardtrial", 1) }
    }

    /// The name of a trial job.
    pub(crate) fn trial(&self, number: u32) -> String {
        format!("{}{number}", self.prefix)
    }
}

/// The jobs in `text`. A line that cannot be read is passed over.
pub(crate) fn parse(text: &str) -> Vec<Listed> {
    let mut jobs = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(7, '|').map(str::trim);
        let mut next = || fields.next().unwrap_or_default();
        let (id, name, state, restarts, start, node, reason) =
            (next(), next(), next(), next(), next(), next(), next());
        let Ok(id) = id.parse() else { continue };
        let job = Job {
            id,
            state: JobState::parse(state),
            restarts: restarts.parse().unwrap_or(0),
            start: Some(start.to_owned()).filter(|s| s.starts_with(|c: char| c.is_ascii_digit())),
            node: node.to_owned(),
            reason: reason.trim_end_matches('|').to_owned(),
        };
        jobs.push(Listed { name: name.to_owned(), job });
    }
    jobs
}

/// Those that are called as ours are, by name.
pub(crate) fn ours(listed: Vec<Listed>, names: &Names) -> HashMap<String, Vec<Job>> {
    let mut jobs: HashMap<String, Vec<Job>> = HashMap::new();
    for Listed { name, job } in listed.into_iter().filter(|l| l.name.starts_with(&names.prefix)) {
        jobs.entry(name).or_default().push(job);
    }
    // The first that was submitted counts.
    for same in jobs.values_mut() {
        same.sort_by_key(|j| j.id);
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::super::state::End;
    use super::*;

    fn run() -> RunId {
        "training-abcdefghi".parse().unwrap()
    }

    /// As Slurm 22.05.8 prints it.
    const PRINTED: &str = "\
7|trainyard-0a1b2c-training-abcdefghi-1|PENDING|1|2026-11-24T13:46:59|n/a|Resources|
9|trainyard-0a1b2c-training-abcdefghi-1|RUNNING|0|2026-11-24T13:45:14|n1|None|
3|wrap|RUNNING|0|2026-11-24T13:45:14|n2|None|
4|trainyard-ffffff-training-abcdefghi-1|RUNNING|0|2026-11-24T13:45:14|n2|None|
x|trainyard-0a1b2c-training-abcdefghi-2|RUNNING|0||||
8|trainyard-0a1b2c-training-abcdefghi-3|OUT_OF_MEMORY|0|N/A|n/a|a|b|
";

    #[test]
    fn jobs_of_others_are_left_out_and_the_first_of_a_name_counts() {
        let names = Names::new("0a-1b-2c");
        let jobs = ours(parse(PRINTED), &names);
        assert_eq!(jobs.len(), 2);
        let first = &jobs[&names.of(&run(), 1)];
        assert_eq!(first.iter().map(|j| j.id).collect::<Vec<_>>(), [7, 9]);
        assert_eq!((first[0].state, first[0].restarts), (JobState::Waiting, 1));
        assert_eq!(first[0].start.as_deref(), Some("2026-11-24T13:46:59"));
        let third = &jobs[&names.of(&run(), 3)][0];
        assert_eq!((third.state, &third.start), (JobState::Ended(End::OutOfMemory), &None));
        assert_eq!(third.reason, "a|b");
    }

    #[test]
    fn what_is_not_a_listing_gives_no_jobs() {
        let names = Names::new("a");
        for text in ["", "\n\n", "slurm_load_jobs error: Unable to contact slurm controller", "|||||||||"] {
            assert!(ours(parse(text), &names).is_empty(), "{text}");
        }
    }
}
