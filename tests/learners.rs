//! Runs of several learners on a real Slurm: one job on as many nodes, all or nothing. They find each other, the
//! first that fails ends the others, and each stores what it wrote.

use std::fs;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Shape, Yard, block_on, code_folder, wait_for};

const CPU: &str = "[compute.node]\ncpus = 4\nmemory = '1GiB'\n\
    [compute.one]\ncpus = 1\nmemory = '1GiB'\n[compute.gpu]\ncpus = 1\nmemory = '1GiB'\ngpus = 1";

fn yard(shape: Shape) -> Option<Yard> {
    Some(Yard::on_cluster(Cluster::start(shape)?, CPU))
}

/// Submits so many learners that run this shell script.
fn train(yard: &Yard, learners: u32, script: &str, compute: &str) -> String {
    let code = code_folder(yard.dir.path(), &[("main.sh", script)]);
    let set = [
        format!("model_definition.execution.compute_configuration.name={compute}"),
        format!("model_definition.execution.compute_configuration.nodes={learners}"),
    ];
    let manifest = yard.manifest("learners", "sh main.sh");
    yard.train_set(&code, &manifest, &set.each_ref().map(String::as_str))
}

fn log(yard: &Yard, id: &str, learner: u32) -> String {
    yard.cli(&["logs", id, "--learner", &learner.to_string()]).ok()
}

#[track_caller]
fn wait_logs(yard: &Yard, id: &str, learners: u32, text: &str) {
    for learner in 1..=learners {
        wait_for(&format!("learner {learner} says {text}"), PATIENCE, || {
            log(yard, id, learner).contains(text).then_some(())
        });
    }
}

#[track_caller]
fn ended(status: &Value, state: &str) {
    assert_eq!(status["state"].as_str(), Some(state), "{status:#}");
}

/// Process ids of runners on the nodes, by the folders of their learners.
fn runner_of(yard: &Yard, name: &str) -> i32 {
    let lock = yard.node_folder().join("runs").join(name).join("runner.lock");
    wait_for("the runner holds its lock", PATIENCE, || fs::read_to_string(&lock).ok()?.trim().parse().ok())
}

/// Prints what it was told, then the first learner serves a line on the port of the original, and the others
/// fetch it there by name.
const TALK: &str = r#"
env | grep -E '^(LEARNER|NUM_LEARNERS|RANK|NODE_RANK|WORLD_SIZE|MASTER|CUDA)' | sort
mkdir $RESULT_DIR/model; echo "weights of $LEARNER_ID" > $RESULT_DIR/model/w
cat > talk.py <<'END'
import os, socket, time
host = "{0}-0.{0}".format(os.environ["LEARNER_NAME_PREFIX"])
if os.environ["LEARNER_ID"] == "1":
    server = socket.create_server((host, 2222))
    peer, _ = server.accept()
    peer.sendall(b"a word from the first")
    peer.close()
else:
    while True:
        try:
            with socket.create_connection((host, 2222)) as peer:
                print(peer.recv(100).decode())
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
END
python3 talk.py
"#;

#[test]
fn learners_find_each_other_and_store_side_by_side() {
    let Some(yard) = yard(Shape { wired: true, ..Shape::default() }) else { return };
    let id = train(&yard, 2, TALK, "gpu");
    let status = yard.wait_end(&id);
    ended(&status, "completed");
    let (first, second) = (log(&yard, &id, 1), log(&yard, &id, 2));
    assert!(second.contains("a word from the first\n"), "{second}");
    for (text, rank) in [(&first, 0), (&second, 1)] {
        for line in [
            format!("LEARNER_ID={}", rank + 1),
            "NUM_LEARNERS=2".to_owned(),
            format!("RANK={rank}"),
            format!("NODE_RANK={rank}"),
            "WORLD_SIZE=2".to_owned(),
            "CUDA_VISIBLE_DEVICES=0".to_owned(),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}: {text}");
        }
    }
    let master = |text: &str| text.lines().filter(|l| l.starts_with("MASTER_")).collect::<Vec<_>>().join(" ");
    assert_eq!(master(&first), master(&second));
    assert!(!first.contains("LEARNER_ADDRESSES=127."), "{first}");
    assert_eq!(yard.result(&id, "model/w"), "weights of 1\n");
    assert_eq!(yard.result(&id, "learner-2/results/model/w"), "weights of 2\n");
    let stored = yard.results(&id);
    for key in ["learner-1/training-log.txt", "learner-2/training-log.txt", "learner-2/.log-copy-complete"] {
        assert!(stored.contains_key(key), "{key}: {stored:?}");
    }
    wait_for("nothing is left of it", PATIENCE, || {
        let count = |f: &str| fs::read_dir(yard.dir.path().join("shared").join(f)).unwrap().count();
        (count("jobs") == 0 && count("node/runs") == 0).then_some(())
    });
}

/// The last learner fails; the others would wait for it for ever.
const ONE_FAILS: &str = r#"
trap 'echo stored > $RESULT_DIR/last; exit 143' TERM
echo here
if [ $LEARNER_ID = $NUM_LEARNERS ]; then
    while [ ! -e $JOB_STATE_DIR/go ]; do sleep 0.05; done
    echo "my own reason"; exit 7
fi
while :; do sleep 0.05; done
"#;

#[test]
fn a_learner_that_fails_ends_the_others_with_its_own_reason() {
    let Some(yard) = yard(Shape::default()) else { return };
    let id = train(&yard, 2, ONE_FAILS, "one");
    wait_logs(&yard, &id, 2, "here");
    fs::write(yard.node_folder().join(format!("runs/{id}.1.2/job/go")), "").unwrap();
    let status = yard.wait_end(&id);
    ended(&status, "error");
    let failure = &status["error"]["errors"][0];
    assert_eq!(failure["message"].as_str(), Some("learner 2: the program exited with status 7"));
    assert_eq!(failure["exit_code"].as_i64(), Some(7));
    let quoted = status["last_log_lines"].to_string();
    assert!(quoted.contains("my own reason"), "{quoted}");
    assert!(log(&yard, &id, 1).contains("learner 2 failed; this one is ended\n"));
    assert_eq!(yard.result(&id, "last"), "stored\n");
}

/// Trains until it is told to go; on TERM it stores a last word.
const PATIENT: &str = r#"
trap 'echo "told $LEARNER_ID" > $RESULT_DIR/told; exit 0' TERM
echo "kept $LEARNER_ID" > $RESULT_DIR/kept; echo "here $TRAINING_ID"
while [ ! -e $JOB_STATE_DIR/go ]; do sleep 0.05; done
"#;

#[test]
fn a_cancel_reaches_all_learners_and_what_they_wrote_is_stored() {
    let Some(yard) = yard(Shape::default()) else { return };
    let id = train(&yard, 2, PATIENT, "one");
    wait_logs(&yard, &id, 2, "here");
    yard.cli(&["cancel", &id]).ok();
    ended(&yard.wait_end(&id), "canceled");
    assert_eq!(yard.result(&id, "told"), "told 1\n");
    assert_eq!(yard.result(&id, "learner-2/results/told"), "told 2\n");
}

#[test]
fn the_runner_of_a_learner_that_is_killed_is_followed_by_one_that_stores() {
    // It lasts longer than Slurm waits for a word of a node otherwise, and no node is to be lost.
    let Some(yard) = yard(Shape { plain: true, patience: 60, ..Shape::default() }) else { return };
    let id = train(&yard, 2, PATIENT, "one");
    wait_logs(&yard, &id, 2, "here");
    // What its ledger says is stored is looked for: somebody took it away.
    let stored = "learner-2/results/kept";
    wait_for("it is stored", PATIENCE, || yard.results(&id).contains_key(stored).then_some(()));
    block_on(yard.bucket(&yard.results).delete(&format!("{id}/{stored}"))).unwrap();
    kill(Pid::from_raw(runner_of(&yard, &format!("{id}.1.2"))), Signal::SIGKILL).unwrap();
    let status = yard.wait_end(&id);
    ended(&status, "error");
    let marker: Value = serde_json::from_str(&yard.result(&id, "learner-2/.log-copy-complete")).unwrap();
    let listed: Vec<String> =
        marker["files"].as_object().unwrap().keys().map(|key| format!("learner-2/{key}")).collect();
    let there: Vec<String> = yard.results(&id).into_keys().filter(|k| k.starts_with("learner-2/")).collect();
    let there: Vec<String> = there.into_iter().filter(|k| !k.ends_with(".log-copy-complete")).collect();
    assert_eq!(listed, there);
    let message = status["error"]["errors"][0]["message"].as_str().unwrap();
    assert_eq!(message, "learner 2: the runner was lost after it had started the program");
    assert_eq!(status["attempt"].as_u64(), Some(1));
    assert_eq!(yard.result(&id, "told"), "told 1\n");
    assert_eq!(yard.result(&id, "learner-2/results/kept"), "kept 2\n");
    assert_eq!(log(&yard, &id, 2).matches("here").count(), 1);
}

#[test]
fn when_the_first_runner_is_killed_all_that_was_written_is_stored() {
    let Some(yard) = yard(Shape { plain: true, ..Shape::default() }) else { return };
    let id = train(&yard, 2, PATIENT, "one");
    wait_logs(&yard, &id, 2, "here");
    kill(Pid::from_raw(runner_of(&yard, &format!("{id}.1"))), Signal::SIGKILL).unwrap();
    let status = yard.wait_end(&id);
    ended(&status, "error");
    assert_eq!(yard.result(&id, "kept"), "kept 1\n");
    assert_eq!(yard.result(&id, "learner-2/results/kept"), "kept 2\n");
    for learner in [1, 2] {
        assert_eq!(log(&yard, &id, learner).matches("here").count(), 1, "learner {learner}");
    }
}

/// The first learner is done as soon as it is told; the others train on.
const FIRST_IS_DONE: &str = r#"
echo "kept $LEARNER_ID" > $RESULT_DIR/kept; echo here
while [ ! -e $JOB_STATE_DIR/go ]; do sleep 0.05; done
"#;

#[test]
fn what_others_left_is_stored_although_the_first_learner_was_done() {
    let Some(yard) = yard(Shape { plain: true, ..Shape::default() }) else { return };
    let id = train(&yard, 2, FIRST_IS_DONE, "one");
    wait_logs(&yard, &id, 2, "here");
    let runner = runner_of(&yard, &format!("{id}.1"));
    fs::write(yard.node_folder().join(format!("runs/{id}.1/job/go")), "").unwrap();
    wait_for("the first learner is done", PATIENCE, || {
        yard.status(&id)["learners"][0]["stored"].as_bool().filter(|s| *s).map(|_| ())
    });
    assert!(yard.cli(&["show", &id]).ok().contains("2: 1 stored, 2 PROCESSING"));
    // Only its runner holds the job together.
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    let status = yard.wait_end(&id);
    ended(&status, "error");
    assert_eq!(yard.result(&id, "kept"), "kept 1\n");
    assert_eq!(yard.result(&id, "learner-2/results/kept"), "kept 2\n");
}

#[test]
fn a_learner_that_is_gone_for_good_leaves_nobody_waiting() {
    let Some(yard) = yard(Shape { nodes: 3, plain: true, ..Shape::default() }) else { return };
    let id = train(&yard, 3, PATIENT, "one");
    wait_logs(&yard, &id, 3, "here");
    // Nobody knows whether a program was started whose spool cannot be read: its next runner ends at once.
    let folder = yard.node_folder().join(format!("runs/{id}.1.3"));
    let (spool, aside) = (folder.join("spool.jsonl"), folder.join("aside"));
    let runner = runner_of(&yard, &format!("{id}.1.3"));
    fs::rename(&spool, &aside).unwrap();
    fs::create_dir(&spool).unwrap();
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    wait_for("another job is to store", PATIENCE, || {
        (yard.status(&id)["attempt"].as_u64()? > 1).then_some(())
    });
    fs::remove_dir(&spool).unwrap();
    fs::rename(&aside, &spool).unwrap();
    let status = yard.wait_end(&id);
    ended(&status, "error");
    for key in ["kept", "learner-2/results/kept", "learner-3/results/kept"] {
        assert!(yard.result(&id, key).starts_with("kept"), "{key}");
    }
}

#[test]
fn a_node_that_loses_its_power_has_all_learners_begin_again() {
    let Some(mut yard) = yard(Shape { nodes: 3, ..Shape::default() }) else { return };
    let id = train(&yard, 2, PATIENT, "one");
    wait_logs(&yard, &id, 2, "here");
    yard.cluster.as_mut().unwrap().power_off("n2");
    wait_for("the second attempt runs", PATIENCE, || {
        let count = |learner| log(&yard, &id, learner).matches("here").count();
        (count(1) == 2 && count(2) == 2).then_some(())
    });
    for folder in [format!("{id}.2"), format!("{id}.2.2")] {
        fs::write(yard.node_folder().join("runs").join(folder).join("job/go"), "").unwrap();
    }
    let status = yard.wait_end(&id);
    ended(&status, "completed");
    assert_eq!(status["attempt"].as_u64(), Some(2));
    for learner in [1, 2] {
        assert!(log(&yard, &id, learner).contains("--- attempt 2: "), "learner {learner}");
    }
    assert_eq!(yard.result(&id, "learner-2/results/kept"), "kept 2\n");
    let keys: Vec<String> = yard.results(&id).into_keys().collect();
    assert!(!keys.iter().any(|k| k.contains("told")), "{keys:?}");
}

#[test]
fn learners_that_cannot_all_run_wait_with_the_reason_or_are_refused() {
    let Some(yard) = yard(Shape::default()) else { return };
    // One node is taken: the other alone will not do.
    let takes = train(&yard, 1, "echo here; while :; do sleep 0.05; done", "node");
    yard.wait_log(&takes, "here");
    let id = train(&yard, 2, "true", "node");
    wait_for("it waits for both nodes", PATIENCE, || {
        yard.status(&id)["waits_for"].as_str()?.contains("no node has enough free now").then_some(())
    });
    let said = yard.cli(&["logs", &id, "--learner", "3"]).fails(1);
    assert!(said.contains("there is no learner 3") && said.contains("has 2"), "{said}");
    for id in [&id, &takes] {
        yard.cli(&["cancel", id]).ok();
        ended(&yard.wait_end(id), "canceled");
    }
    let manifest = yard.manifest("learners", "true");
    let code = code_folder(yard.dir.path(), &[("main.sh", "true\n")]);
    let refused = |nodes: u32, engine: &str, text: &str| {
        let field = "model_definition.execution.compute_configuration";
        let (nodes, engine) = (format!("{field}.nodes={nodes}"), format!("{field}.engine={engine}"));
        let files = [code.to_str().unwrap(), manifest.to_str().unwrap()];
        let words = ["train", files[0], files[1], "--set", &nodes, "--set", &engine];
        let said = yard.cli(&words).fails(1);
        assert!(said.contains(text), "{said}");
    };
    refused(2, "local", "the engine `local` runs one learner");
    refused(5000, "slurm", "has to be from 1 to 256");
}
