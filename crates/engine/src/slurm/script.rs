//! The job: its script and the options of `sbatch`. No I/O.
//!
//! Nothing in either is secret: the pass of the job lies in a file that only its user can read.

use trainyard_api::runner::{Demand, JobOptions};

use super::{
    account::Account,
    delivery::{Launch, quoted},
};

/// One mebibyte, the unit of `--mem`.
const MIB: u64 = 1 << 20;

/// A job to submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobRequest {
    /// Its name, by which it is found again.
    pub(crate) name: String,
    /// Options of `sbatch`, each one word.
    pub(crate) options: Vec<String>,
    /// The script.
    pub(crate) script: String,
    /// Whose it is; absent: the server's user's.
    pub(crate) account: Option<Account>,
}

/// What a job needs besides its options.
pub(crate) struct Means<'a> {
    /// Whose it is; absent: the server's user's.
    pub(crate) account: Option<Account>,
    /// How it comes to its runner.
    pub(crate) launch: &'a Launch,
    /// How many learners it has, each with a runner on a node of its own.
    pub(crate) learners: u32,
    /// Slurm may start the job again.
    pub(crate) requeue: bool,
    /// Seconds before its time limit at which the runner is told.
    pub(crate) lead: u64,
    /// The one node that will do, or one for each learner.
    pub(crate) node: Option<&'a str>,
}

/// The job called `name` with this demand.
pub(crate) fn request(name: &str, demand: &Demand, options: &JobOptions, means: &Means<'_>) -> JobRequest {
    let cpus = format!("--cpus-per-task={}", demand.cpus.ceil().max(1.0));
    let mut words = vec![
        "--parsable".to_owned(),
        format!("--job-name={name}"),
        "--comment=trainyard".to_owned(),
        format!("--output={}", means.launch.log().display()),
        "--open-mode=append".to_owned(),
        "--chdir=/".to_owned(),
        format!("--nodes={}", means.learners),
        format!("--ntasks={}", means.learners),
        "--ntasks-per-node=1".to_owned(),
        cpus.clone(),
        format!("--mem={}M", demand.memory.div_ceil(MIB).max(1)),
        if means.requeue { "--requeue" } else { "--no-requeue" }.to_owned(),
        // USR2 to the batch shell alone, which is the runner.
        format!("--signal=B:USR2@{}", means.lead),
    ];
    let gres = options.gres.clone().or_else(|| (demand.gpus > 0).then(|| format!("gpu:{}", demand.gpus)));
    let node = means.node.map(str::to_owned);
    for (option, value) in [
        ("nodelist", &node),
        ("partition", &options.partition),
        ("account", &options.account),
        ("qos", &options.qos),
        ("gres", &gres),
        ("constraint", &options.constraint),
        ("time", &options.time),
    ] {
        if let Some(value) = value {
            words.push(format!("--{option}={value}"));
        }
    }
    if let Some(Account { uid, gid, .. }) = &means.account {
        words.extend([format!("--uid={uid}"), format!("--gid={gid}")]);
    }
    // Last: of two the later counts.
    words.extend(options.options.iter().cloned());
    let (before, runner) = (means.launch.before(), means.launch.runner("ticket"));
    let others = others(&before, &runner, &cpus, gres.as_deref(), means.learners);
    let script = format!("#!/bin/sh\n{before}exec {runner}{others}\n");
    JobRequest { name: name.to_owned(), options: words, script, account: means.account.clone() }
}

/// What starts the runners of the other learners, once the first one has its ticket: a step of the job, on the
/// nodes but the first. A runner that a signal ended is followed by another, which stores what it left; the shell
/// that does this has no use for the signals of the step. Where that does not help either, nobody is left waiting:
/// the step ends, and what it left another job stores.
fn others(before: &str, runner: &str, cpus: &str, gres: Option<&str>, learners: u32) -> String {
    let others = learners.saturating_sub(1);
    if others == 0 {
        return String::new();
    }
    let gres = gres.map_or_else(String::new, |g| format!(" {}", quoted(&format!("--gres={g}"))));
    let member = format!("{runner} --others");
    let twice = format!(
        "{before}trap : TERM INT HUP USR1 USR2; {member}; c=$?; [ $c -lt 128 ] || exec {member}; exit $c"
    );
    format!(
        " -- srun --nodes={others} --ntasks={others} --ntasks-per-node=1 --relative=1 {cpus} --mem=0{gres} \
         --wait=0 --kill-on-bad-exit=1 --input=none /bin/sh -c {}",
        quoted(&twice)
    )
}

/// The script of a job that looks around on its node.
pub(crate) fn probe_script(launch: &Launch) -> String {
    format!("#!/bin/sh\n{}exec {}\n", launch.before(), launch.runner("probe"))
}

/// Whether `option` can be given to `sbatch` besides those that are set here; otherwise why not.
pub fn check_option(option: &str) -> Result<(), String> {
    const OURS: [&str; 20] = [
        "uid",
        "gid",
        "nodes",
        "ntasks",
        "ntasks-per-node",
        "parsable",
        "job-name",
        "output",
        "error",
        "open-mode",
        "chdir",
        "signal",
        "wrap",
        "array",
        "wait",
        "requeue",
        "no-requeue",
        "clusters",
        "comment",
        "test-only",
    ];
    let Some(name) = option.strip_prefix("--") else {
        return Err(format!(
            "`{option}` does not begin with `--`: write long options, each with its value as one word"
        ));
    };
    let name = name.split('=').next().unwrap_or_default();
    if OURS.contains(&name) {
        return Err(format!("`--{name}` is set by the server"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(program: &str) -> Launch {
        Launch::Shared {
            program: program.into(),
            ticket: "/shared/t.json".into(),
            log: "/shared/l.log".into(),
        }
    }

    #[test]
    fn a_job_in_full() {
        let demand = Demand { cpus: 3.5, memory: (5 << 30) + 1, gpus: 2 };
        let own = JobOptions { gres: Some("gpu:k80:2".to_owned()), ..JobOptions::default() };
        let general = JobOptions {
            partition: Some("main".to_owned()),
            gres: Some("gpu:1".to_owned()),
            options: vec!["--exclusive".to_owned()],
            ..JobOptions::default()
        };
        let launch = shared("/shared/it's/trainyard");
        let means =
            Means { account: None, launch: &launch, learners: 1, requeue: true, lead: 90, node: None };
        let job = request("a-job", &demand, &own.over(&general), &means);
        assert_eq!(
            job.script,
            "#!/bin/sh\nexec '/shared/it'\\''s/trainyard' runner --ticket '/shared/t.json'\n"
        );
        for expected in [
            "--cpus-per-task=4",
            "--mem=5121M",
            "--gres=gpu:k80:2",
            "--partition=main",
            "--exclusive",
            "--requeue",
            "--signal=B:USR2@90",
        ] {
            assert!(job.options.iter().any(|o| o == expected), "{expected}: {:?}", job.options);
        }
    }

    #[test]
    fn the_first_learner_has_the_others_started() {
        let demand = Demand { cpus: 2.0, memory: 1 << 30, gpus: 1 };
        let launch = shared("/shared/trainyard");
        let means =
            Means { account: None, launch: &launch, learners: 3, requeue: true, lead: 90, node: None };
        let job = request("a-job", &demand, &JobOptions::default(), &means);
        for expected in ["--nodes=3", "--ntasks=3", "--ntasks-per-node=1", "--gres=gpu:1"] {
            assert!(job.options.iter().any(|o| o == expected), "{expected}: {:?}", job.options);
        }
        let (first, step) = job.script.split_once(" -- ").unwrap();
        assert_eq!(first, "#!/bin/sh\nexec '/shared/trainyard' runner --ticket '/shared/t.json'");
        assert!(
            step.starts_with("srun --nodes=2 --ntasks=2 --ntasks-per-node=1 --relative=1 --cpus-per-task=2")
        );
        assert!(step.contains(" '--gres=gpu:1' "), "{step}");
        assert!(step.contains("runner --ticket '\\''/shared/t.json'\\'' --others; c=$?"), "{step}");
    }

    #[test]
    fn options_that_would_break_the_job_are_refused() {
        assert_eq!(check_option("--exclusive=user"), Ok(()));
        for bad in ["-p", "--output=/tmp/x", "--array=0-3", "exclusive", "--wait", "--nodes=2"] {
            assert!(check_option(bad).is_err(), "{bad}");
        }
    }
}
