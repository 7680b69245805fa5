//! A program in a container: the words that start it with Apptainer, or as a step of the job with Slurm's plugin
//! pyxis. No I/O.
//!
//! The container takes the place of namespace and sandbox, within which none could be mounted: it has the run's
//! folders as `/job`, and of the node's files nothing else.
//! Options are those of Apptainer 1.4's `apptainer exec --help` and of the README of pyxis 0.20.

use std::path::Path;

use trainyard_api::runner::{Container, ContainerRuntime};

use crate::{layout::Layout, namespace::JOB};

/// What the program leaves in its folder when the container runs: one that cannot be started leaves nothing.
const BEGUN: &str = ".begun";
/// Runs the command in the shell that the image has.
const INSIDE: &str = ": >/job/.begun; [ -x /bin/bash ] && exec /bin/bash -c \"$TRAINING_COMMAND\"; \
                      exec /bin/sh -c \"$TRAINING_COMMAND\"";
/// Names by which a runner finds what an earlier one of its run left, in the environment of processes.
const MARKS: [&str; 2] = ["TRAINING_ID", "LEARNER_ID"];

/// What is to run where.
pub(crate) struct Inside<'a> {
    pub(crate) layout: &'a Layout,
    /// The image as it is on this node.
    pub(crate) image: &'a str,
    /// A file of host names.
    pub(crate) hosts: &'a Path,
    /// The program has GPUs.
    pub(crate) gpus: bool,
    /// What the program's environment is to hold.
    pub(crate) variables: Vec<(String, String)>,
    /// This process's own environment.
    pub(crate) own: Vec<(String, String)>,
}

/// A command with its whole environment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Words {
    pub(crate) command: Vec<String>,
    pub(crate) variables: Vec<(String, String)>,
}

/// What starts the program in its container.
pub(crate) fn words(container: &Container, inside: Inside<'_>) -> Words {
    let mut words = match container.runtime {
        ContainerRuntime::Apptainer => apptainer(container, inside),
        ContainerRuntime::Pyxis => pyxis(container, inside),
    };
    words.command.extend(["/bin/sh", "-c", INSIDE].map(str::to_owned));
    words
}

/// Whether the container has run the program.
pub(crate) fn has_begun(layout: &Layout) -> bool {
    layout.job.join(BEGUN).exists()
}

/// Folders and files of this node with their places in the container; `true`: it cannot write there.
fn mounts(inside: &Inside<'_>) -> [(String, String, bool); 5] {
    let Layout { job, data, tmp, .. } = inside.layout;
    let text = |p: &Path| p.display().to_string();
    [
        (text(job), JOB.to_owned(), false),
        (text(data), format!("{JOB}/dl-data"), true),
        (text(tmp), "/tmp".to_owned(), false),
        (text(tmp), "/var/tmp".to_owned(), false),
        (text(inside.hosts), "/etc/hosts".to_owned(), true),
    ]
}

fn apptainer(container: &Container, inside: Inside<'_>) -> Words {
    // Nothing of the node's but what is named, no processes of others, no rights of root's.
    let mut command: Vec<String> = ["apptainer", "exec", "--containall", "--cleanenv", "--no-privs"]
        .into_iter()
        // Values of variables stay as they are; folders that the node's administrator binds stay out.
        .chain(["--no-eval", "--no-mount", "hostfs,bind-paths,cwd"])
        .map(str::to_owned)
        .collect();
    command.push("--home".to_owned());
    command.push(format!("{}:{JOB}/home", inside.layout.home.display()));
    command.extend(["--pwd".to_owned(), format!("{JOB}/model-code")]);
    for (source, target, read_only) in mounts(&inside) {
        let ro = if read_only { ",ro" } else { "" };
        command.push("--mount".to_owned());
        command.push(format!("type=bind,{},destination={target}{ro}", field(&format!("source={source}"))));
    }
    if inside.gpus {
        command.push("--nv".to_owned());
    }
    command.extend(container.options.iter().cloned());
    command.push(inside.image.to_owned());
    let Inside { variables, own, .. } = inside;
    // Its own settings may be the operator's; what names folders to bind is not for a program to have.
    let mut all: Vec<(String, String)> = own.into_iter().filter(|(n, _)| is_for_apptainer(n)).collect();
    for (name, value) in variables {
        if MARKS.contains(&name.as_str()) {
            all.push((name.clone(), value.clone()));
        }
        // It says itself where home is.
        if name != "HOME" {
            all.push((format!("APPTAINERENV_{name}"), value));
        }
    }
    Words { command, variables: all }
}

fn is_for_apptainer(name: &str) -> bool {
    ["PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR"].contains(&name)
        || ["APPTAINER_CACHEDIR", "APPTAINER_TMPDIR", "APPTAINER_CONFIGDIR"].contains(&name)
}

/// A field of a line of comma-separated values (RFC 4180).
fn field(text: &str) -> String {
    if text.contains([',', '"']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

fn pyxis(container: &Container, inside: Inside<'_>) -> Words {
    let node = inside.own.iter().find(|(n, _)| n == "SLURMD_NODENAME").map(|(_, v)| v.as_str());
    let mut command: Vec<String> =
        ["srun", "--overlap", "--nodes=1", "--ntasks=1", "--mem=0", "--input=none"]
            .into_iter()
            .chain(["--unbuffered", "--quit-on-interrupt", "--kill-on-bad-exit=0", "--export=ALL"])
            .map(str::to_owned)
            .collect();
    command.extend(node.map(|n| format!("--nodelist={n}")));
    command.push(format!("--container-image={}", inside.image));
    let mounts = mounts(&inside).map(|(source, target, read_only)| {
        format!("{source}:{target}{}", if read_only { ":ro" } else { "" })
    });
    command.push(format!("--container-mounts={}", mounts.join(",")));
    command.push(format!("--container-workdir={JOB}/model-code"));
    command.extend(["--no-container-mount-home", "--no-container-entrypoint"].map(str::to_owned));
    let Inside { variables, own, .. } = inside;
    // Where the image sets one of them, the run's counts.
    let names: Vec<&str> = variables.iter().map(|(n, _)| n.as_str()).collect();
    command.push(format!("--container-env={}", names.join(",")));
    command.extend(container.options.iter().cloned());
    let mut all: Vec<(String, String)> = own.into_iter().filter(|(n, _)| is_for_slurm(n)).collect();
    all.extend(variables);
    Words { command, variables: all }
}

/// What `srun` has to know of the job. Its options for steps may be given by variables as well: those stay out,
/// for they are about the step that this process is in.
fn is_for_slurm(name: &str) -> bool {
    const JOB: [&str; 7] = [
        "SLURM_CONF",
        "SLURM_JOB_ID",
        "SLURM_JOBID",
        "SLURM_CLUSTER_NAME",
        "SLURM_JOB_NODELIST",
        "SLURM_NODELIST",
        "SLURMD_NODENAME",
    ];
    name == "PATH" || JOB.contains(&name)
}
