//! Programs in containers on a real Slurm: by Apptainer, and as a step with the options of pyxis. What surrounds the
//! program is the same as without; what it sees of the node is its folders and nothing else.

use std::{fs, path::Path};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use trainyard_api::Code;

use crate::harness::{
    Cluster, IN_IMAGE, PATIENCE, Parts, Shape, Yard, archive, code_folder, image_root, programs, sif,
    wait_for,
};

const CPU: &str = "[compute.gpu]\ncpus = 1\nmemory = '1GiB'\ngpus = 1\n";

/// Processes are seen by the numbers that they have themselves.
fn plain() -> Shape {
    Shape { plain: true, ..Shape::default() }
}

/// A cluster with images of Apptainer's: one for all runs, one of `yardnet 2.1.0`, and one that is to be fetched.
fn apptainer(shape: Shape) -> Option<Yard> {
    if !Path::new("/usr/bin/apptainer").exists() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "apptainer is missing: run tests/on_newer_slurm"
        );
        eprintln!("NOT RUN: apptainer is missing; tests/on_newer_slurm has one");
        return None;
    }
    let cluster = Cluster::start(shape)?;
    let images = cluster.images();
    let (image, archive) = (sif(&images), archive(&images));
    let (image, archive) = (image.display(), archive.display());
    let container = format!(
        "[engine.slurm.container]\nruntime = 'apptainer'\nimage = '{image}'\n\
         [[engine.slurm.container.framework]]\nname = 'yardnet'\nversion = '2.1.0'\nimage = '{image}'\n\
         [[engine.slurm.container.framework]]\nname = 'fetched'\nversion = '1.0.0'\nimage = 'docker-archive:{archive}'\n\
         [[engine.slurm.container.framework]]\nname = 'missing'\nversion = '1.0.0'\nimage = '{images}/no.sif'\n\
         [[engine.slurm.container.framework]]\nname = 'broken'\nversion = '1.0.0'\nimage = '{archive}'\n",
        images = images.display(),
    );
    Some(Yard::on_cluster(cluster, &format!("{container}{CPU}")))
}

fn pyxis(shape: Shape) -> Option<Yard> {
    if !Path::new("/usr/include/slurm/spank.h").exists() {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "libslurm-dev is missing: run tests/on_newer_slurm"
        );
        eprintln!("NOT RUN: libslurm-dev is missing; tests/on_newer_slurm has it");
        return None;
    }
    let cluster = Cluster::start(Shape { parts: Parts { pyxis: true, ..Parts::default() }, ..shape })?;
    let image = image_root(&cluster.images());
    for folder in ["job", "var/tmp"] {
        fs::create_dir(image.join(folder)).unwrap();
    }
    let container = format!("[engine.slurm.container]\nruntime = 'pyxis'\nimage = '{}'\n", image.display());
    Some(Yard::on_cluster(cluster, &format!("{container}{CPU}")))
}

/// Submits `command` with a script `main.sh`, and these fields of the manifest's `model_definition`.
fn train(yard: &Yard, command: &str, script: &str, set: &[&str]) -> String {
    let code = code_folder(yard.dir.path(), &[("main.sh", script)]);
    let set: Vec<String> = set.iter().map(|s| format!("model_definition.{s}")).collect();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    yard.train_set(&code, &yard.manifest("contained", command), &set)
}

fn framework(name: &str) -> [String; 2] {
    [format!("framework.name={name}"), "framework.version=1".to_owned()]
}

#[track_caller]
fn ended(yard: &Yard, id: &str, state: &str) -> Value {
    let status = yard.wait_end(id);
    assert_eq!(status["state"].as_str(), Some(state), "{status:#}\n{}", yard.cli(&["logs", id]).out);
    status
}

#[track_caller]
fn failed_of(yard: &Yard, id: &str, code: Code) -> String {
    let status = ended(yard, id, "error");
    let failure = &status["error"]["errors"][0];
    assert_eq!(failure["code"].as_str(), Some(code.as_str()), "{status:#}");
    failure["message"].as_str().unwrap().to_owned()
}

/// Tells what it sees, and tries what it should not be able to.
const LOOK: &str = r#"
head -n 1 /etc/os-release
echo "in $(/bin/sh -c 'echo $PWD') as $HOME"
cat $DATA_DIR/d.txt
echo "command: $TRAINING_COMMAND"
echo "gpus: $GPU_COUNT ids: $CUDA_VISIBLE_DEVICES"
touch $DATA_DIR/more 2>/dev/null || echo "data is only read"
ls $1 2>/dev/null || echo "no $1"
mkdir $RESULT_DIR/model && echo weights > $RESULT_DIR/model/w
touch /tmp/t /var/tmp/t $HOME/h && echo "own folders are there"
env | grep -q TRAINYARD && echo "a variable of the server's"
mv /job/logs /job/other 2>/dev/null && echo "a folder can be replaced"
true
"#;

/// Ways by which root changes the node.
const REACH: &str = "for f in /proc/sys/vm/swappiness /proc/sysrq-trigger /sys/kernel/mm/ksm/run; do \
                     (echo 0 > $f) 2>/dev/null && echo reached $f; done; echo tried";

#[track_caller]
fn looks_around(yard: &Yard) {
    yard.put("d.txt", b"a line of data\n");
    let shared = yard.dir.path().join("shared");
    let command = format!("echo \"$HOME\" `echo ticks`; bash main.sh {}", shared.display());
    let id = train(yard, &command, LOOK, &["execution.compute_configuration.name=gpu"]);
    ended(yard, &id, "completed");
    let log = yard.cli(&["logs", &id]).ok();
    for line in [
        IN_IMAGE,
        "/job/home ticks",
        "in /job/model-code as /job/home",
        "a line of data",
        "gpus: 1.000000 ids: 0",
        "data is only read",
        &format!("command: {command}"),
        &format!("no {}", shared.display()),
        "own folders are there",
    ] {
        assert!(log.lines().any(|l| l == line), "{line}: {log}");
    }
    for bad in ["a variable of the server's", "a folder can be replaced"] {
        assert!(!log.contains(bad), "{bad}: {log}");
    }
    assert_eq!(yard.result(&id, "model/w"), "weights\n");
    let shown = yard.cli(&["show", &id]).ok();
    assert!(shown.contains("custom, image /"), "{shown}");
    wait_for("nothing is left of it", PATIENCE, || {
        (fs::read_dir(shared.join("node/runs")).unwrap().count() == 0).then_some(())
    });
}

/// Counts how often it is told to end, beside a process that does not listen.
const PATIENT: &str = r#"
trap 'echo told >> $RESULT_DIR/told; /bin/sleep 0.3; exit 0' TERM
(trap "" TERM; while :; do /bin/sleep 0.05; done) &
echo kept > $RESULT_DIR/kept
echo here
while :; do /bin/sleep 0.05; done
"#;

#[track_caller]
fn ends_as_told(yard: &Yard) {
    let seven = train(yard, "echo sorry; exit 7", "", &[]);
    let status = ended(yard, &seven, "error");
    assert_eq!(status["error"]["errors"][0]["exit_code"].as_i64(), Some(7), "{status:#}");
    let id = train(yard, "bash main.sh", PATIENT, &[]);
    yard.wait_log(&id, "here");
    yard.cli(&["cancel", &id]).ok();
    ended(yard, &id, "canceled");
    assert_eq!(yard.result(&id, "told"), "told\n");
    assert_eq!(programs(&id), Vec::<i32>::new());
}

const ENDLESS: &str = "echo kept > $RESULT_DIR/kept; echo here; while :; do /bin/sleep 0.05; done";

/// The runner is killed: the program ends with it, what it wrote is stored, and it is not started again.
#[track_caller]
fn outlives_no_runner(yard: &Yard) {
    let id = train(yard, "bash main.sh", ENDLESS, &[]);
    yard.wait_log(&id, "here");
    let lock = yard.run_folder(&id).join("runner.lock");
    let runner: i32 = fs::read_to_string(lock).unwrap().trim().parse().unwrap();
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    failed_of(yard, &id, Code::RunnerLost);
    assert_eq!(yard.result(&id, "kept"), "kept\n");
    wait_for("the program is gone", PATIENCE, || programs(&id).is_empty().then_some(()));
}

#[test]
fn a_program_in_apptainer_sees_its_folders_and_nothing_else() {
    let Some(yard) = apptainer(Shape::default()) else { return };
    looks_around(&yard);
    let id = train(&yard, "sh main.sh", REACH, &[]);
    ended(&yard, &id, "completed");
    let log = yard.cli(&["logs", &id]).ok();
    assert!(log.contains("tried") && !log.contains("reached"), "{log}");
}

#[test]
fn a_program_in_apptainer_ends_as_others_do() {
    let Some(yard) = apptainer(Shape::default()) else { return };
    ends_as_told(&yard);
}

#[test]
fn a_program_in_apptainer_outlives_no_runner() {
    let Some(yard) = apptainer(plain()) else { return };
    outlives_no_runner(&yard);
}

#[test]
fn a_program_in_pyxis_sees_its_folders_and_nothing_else() {
    let Some(yard) = pyxis(Shape::default()) else { return };
    looks_around(&yard);
}

#[test]
fn a_program_in_pyxis_ends_as_others_do() {
    let Some(yard) = pyxis(Shape::default()) else { return };
    ends_as_told(&yard);
}

#[test]
fn a_program_in_pyxis_outlives_no_runner() {
    let Some(yard) = pyxis(plain()) else { return };
    outlives_no_runner(&yard);
}

#[test]
fn frameworks_are_images_where_the_operator_has_them() {
    let Some(yard) = apptainer(Shape::default()) else { return };
    let offered = yard.cli(&["frameworks"]).ok();
    let line = offered.lines().find(|l| l.starts_with("yardnet")).unwrap_or(&offered);
    assert!(line.contains("2.1.0") && line.contains("in an image"), "{offered}");
    let set = ["framework.name=yardnet", "framework.version=2"];
    let id = train(&yard, "head -n 1 /etc/os-release", "", &set);
    ended(&yard, &id, "completed");
    assert!(yard.cli(&["show", &id]).ok().contains("yardnet 2.1.0, image /"));
    // Fetched once, however many want it.
    let set = framework("fetched");
    let set = set.each_ref().map(String::as_str);
    let both = [0, 1].map(|_| train(&yard, "head -n 1 /etc/os-release", "", &set));
    for id in &both {
        ended(&yard, id, "completed");
        assert!(yard.cli(&["logs", id]).ok().contains(IN_IMAGE));
    }
    let notes = both.each_ref().map(|id| yard.result(id, "learner-1/load-model.log"));
    let made = notes.iter().filter(|n| n.contains("fetching the image docker-archive:")).count();
    assert_eq!(made, 1, "{notes:?}");
}

#[test]
fn an_image_that_is_not_there_or_is_none_is_said() {
    let Some(yard) = apptainer(Shape::default()) else { return };
    let [missing, broken] = ["missing", "broken"].map(|name| {
        let set = framework(name);
        train(&yard, "true", "", &set.each_ref().map(String::as_str))
    });
    let message = failed_of(&yard, &missing, Code::Environment);
    assert!(message.contains("/no.sif is not on this node"), "{message}");
    let message = failed_of(&yard, &broken, Code::ProgramStart);
    assert!(message.contains("container was not started"), "{message}");
    assert!(yard.cli(&["logs", &broken]).ok().contains("FATAL"));
    let (config, data) = (yard.dir.path().join("server.toml"), yard.data_folder());
    let words = ["doctor", "--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let cluster = yard.cluster.as_ref().unwrap();
    let doctor = yard.command(&words).env("SLURM_CONF", cluster.conf().to_str().unwrap());
    let said = doctor.env("PATH", &cluster.search_path()).run();
    assert!(said.out.contains("does not see the image") && said.out.contains("can run"), "{said:?}");
}

#[test]
fn learners_in_containers_know_each_other_by_name() {
    let Some(yard) = apptainer(Shape::default()) else { return };
    let id = train(
        &yard,
        "grep -c learner- /etc/hosts; echo rank=$RANK",
        "",
        &["execution.compute_configuration.nodes=2"],
    );
    ended(&yard, &id, "completed");
    for learner in ["1", "2"] {
        let log = yard.cli(&["logs", &id, "--learner", learner]).ok();
        assert!(log.lines().any(|l| l == "2"), "{log}");
    }
}
