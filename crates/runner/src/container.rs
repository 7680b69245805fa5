//! A program in a container: the words that start it with Apptainer, or as a step of the job with Slurm's plugin
//! pyxis. No I/O.
//!
//! The container takes the place of namespace and sandbox, within which none could be mounted: it has the run's
//! folders as `/job`, and of the node's files nothing else.
//! Options are those of Apptainer 1.4's `apptainer exec --help`, and of the README and the tests of pyxis.

use std::path::Path;

use trainyard_api::runner::{Container, ContainerRuntime};

use crate::{
    layout::Layout,
    namespace::{JOB, Namespace},
};

/// What the program leaves in its folder when the container runs: one that cannot be started leaves nothing.
const BEGUN: &str = ".begun";
/// Runs the command in the shell that the image has.
const INSIDE: &str = "export HOME=/job/home; : >/job/.begun; [ -x /bin/bash ] && exec /bin/bash -c \"$TRAINING_COMMAND\"; \
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

/// Parts of `/proc` that root changes the node with, capabilities or not.
const OF_THE_NODE: [&str; 5] = ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];

/// Folders and files of this node with their places in the container; `true`: it cannot write there. Each folder is a
/// mount of its own, so that the program cannot put something else in its place, which the runner would follow.
fn mounts(inside: &Inside<'_>) -> Vec<(String, String, bool)> {
    let Layout { job, data, code, results, logs, checkpoints, home, tmp, .. } = inside.layout;
    let text = |p: &Path| p.display().to_string();
    let own =
        [(data, true), (code, false), (results, false), (logs, false), (checkpoints, false), (home, false)];
    let own = own.map(|(p, read_only)| (text(p), text(&Namespace::path(inside.layout, p)), read_only));
    let mut all = vec![(text(job), JOB.to_owned(), false)];
    all.extend(own);
    for place in ["/tmp", "/var/tmp"] {
        all.push((text(tmp), place.to_owned(), false));
    }
    all.push((text(inside.hosts), "/etc/hosts".to_owned(), true));
    all
}

fn apptainer(container: &Container, inside: Inside<'_>) -> Words {
    // Nothing of the node's but what is named, no processes of others, no rights of root's.
    let mut command: Vec<String> = ["apptainer", "exec", "--containall", "--cleanenv", "--no-privs"]
        .into_iter()
        // Values of variables stay as they are; folders that the node's administrator binds stay out.
        .chain(["--no-eval", "--no-mount", "hostfs,bind-paths,cwd,sys"])
        .map(str::to_owned)
        .collect();
    command.push("--home".to_owned());
    command.push(format!("{}:{JOB}/home", inside.layout.home.display()));
    command.extend(["--pwd".to_owned(), format!("{JOB}/model-code")]);
    let node = OF_THE_NODE.iter().filter(|p| Path::new(p).exists());
    let node = node.map(|p| ((*p).to_owned(), (*p).to_owned(), true));
    for (source, target, read_only) in mounts(&inside).into_iter().chain(node) {
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
    // A step takes no more of them than it asks for, on clusters that bind tasks to cores.
    let cpus = inside.own.iter().find(|(n, _)| n == "SLURM_CPUS_PER_TASK");
    command.extend(cpus.map(|(_, n)| format!("--cpus-per-task={n}")));
    command.push(format!("--container-image={}", inside.image));
    let mount = |(source, target, read_only): (String, String, bool)| {
        format!("{source}:{target}{}", if read_only { ":ro" } else { "" })
    };
    let mounts: Vec<String> = mounts(&inside).into_iter().map(mount).collect();
    command.push(format!("--container-mounts={}", mounts.join(",")));
    command.push(format!("--container-workdir={JOB}/model-code"));
    command.extend(["--no-container-mount-home", "--no-container-entrypoint"].map(str::to_owned));
    let Inside { mut variables, own, .. } = inside;
    // What imports images has its settings and its login in the user's own.
    variables.retain(|(name, _)| name != "HOME");
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
    ["PATH", "HOME"].contains(&name) || JOB.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(runtime: ContainerRuntime, gpus: bool) -> Words {
        let layout = Layout::new(Path::new("/node,1/runs/r"));
        let container = Container {
            runtime,
            image: "/images/i.sif".to_owned(),
            options: vec!["--of-the-operator".to_owned()],
        };
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let inside = Inside {
            layout: &layout,
            image: &container.image,
            hosts: Path::new("/etc/hosts"),
            gpus,
            variables: vec![pair("HOME", "/job/home"), pair("TRAINING_ID", "r"), pair("RANK", "0")],
            own: vec![
                pair("PATH", "/usr/bin"),
                pair("HOME", "/home/operator"),
                pair("SLURMD_NODENAME", "n1"),
                pair("SLURM_STEP_ID", "4"),
                pair("SLURM_CPUS_PER_TASK", "16"),
                pair("TRAINYARD_SECRET", "x"),
            ],
        };
        words(&container, inside)
    }

    #[test]
    fn apptainer_is_given_the_folders_the_variables_and_nothing_of_the_nodes() {
        let Words { command, variables } = words_of(ContainerRuntime::Apptainer, true);
        let line = command.join(" ");
        for expected in [
            "apptainer exec --containall --cleanenv --no-privs",
            "--mount type=bind,\"source=/node,1/runs/r/job\",destination=/job --mount",
            "destination=/job/dl-data,ro",
            "--nv --of-the-operator /images/i.sif /bin/sh -c",
        ] {
            assert!(line.contains(expected), "{expected}: {line}");
        }
        let mut names: Vec<&str> = variables.iter().map(|(n, _)| n.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["APPTAINERENV_RANK", "APPTAINERENV_TRAINING_ID", "HOME", "PATH", "TRAINING_ID"]);
        assert!(!words_of(ContainerRuntime::Apptainer, false).command.contains(&"--nv".to_owned()));
    }

    #[test]
    fn pyxis_is_a_step_on_the_same_node() {
        let Words { command, variables } = words_of(ContainerRuntime::Pyxis, true);
        let line = command.join(" ");
        for expected in [
            "srun --overlap --nodes=1 --ntasks=1 ",
            "--nodelist=n1 --cpus-per-task=16 --container-image=/images/i.sif --container-mounts=",
            "/job/dl-data:/job/dl-data:ro,",
            "--container-env=TRAINING_ID,RANK --of-the-operator /bin/sh -c",
        ] {
            assert!(line.contains(expected), "{expected}: {line}");
        }
        // Its own home, for what fetches images; the program's is set inside.
        assert!(variables.contains(&("HOME".to_owned(), "/home/operator".to_owned())));
        assert!(!variables.iter().any(|(n, _)| n.contains("STEP") || n.contains("SECRET")));
    }
}
