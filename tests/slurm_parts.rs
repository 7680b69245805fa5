//! Clusters that have more than a controller and nodes: slurmrestd, accounting, memory limits by cgroups.

use std::{
    fs,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Parts, Shape, Yard, code_folder, wait_for};

fn cluster(parts: Parts, plain: bool) -> Option<Cluster> {
    Cluster::start(Shape { plain, parts, ..Shape::default() })
}

fn train(yard: &Yard, command: &str, set: &[&str]) -> String {
    let code = code_folder(yard.dir.path(), &[("main.sh", "true\n")]);
    let set: Vec<String> =
        set.iter().map(|s| format!("model_definition.execution.compute_configuration.{s}")).collect();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    yard.train_set(&code, &yard.manifest("parts", command), &set)
}

#[track_caller]
fn ended(status: &Value, state: &str) {
    assert_eq!(status["state"].as_str(), Some(state), "{status:#}");
}

/// So long after the last change slurmrestd says that nothing has changed.
const QUIET: Duration = Duration::from_secs(14);

/// Waits to be told, and stores that it was.
const PATIENT: &str = "trap 'echo told > $RESULT_DIR/told; exit 0' TERM; echo kept > $RESULT_DIR/kept; echo here; \
                       while :; do sleep 0.05; done";

#[test]
fn all_goes_by_slurmrestd_where_there_are_no_commands() {
    let Some(mut cluster) = cluster(Parts { rest: true, ..Parts::default() }, false) else { return };
    let rest = cluster.start_rest();
    for command in ["sbatch", "squeue", "scancel", "sacct", "scontrol"] {
        cluster.disguise(command, "echo 'there are no commands here' >&2; exit 1");
    }
    let whole = "[compute.whole]\ncpus = 4\nmemory = '4GiB'\n[compute.part]\ncpus = 1\nmemory = '1GiB'\n";
    let yard = Yard::on_cluster(cluster, &format!("store_seconds = 20\n{rest}{whole}"));
    let id = train(&yard, "echo gpus=$CUDA_VISIBLE_DEVICES; echo w > $RESULT_DIR/w", &["name=part"]);
    ended(&yard.wait_end(&id), "completed");
    assert_eq!(yard.result(&id, "w"), "w\n");

    // Two learners take both nodes; a run behind them waits, and says for what.
    let both = train(&yard, PATIENT, &["name=whole", "nodes=2"]);
    yard.wait_log(&both, "here");
    let waiting = train(&yard, "true", &["name=whole"]);
    wait_for("it says what it waits for", PATIENCE, || {
        yard.status(&waiting)["waits_for"].as_str()?.contains("in Slurm's queue: ").then_some(())
    });
    // Where nothing changes, slurmrestd sends nothing.
    let begun = Instant::now();
    wait_for("a quiet while is over", PATIENCE, || {
        let says = yard.status(&waiting)["waits_for"].as_str().unwrap_or_default().to_owned();
        assert!(says.contains("in Slurm's queue: "), "{says}");
        (begun.elapsed() > QUIET).then_some(())
    });
    yard.cli(&["cancel", &waiting]).ok();
    ended(&yard.wait_end(&waiting), "canceled");
    yard.cli(&["cancel", &both]).ok();
    ended(&yard.wait_end(&both), "canceled");
    assert_eq!(yard.result(&both, "told"), "told\n");
    assert_eq!(yard.result(&both, "learner-2/results/told"), "told\n");

    // Nobody nudges a runner here: it hears of a cancel by itself.
    let one = train(&yard, PATIENT, &["name=part"]);
    yard.wait_log(&one, "here");
    yard.cli(&["cancel", &one]).ok();
    ended(&yard.wait_end(&one), "canceled");
    assert_eq!(yard.result(&one, "told"), "told\n");

    // A token that ran out is said, and ends nothing.
    let token = yard.cluster.as_ref().unwrap().token();
    let good = fs::read(&token).unwrap();
    fs::write(&token, "SLURM_JWT=worn.out.token").unwrap();
    let late = train(&yard, "echo late", &["name=part"]);
    wait_for("it says that slurmrestd refuses", PATIENCE, || {
        yard.status(&late)["waits_for"].as_str()?.contains("slurmrestd").then_some(())
    });
    fs::write(&token, good).unwrap();
    ended(&yard.wait_end(&late), "completed");

    let (config, data) = (yard.dir.path().join("server.toml"), yard.data_folder());
    let words = ["doctor", "--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let said = yard.command(&words).run();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("a job was run within"), "{said:?}");
}

#[test]
fn what_became_of_a_forgotten_job_is_asked_of_accounting() {
    let Some(cluster) = cluster(Parts { accounting: true, ..Parts::default() }, true) else { return };
    let mut yard = Yard::on_cluster(cluster, "");
    let id = train(&yard, PATIENT, &[]);
    yard.wait_log(&id, "here");
    let lock = yard.run_folder(&id).join("runner.lock");
    let runner: i32 = fs::read_to_string(lock).unwrap().trim().parse().unwrap();
    yard.kill_server();
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    let cluster = yard.cluster.as_ref().unwrap();
    wait_for("the controller has forgotten the job", 2 * PATIENCE, || {
        cluster.jobs().is_empty().then_some(())
    });
    yard.restart();
    let status = yard.wait_end(&id);
    ended(&status, "error");
    let message = status["error"]["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("job 1 "), "{message}");
    assert_eq!(yard.result(&id, "kept"), "kept\n");
}

#[test]
fn a_program_that_takes_more_memory_than_its_job_has_is_told_so() {
    let Some(cluster) = cluster(Parts { cgroups: true, ..Parts::default() }, false) else { return };
    let yard = Yard::on_cluster(cluster, "[compute.small]\ncpus = 1\nmemory = '160MiB'\n");
    let eat = "echo kept > $RESULT_DIR/kept; python3 -c \"x = b'x' * (1 << 30)\"";
    let id = train(&yard, eat, &["name=small"]);
    let status = yard.wait_end(&id);
    ended(&status, "error");
    let failure = &status["error"]["errors"][0];
    assert_eq!(failure["code"].as_str(), Some(trainyard_api::Code::OutOfMemory.as_str()), "{status:#}");
    assert_eq!(yard.result(&id, "kept"), "kept\n");
}
