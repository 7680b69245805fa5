//! The job: its script and the options of `sbatch`. No I/O.
//!
//! Nothing in either is secret: the pass of the job lies in a file that only its user can read.

use std::path::Path;

use trainyard_api::runner::{Demand, JobOptions};

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
}

/// What a job needs besides its options.
pub(crate) struct Means<'a> {
    /// This program, as nodes see it.
    pub(crate) program: &'a Path,
    /// The file with the ticket.
    pub(crate) ticket: &'a Path,
    /// Where the runner's own log goes.
    pub(crate) log: &'a Path,
    /// Slurm may start the job again.
    pub(crate) requeue: bool,
    /// Seconds before its time limit at which the runner is told.
    pub(crate) lead: u64,
    /// The one node that will do.
    pub(crate) node: Option<&'a str>,
}

/// The job called `name` with this demand.
pub(crate) fn request(name: &str, demand: &Demand, options: &JobOptions, means: &Means<'_>) -> JobRequest {
    let mut words = vec![
        "--parsable".to_owned(),
        format!("--job-name={name}"),
        "--comment=trainyard".to_owned(),
        format!("--output={}", means.log.display()),
        "--open-mode=append".to_owned(),
        "--chdir=/".to_owned(),
        "--nodes=1".to_owned(),
        "--ntasks=1".to_owned(),
        format!("--cpus-per-task={}", demand.cpus.ceil().max(1.0)),
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
    // Last: of two the later counts.
    words.extend(options.options.iter().cloned());
    let script =
        format!("#!/bin/sh\nexec {} runner --ticket {}\n", quoted(means.program), quoted(means.ticket));
    JobRequest { name: name.to_owned(), options: words, script }
}

/// The script of a job that looks around on its node.
pub(crate) fn probe_script(program: &Path, file: &Path) -> String {
    format!("#!/bin/sh\nexec {} runner --probe {}\n", quoted(program), quoted(file))
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

/// Whether `option` can be given to `sbatch` besides those that are set here; otherwise why not.
pub fn check_option(option: &str) -> Result<(), String> {
    const OURS: [&str; 15] = [
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
        let means = Means {
            program: Path::new("/shared/it's/trainyard"),
            ticket: Path::new("/shared/t.json"),
            log: Path::new("/shared/l.log"),
            requeue: true,
            lead: 90,
            node: None,
        };
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
    fn options_that_would_break_the_job_are_refused() {
        assert_eq!(check_option("--exclusive=user"), Ok(()));
        for bad in ["-p", "--output=/tmp/x", "--array=0-3", "exclusive", "--wait"] {
            assert!(check_option(bad).is_err(), "{bad}");
        }
    }
}
