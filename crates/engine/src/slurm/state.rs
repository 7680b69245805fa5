//! Slurm's states and reasons, and what they mean here. No I/O.
//!
//! The words are those of `squeue` and `sacct`, as the manual pages of Slurm 22.05 to 25.05 list them.

use trainyard_api::Code;

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JobState {
    /// In the queue, held or not.
    Waiting,
    /// On a node, from being set up to being cleared away.
    Running,
    /// Over.
    Ended(End),
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With status 0.
    Completed,
    /// With another.
    Failed,
    /// Somebody ended it, or took it out of the queue.
    Cancelled,
    /// It reached its time limit, or a deadline.
    TimeLimit,
    /// Its node failed or could not be started.
    NodeFailed,
    /// It used more memory than it had.
    OutOfMemory,
    /// Another job took its place.
    Preempted,
}

impl JobState {
    /// The state that Slurm calls by this word. One that a later release adds is taken for running:
    /// nothing is done about such a job.
    pub(crate) fn parse(word: &str) -> Self {
        // sacct says who: `CANCELLED by 0`.
        match word.split_whitespace().next().unwrap_or_default() {
            "PENDING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => {
                Self::Waiting
            }
            "COMPLETED" => Self::Ended(End::Completed),
            "FAILED" | "LAUNCH_FAILED" | "RECONFIG_FAIL" => Self::Ended(End::Failed),
            "CANCELLED" | "REVOKED" => Self::Ended(End::Cancelled),
            "TIMEOUT" | "DEADLINE" => Self::Ended(End::TimeLimit),
            "NODE_FAIL" | "BOOT_FAIL" => Self::Ended(End::NodeFailed),
            "OUT_OF_MEMORY" => Self::Ended(End::OutOfMemory),
            "PREEMPTED" => Self::Ended(End::Preempted),
            _ => Self::Running,
        }
    }
}

impl JobState {
    /// Whether it is an end that does not say why.
    pub(crate) fn says_nothing(self) -> bool {
        matches!(self, Self::Ended(End::Completed | End::Failed))
    }
}

impl End {
    /// What became of the job, for behind `its job 12`.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Completed => "ended, and its runner did not say how",
            Self::Failed => "failed, and its runner did not say why",
            Self::Cancelled => "was cancelled in Slurm, and not by the run's owner",
            Self::TimeLimit => "reached its time limit in Slurm",
            Self::NodeFailed => "was on a node that failed",
            Self::OutOfMemory => "was ended because it used more memory than it had asked for",
            Self::Preempted => "had to make room for another job",
        }
    }

    /// The code of a failure that is this.
    pub(crate) fn code(self) -> Option<Code> {
        match self {
            Self::TimeLimit => Some(Code::TimeLimit),
            Self::OutOfMemory => Some(Code::OutOfMemory),
            _ => None,
        }
    }
}

/// Reasons, and what they mean to whoever waits.
const REASONS: [(&str, &str); 34] = [
    ("None", "Slurm has not looked at it yet"),
    ("Priority", "other jobs come first"),
    ("Resources", "no node has enough free now"),
    ("Dependency", "it depends on another job"),
    ("DependencyNeverSatisfied", "it depends on a job that will never end well"),
    ("BeginTime", "Slurm starts it again in a while"),
    ("JobHeldUser", "it is held: `scontrol release` lets it go"),
    ("JobHeldAdmin", "an administrator holds it"),
    ("JobLaunchFailure", "Slurm could not start it on its node"),
    (
        "launch failed requeued held",
        "Slurm could not start it on its node, and holds it: an administrator can release it",
    ),
    ("PartitionDown", "its partition is down"),
    ("PartitionInactive", "its partition takes no jobs now"),
    ("PartitionNodeLimit", "it asks for more nodes than its partition allows"),
    ("PartitionTimeLimit", "it asks for more time than its partition allows"),
    ("PartitionConfig", "its partition does not allow what it asks for"),
    ("Reservation", "it waits for its reservation"),
    ("ReservationDeleted", "its reservation is gone"),
    ("ReqNodeNotAvail", "nodes that it needs are down, drained or reserved"),
    ("NodeDown", "a node that it needs is down"),
    ("BadConstraints", "no node is as it asks"),
    ("Licenses", "it waits for a licence"),
    ("AssociationJobLimit", "the account runs as many jobs as it may"),
    ("AssocMaxJobsLimit", "the account runs as many jobs as it may"),
    ("AssocGrpGRES", "the account uses as many GPUs as it may"),
    ("AssocGrpGRESMinutes", "the account has used up its GPU time"),
    ("AssocGrpCpuLimit", "the account uses as many CPUs as it may"),
    ("AssocGrpMemLimit", "the account uses as much memory as it may"),
    ("InvalidAccount", "the account is not valid"),
    ("InvalidQOS", "the quality of service is not valid"),
    ("QOSMaxJobsPerUserLimit", "as many jobs run as the quality of service allows"),
    ("QOSMaxGRESPerUser", "as many GPUs are used as the quality of service allows"),
    ("QOSMaxCpuPerUserLimit", "as many CPUs are used as the quality of service allows"),
    ("QOSGrpGRES", "as many GPUs are used as the quality of service allows"),
    ("QOSJobLimit", "as many jobs run as the quality of service allows"),
];

/// A reason in words, with Slurm's own in brackets for whoever asks an administrator.
pub(crate) fn reason(word: &str) -> String {
    // Some go on with details: `ReqNodeNotAvail, UnavailableNodes:n1`.
    let word = word.trim().trim_start_matches('(').trim_end_matches(')');
    let head = word.split(',').next().unwrap_or_default();
    match REASONS.iter().find(|(w, _)| *w == word || *w == head) {
        Some((_, words)) => format!("{words} ({word})"),
        None => format!("Slurm says {word}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_every_kind() {
        for (word, expected) in [
            ("PENDING", JobState::Waiting),
            ("REQUEUE_HOLD", JobState::Waiting),
            ("COMPLETING", JobState::Running),
            ("SUSPENDED", JobState::Running),
            ("A_WORD_OF_LATER", JobState::Running),
            ("CANCELLED by 1000", JobState::Ended(End::Cancelled)),
            ("OUT_OF_MEMORY", JobState::Ended(End::OutOfMemory)),
        ] {
            assert_eq!(JobState::parse(word), expected, "{word}");
        }
    }

    #[test]
    fn reasons_keep_slurms_own_word() {
        assert_eq!(reason("Resources"), "no node has enough free now (Resources)");
        let detail = "ReqNodeNotAvail, UnavailableNodes:n[1-3]";
        assert_eq!(reason(detail), format!("nodes that it needs are down, drained or reserved ({detail})"));
        assert_eq!(reason("SomethingNew"), "Slurm says SomethingNew");
    }
}
