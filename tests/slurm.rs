//! Runs on a real Slurm: what an operator adds to the configuration is all that differs. Nodes lose their power
//! or their network, the controller is killed, answers are lost.

use std::{collections::BTreeSet, fs};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Shape, Yard, code_folder, programs, wait_for};

/// A yard whose runs go to a cluster; `None` where there can be none.
fn yard(shape: Shape, more: &str) -> Option<Yard> {
    Some(Yard::on_cluster(Cluster::start(shape)?, more))
}

fn cluster(yard: &Yard) -> &Cluster {
    yard.cluster.as_ref().unwrap()
}

fn phases(status: &Value) -> Vec<&str> {
    status["transitions"].as_array().unwrap().iter().map(|t| t["phase"].as_str().unwrap()).collect()
}

/// What a run waits for, once it says something like `text`.
#[track_caller]
fn wait_reason(yard: &Yard, id: &str, text: &str) {
    wait_for(&format!("{id} waits for `{text}`"), PATIENCE, || {
        yard.status(id)["waits_for"].as_str().is_some_and(|w| w.contains(text)).then_some(())
    });
}

/// Takes all CPUs of a cluster of this many nodes until the runs are canceled.
fn fill(yard: &Yard, nodes: usize) -> Vec<String> {
    let manifest = yard.manifest("filler", "echo here; sleep 600");
    let code = code_folder(yard.dir.path(), &[("main.sh", "true\n")]);
    let all: Vec<String> = (0..nodes).map(|_| yard.train_set(&code, &manifest, &[&sized("whole")])).collect();
    for id in &all {
        yard.wait_log(id, "here");
    }
    all
}

/// How many lines of a run's log begin like this.
fn printed(yard: &Yard, id: &str, text: &str) -> usize {
    yard.cli(&["logs", id]).ok().lines().filter(|l| l.starts_with(text)).count()
}

/// Asks for another compute configuration than the manifest.
fn sized(name: &str) -> String {
    format!("model_definition.execution.compute_configuration.name={name}")
}

/// Compute configuration of a whole node.
const WHOLE: &str =
    "[compute.whole]\ncpus = 4\nmemory = '4GiB'\n[compute.gpu]\ncpus = 1\nmemory = '1GiB'\ngpus = 1";

#[test]
fn a_run_goes_its_whole_way_on_a_node_and_its_secrets_stay_its_own() {
    let Some(yard) = yard(Shape::default(), WHOLE) else { return };
    yard.put("data.txt", b"payload");
    let command = "cat $DATA_DIR/data.txt; echo gpus=$CUDA_VISIBLE_DEVICES; env; tr '\\0' '\\n' < /proc/$PPID/environ; \
                   touch $HOME/up; while [ ! -e $JOB_STATE_DIR/go ]; do sleep 0.05; done; \
                   mkdir $RESULT_DIR/model; echo w > $RESULT_DIR/model/w";
    let code = code_folder(yard.dir.path(), &[("main.sh", "true\n")]);
    let id = yard.train_set(&code, &yard.manifest("whole", command), &[&sized("gpu")]);
    yard.wait_log(&id, "gpus=");
    let job = cluster(&yard).job_of(&id).unwrap().to_string();
    let pass = fs::read_dir(yard.dir.path().join("shared/jobs")).unwrap().flatten();
    let ticket = pass.map(|e| e.path()).find(|p| p.extension().is_some_and(|e| e == "json")).unwrap();
    let ticket: Value = serde_json::from_slice(&fs::read(ticket).unwrap()).unwrap();
    let pass = ticket["token"].as_str().unwrap().to_owned();
    assert!(pass.starts_with("typ_") && pass.len() > 40, "{pass}");
    let seen = [
        cluster(&yard).say("scontrol", &["-dd", "show", "job", &job]),
        cluster(&yard).say("scontrol", &["write", "batch_script", &job, "-"]),
        yard.cli(&["logs", &id]).ok(),
    ];
    let secret = yard.store.secret_access_key.expose().to_owned();
    for text in &seen {
        assert!(!text.contains(&pass) && !text.contains("tya_") && !text.contains(&secret), "{text}");
    }
    assert!(seen[1].contains("runner --ticket"), "{}", seen[1]);
    let folder =
        fs::read_dir(yard.dir.path().join("shared/node/runs")).unwrap().flatten().next().unwrap().path();
    fs::write(folder.join("job/go"), "").unwrap();
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("completed"), Some(1)),
        "{status:#}"
    );
    assert_eq!(phases(&status), ["QUEUED", "PENDING", "DOWNLOADING", "PROCESSING", "STORING", "COMPLETED"]);
    let log = yard.cli(&["logs", &id]).ok();
    assert!(log.contains("payload") && log.contains("gpus=0\n"), "{log}");
    assert_eq!(yard.result(&id, "model/w"), "w\n");
    wait_for("nothing is left of it", PATIENCE, || {
        let count = |f: &str| fs::read_dir(yard.dir.path().join("shared").join(f)).unwrap().count();
        (count("jobs") == 0 && count("node/runs") == 0).then_some(())
    });
}

#[test]
fn doctor_looks_around_on_a_node() {
    let Some(yard) = yard(Shape::default(), "") else { return };
    let doctor = || {
        let (config, data) = (yard.dir.path().join("server.toml"), yard.data_folder());
        let words = ["doctor", "--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()];
        let cluster = cluster(&yard);
        yard.command(&words)
            .env("SLURM_CONF", cluster.conf().to_str().unwrap())
            .env("PATH", &cluster.search_path())
            .run()
    };
    let said = doctor();
    assert_eq!(said.code, 0, "{said:?}");
    for good in [
        "slurm",
        "controller answers",
        "a job was run within",
        "n1 can work in",
        "n1 reaches the server",
        "n1 has python",
    ] {
        assert!(said.out.lines().any(|l| l.starts_with("ok") && l.contains(good)), "{good}: {}", said.out);
    }
    let left = fs::read_dir(yard.dir.path().join("shared/jobs")).unwrap().count();
    assert_eq!(left, 0, "the trial left something behind");
    cluster(&yard)
        .disguise("sbatch", "[ \"$1\" != --version ] || exec $REAL --version\necho 'sbatch: error: Batch job submission failed: Invalid account' >&2; exit 1");
    let said = doctor();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.contains("BAD   Slurm does not take a job") && said.out.contains("Invalid account"),
        "{}",
        said.out
    );
}

#[test]
fn programs_that_fail_say_so_and_jobs_that_cannot_be_say_so_at_once() {
    let more = "[compute.huge]\ncpus = 1\nmemory = '1GiB'\ngpus = 99";
    let Some(yard) = yard(Shape::default(), more) else { return };
    let id = yard.train("failing", "echo out; mkdir $RESULT_DIR/model; echo w > $RESULT_DIR/model/w; exit 7");
    let status = yard.wait_end(&id);
    assert_eq!(status["error"]["errors"][0]["exit_code"], 7, "{status:#}");
    assert_eq!(yard.result(&id, "model/w"), "w\n");
    let code = code_folder(yard.dir.path(), &[("main.sh", "true\n")]);
    let id = yard.train_set(&code, &yard.manifest("huge", "true"), &[&sized("huge")]);
    let status = yard.wait_end(&id);
    let said = status["error"]["errors"][0]["message"].as_str().unwrap();
    assert!(said.contains("Slurm does not take the job"), "{status:#}");
    // The same server still runs things itself.
    let id = yard.train_set(
        &code,
        &yard.manifest("here", "echo home"),
        &["model_definition.execution.compute_configuration.engine=local"],
    );
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert_eq!(cluster(&yard).job_of(&id), None);
}

#[test]
fn what_waits_says_why_and_is_canceled_out_of_the_queue() {
    let Some(yard) = yard(Shape { nodes: 1, ..Shape::default() }, WHOLE) else { return };
    let filler = fill(&yard, 1).remove(0);
    let id = yard.train("waiting", "echo never");
    wait_reason(&yard, &id, "Resources");
    assert_eq!(yard.status(&id)["phase"], "QUEUED");
    let job = cluster(&yard).job_of(&id).unwrap();
    cluster(&yard).say("scontrol", &["hold", &job.to_string()]);
    wait_reason(&yard, &id, "an administrator holds it (JobHeldAdmin)");
    yard.cli(&["cancel", &id]).ok();
    assert_eq!(yard.wait_end(&id)["state"], "canceled");
    wait_for("its job is cancelled", PATIENCE, || {
        cluster(&yard).jobs().into_iter().any(|j| j == (job, "CANCELLED".to_owned())).then_some(())
    });
    yard.cli(&["cancel", &filler]).ok();
    let status = yard.wait_end(&filler);
    assert_eq!(status["state"], "canceled");
}

#[test]
fn a_cancel_gives_the_program_its_grace_and_stores_what_it_wrote() {
    let Some(yard) = yard(Shape::default(), "") else { return };
    let id = yard.train(
        "stubborn",
        "mkdir $RESULT_DIR/model; trap 'echo last > $RESULT_DIR/model/w; echo told; exit 9' TERM; echo up; \
         while :; do sleep 0.05; done",
    );
    yard.wait_log(&id, "up\n");
    yard.cli(&["cancel", &id]).ok();
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["error"].as_object()),
        (Some("canceled"), None),
        "{status:#}"
    );
    assert_eq!(yard.result(&id, "model/w"), "last\n");
    assert!(yard.cli(&["logs", &id]).ok().contains("told"));
}

/// Prints where it is, and ends only in a later attempt than the first, or well when it is told to.
const TWICE: &str = "trap 'exit 0' TERM; echo attempt on $(hostname); mkdir $RESULT_DIR/model; hostname > $RESULT_DIR/model/node; \
     hostname > $RESULT_DIR/of-$(hostname); hostname > $CHECKPOINT_DIR/$TRAINING_ID; \
     if [ -e $DATA_DIR/second ]; then exit 0; fi; while :; do sleep 0.1; done";

#[test]
fn a_requeue_is_a_new_attempt_whose_log_goes_on_with_the_first() {
    let Some(yard) = yard(Shape::default(), "") else { return };
    let id = yard.train("again", TWICE);
    yard.wait_log(&id, "attempt on");
    yard.put("second", b"");
    let job = cluster(&yard).job_of(&id).unwrap().to_string();
    cluster(&yard).say("scontrol", &["requeue", &job]);
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("completed"), Some(2)),
        "{status:#}"
    );
    let log = yard.cli(&["logs", &id]).ok();
    assert_eq!(printed(&yard, &id, "attempt on"), 2, "{log}");
    assert!(log.contains("--- attempt 2: "), "{log}");
    let stored = yard.result(&id, "learner-1/training-log.txt");
    assert_eq!(stored, log, "what is stored is not the whole log");
}

#[test]
fn a_lost_runner_of_a_later_attempt_and_a_cancel_after_a_requeue_mix_nothing_up() {
    let Some(yard) = yard(Shape::default(), "") else { return };
    let hold = "echo begun; while :; do sleep 0.1; done";
    let (lost, canceled) = (yard.train("lost", hold), yard.train("canceled", hold));
    for id in [&lost, &canceled] {
        yard.wait_log(id, "\nbegun\n");
        let job = cluster(&yard).job_of(id).unwrap().to_string();
        cluster(&yard).say("scontrol", &["requeue", &job]);
        wait_for("a second attempt", PATIENCE, || (yard.status(id)["attempt"] == 2).then_some(()));
    }
    // Its job waits a while before it may begin again, and does not.
    yard.cli(&["cancel", &canceled]).ok();
    assert_eq!(yard.wait_end(&canceled)["state"], "canceled");
    wait_for("the second attempt's program", PATIENCE, || {
        (printed(&yard, &lost, "begun") == 2).then_some(())
    });
    kill(Pid::from_raw(runner_of(&lost)), Signal::SIGKILL).unwrap();
    let status = yard.wait_end(&lost);
    assert_eq!(status["error"]["errors"][0]["code"], "TY0407", "{status:#}");
    let log = yard.cli(&["logs", &lost]).ok();
    assert_eq!(printed(&yard, &lost, "begun"), 2, "{log}");
    assert_eq!(yard.result(&lost, "learner-1/training-log.txt"), log);
}

/// The runner of a run's first job.
fn runner_of(id: &str) -> i32 {
    let name = format!("{id}-1.json");
    let is_runner = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|c| c.contains("--ticket") && c.contains(&name))
    };
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|e| e.file_name().to_str()?.parse().ok()).find(is_runner).unwrap()
}

#[test]
fn a_run_that_has_to_make_room_begins_again_when_there_is_room() {
    let shape = Shape {
        nodes: 1,
        more: "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n\
               PartitionName=high Nodes=n1 PriorityTier=10 MaxTime=INFINITE State=UP",
        ..Shape::default()
    };
    let urgent = format!(
        "{WHOLE}\n[compute.urgent]\ncpus = 4\nmemory = '4GiB'\n[compute.urgent.slurm]\npartition = 'high'"
    );
    let Some(yard) = yard(shape, &urgent) else { return };
    let code = code_folder(yard.dir.path(), &[("main.sh", "true\n")]);
    let id = yard.train_set(&code, &yard.manifest("humble", TWICE), &[&sized("whole")]);
    yard.wait_log(&id, "attempt on");
    yard.put("second", b"");
    let first = yard.train_set(&code, &yard.manifest("urgent", "echo first"), &[&sized("urgent")]);
    assert_eq!(yard.wait_end(&first)["state"], "completed");
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("completed"), Some(2)),
        "{status:#}"
    );
    assert_eq!(printed(&yard, &id, "attempt on"), 2);
}

#[test]
fn a_node_that_loses_its_power_is_left_for_another() {
    let Some(mut yard) = yard(Shape::default(), "") else { return };
    let id = yard.train("powerless", TWICE);
    yard.wait_log(&id, "attempt on");
    yard.put("second", b"");
    let node = cluster(&yard).say("squeue", &["-h", "-o", "%B"]).trim().to_owned();
    wait_for("what the first attempt wrote is in the bucket", PATIENCE, || {
        yard.results(&id).contains_key(&format!("of-{node}")).then_some(())
    });
    yard.cluster.as_mut().unwrap().power_off(&node);
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("completed"), Some(2)),
        "{status:#}"
    );
    let other = yard.result(&id, "model/node");
    assert_ne!(other.trim(), node);
    let results: BTreeSet<String> = yard.results(&id).into_keys().filter(|k| k.starts_with("of-")).collect();
    assert_eq!(
        results,
        BTreeSet::from([format!("of-{}", other.trim())]),
        "what the first attempt wrote is there"
    );
}

#[test]
fn a_node_that_is_cut_off_goes_on_in_vain() {
    let Some(yard) = yard(Shape { wired: true, ..Shape::default() }, "") else { return };
    let beats = "while :; do echo beat; echo late > $RESULT_DIR/late; sleep 0.1; done";
    let id = yard.train("cut", &TWICE.replace("while :; do sleep 0.1; done", beats));
    yard.wait_log(&id, "\nbeat\n");
    yard.put("second", b"");
    let node = cluster(&yard).say("squeue", &["-h", "-o", "%B"]).trim().to_owned();
    cluster(&yard).set_cable(&node, false);
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("completed"), Some(2)),
        "{status:#}"
    );
    let (log, results) = (yard.cli(&["logs", &id]).ok(), yard.results(&id));
    assert_ne!(yard.result(&id, "model/node").trim(), node);
    assert!(!results.contains_key("late"), "{results:?}");
    assert!(!programs(&id).is_empty(), "the first attempt does not go on");
    cluster(&yard).set_cable(&node, true);
    wait_for("the first attempt has left", PATIENCE, || programs(&id).is_empty().then_some(()));
    assert_eq!(yard.cli(&["logs", &id]).ok(), log, "the attempt that was cut off was heard");
    assert_eq!(yard.results(&id), results, "the attempt that was cut off has stored something");
}

#[test]
fn jobs_in_every_state_go_on_without_the_server() {
    let Some(mut yard) = yard(Shape { nodes: 1, ..Shape::default() }, WHOLE) else { return };
    let code = code_folder(yard.dir.path(), &[("main.sh", "true\n")]);
    let hold = "echo up; while [ ! -e $DATA_DIR/../go ]; do sleep 0.05; done; echo done";
    let manifest = yard.manifest("held", hold);
    let running: Vec<String> = (0..3).map(|_| yard.train_set(&code, &manifest, &[])).collect();
    for id in &running {
        yard.wait_log(id, "up");
    }
    let waiting: Vec<String> = (0..5)
        .map(|n| yard.train_set(&code, &yard.manifest(&format!("w{n}"), "echo w"), &[&sized("whole")]))
        .collect();
    for id in &waiting {
        wait_reason(&yard, id, "job ");
    }
    yard.kill_server();
    // One ends and one is taken out of the queue while nobody looks.
    let runs = yard.dir.path().join("shared/node/runs");
    fs::write(runs.join(format!("{}.1/job/go", running[0])), "").unwrap();
    let job = cluster(&yard).job_of(&waiting[0]).unwrap();
    cluster(&yard).say("scancel", &[&job.to_string()]);
    yard.restart();
    for id in &running[1..] {
        fs::write(runs.join(format!("{id}.1/job/go")), "").unwrap();
    }
    for id in &running {
        let status = yard.wait_end(id);
        assert_eq!(
            (status["state"].as_str(), status["attempt"].as_u64()),
            (Some("completed"), Some(1)),
            "{status:#}"
        );
        assert_eq!(printed(&yard, id, "up"), 1);
    }
    let status = yard.wait_end(&waiting[0]);
    assert!(
        status["error"]["errors"][0]["message"].as_str().unwrap().contains("was cancelled in Slurm"),
        "{status:#}"
    );
    for id in &waiting[1..] {
        assert_eq!(yard.wait_end(id)["state"], "completed");
    }
    assert_eq!(cluster(&yard).jobs().len(), 8, "{:?}", cluster(&yard).jobs());
}

#[test]
fn a_controller_that_is_away_or_forgets_ends_no_run() {
    let Some(mut yard) = yard(Shape::default(), "") else { return };
    let hold = "echo up; while [ ! -e $DATA_DIR/../go ]; do sleep 0.05; done; echo done";
    let id = yard.train("forgotten", hold);
    yard.wait_log(&id, "up");
    // So early that the controller has not saved that the job began.
    yard.cluster.as_mut().unwrap().kill_controller();
    let late = yard.train("late", "echo late");
    wait_reason(&yard, &late, "Slurm does not");
    let go = yard.dir.path().join(format!("shared/node/runs/{id}.1/job/go"));
    fs::write(go, "").unwrap();
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("completed"), Some(1)),
        "{status:#}"
    );
    yard.cluster.as_mut().unwrap().start_controller();
    let status = yard.wait_end(&late);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("completed"), Some(1)),
        "{status:#}"
    );
    assert_eq!(printed(&yard, &id, "up"), 1, "it ran twice");
}

#[test]
fn a_submit_whose_answer_is_lost_is_found_and_never_made_twice() {
    let Some(yard) = yard(Shape::default(), "") else { return };
    let lost = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1";
    // Slurm has it, and nobody was told.
    cluster(&yard).disguise("sbatch", &format!("$REAL \"$@\" > /dev/null; {lost}"));
    let id = yard.train("told-nobody", "echo once");
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert_eq!(printed(&yard, &id, "once"), 1);
    // Slurm never had it.
    cluster(&yard).disguise("sbatch", lost);
    let id = yard.train("never-there", "echo once");
    wait_reason(&yard, &id, "Socket timed out");
    cluster(&yard).undisguise("sbatch");
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert_eq!(printed(&yard, &id, "once"), 1);
    assert_eq!(cluster(&yard).jobs().len(), 2);
}

#[test]
fn a_job_that_an_administrator_ends_is_stored_and_says_who_ended_it() {
    let Some(yard) = yard(Shape::default(), "") else { return };
    let id = yard.train("ended", "mkdir $RESULT_DIR/model; echo w > $RESULT_DIR/model/w; echo up; sleep 600");
    yard.wait_log(&id, "up");
    let job = cluster(&yard).job_of(&id).unwrap().to_string();
    cluster(&yard).say("scancel", &[&job]);
    let status = yard.wait_end(&id);
    let said = status["error"]["errors"][0]["message"].as_str().unwrap();
    assert_eq!(status["state"], "error", "{status:#}");
    assert!(said.contains("was cancelled in Slurm"), "{said}");
    assert_eq!(status["attempt"], 1, "{status:#}");
    assert_eq!(yard.result(&id, "model/w"), "w\n");
}

#[test]
fn what_a_killed_runner_left_is_stored_by_another_job() {
    let Some(yard) = yard(Shape::default(), "") else { return };
    let id =
        yard.train("killed", "mkdir $RESULT_DIR/model; echo w > $RESULT_DIR/model/w; echo up; sleep 600");
    yard.wait_log(&id, "up");
    kill(Pid::from_raw(runner_of(&id)), Signal::SIGKILL).unwrap();
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("error"), Some(2)),
        "{status:#}"
    );
    assert_eq!(yard.result(&id, "model/w"), "w\n");
}

#[test]
fn the_clusters_time_limit_leaves_time_to_store() {
    let more = "store_seconds = 40\njob = { time = '1' }";
    let Some(yard) = yard(Shape::default(), more) else { return };
    let id =
        yard.train("endless", "mkdir $RESULT_DIR/model; echo w > $RESULT_DIR/model/w; echo up; sleep 600");
    let status = yard.wait_end(&id);
    assert_eq!(status["error"]["errors"][0]["code"], "TY0404", "{status:#}");
    assert_eq!(status["attempt"], 1, "{status:#}");
    assert_eq!(yard.result(&id, "model/w"), "w\n");
}
