//! Each way in which something was once lost, wrong or left behind, made to happen.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use trainyard_chaos::{Fault, Proxy};

use crate::harness::{PATIENCE, Yard, block_on, wait_for};

const CONFIG: &str = "grace = 1\n[local]\ncpus = 4\nmemory = '64GiB'\n";

fn put(yard: &Yard, key: &str, text: &str) {
    let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
    block_on(yard.bucket(&yard.results).put(key, bytes)).unwrap();
}

fn get(yard: &Yard, key: &str) -> String {
    let bytes = block_on(yard.bucket(&yard.results).get_bytes(key)).unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn kill_runner(yard: &Yard, id: &str) {
    kill(Pid::from_raw(yard.runners()[id]), Signal::SIGKILL).unwrap();
}

/// What the marker lists is what is there beside it.
fn assert_marker_is_true(yard: &Yard, id: &str) {
    let marker: Value = serde_json::from_str(&yard.result(id, "learner-1/.log-copy-complete")).unwrap();
    let listed: Vec<&String> = marker["files"].as_object().unwrap().keys().collect();
    let there = yard.results(id);
    let beside: Vec<&String> = there.keys().filter(|k| *k != "learner-1/.log-copy-complete").collect();
    assert_eq!(listed, beside);
}

#[test]
fn a_salvage_puts_nothing_back_that_was_only_fetched() {
    let yard = Yard::with(CONFIG);
    put(&yard, "_wml_checkpoints/other/step", "1");
    let id = yard.train(
        "lost",
        "echo mine > $CHECKPOINT_DIR/own; cat $CHECKPOINT_DIR/other/step; echo; echo up; sleep 1000",
    );
    yard.wait_log(&id, "\nup\n");
    put(&yard, "_wml_checkpoints/other/step", "2");
    kill_runner(&yard, &id);
    assert_eq!(yard.wait_end(&id)["error"]["errors"][0]["code"], "TY0407");
    assert_eq!(get(&yard, "_wml_checkpoints/other/step"), "2", "another run's checkpoint went back");
    assert_eq!(get(&yard, "_wml_checkpoints/own"), "mine\n", "its own is lost");
}

#[test]
fn a_salvage_puts_nothing_back_that_its_runner_had_stored_before_another_did() {
    let yard = Yard::with(CONFIG);
    let id = yard.train("lost", "echo mine > $CHECKPOINT_DIR/shared; echo up; sleep 1000");
    yard.wait_log(&id, "\nup\n");
    wait_for("its checkpoint is stored", PATIENCE, || {
        block_on(yard.bucket(&yard.results).get_bytes("_wml_checkpoints/shared")).ok()
    });
    put(&yard, "_wml_checkpoints/shared", "another run's, and newer");
    kill_runner(&yard, &id);
    yard.wait_end(&id);
    assert_eq!(get(&yard, "_wml_checkpoints/shared"), "another run's, and newer");
}

#[test]
fn a_salvage_of_a_runner_that_kept_no_ledger_puts_nothing_back_either() {
    let yard = Yard::with(CONFIG);
    put(&yard, "_wml_checkpoints/other/step", "1");
    let id = yard.train("lost", "echo mine > $CHECKPOINT_DIR/own; echo up; sleep 1000");
    yard.wait_log(&id, "\nup\n");
    // As a runner of an earlier release leaves its folder.
    fs::remove_file(yard.run_folder(&id).join("ledger.jsonl")).unwrap();
    put(&yard, "_wml_checkpoints/other/step", "2");
    kill_runner(&yard, &id);
    assert_eq!(yard.wait_end(&id)["error"]["errors"][0]["code"], "TY0407");
    assert_eq!(get(&yard, "_wml_checkpoints/other/step"), "2", "another run's checkpoint went back");
    assert_eq!(get(&yard, "_wml_checkpoints/own"), "mine\n", "its own is lost");
    assert_marker_is_true(&yard, &id);
}

#[test]
fn data_that_others_change_while_it_is_fetched_fails_no_run() {
    let yard = Yard::with(CONFIG);
    for n in 0..50 {
        put(&yard, &format!("_wml_checkpoints/c-{n}"), &n.to_string());
        yard.put(&format!("d-{n}"), n.to_string().as_bytes());
    }
    let (checkpoints, data) = (yard.bucket(&yard.results), yard.bucket(&yard.data));
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let writer = std::thread::spawn(move || {
        block_on(async {
            let mut n = 0u32;
            while !stopped.load(Relaxed) {
                n += 1;
                let text = || bytes::Bytes::from(format!("version {n}"));
                checkpoints.put("_wml_checkpoints/c-7", text()).await.unwrap();
                data.put("d-7", text()).await.unwrap();
                // One that comes and goes.
                data.put("d-fleeting", text()).await.unwrap();
                data.delete("d-fleeting").await.unwrap();
            }
        });
    });
    let command =
        "ls $DATA_DIR | grep -vc fleeting; ls $CHECKPOINT_DIR | wc -l; grep -c version $DATA_DIR/d-7";
    let runs: Vec<String> = (0..8).map(|n| yard.train(&format!("r{n}"), command)).collect();
    for id in &runs {
        let status = yard.wait_end(id);
        assert_eq!(status["state"], "completed", "{status:#}");
        assert!(yard.cli(&["logs", id]).ok().contains("\n50\n50\n1\n"));
    }
    stop.store(true, Relaxed);
    writer.join().unwrap();
}

#[test]
fn after_a_salvage_the_bucket_holds_what_is_there_and_the_marker_lists_it() {
    let yard = Yard::with(CONFIG);
    let id = yard.train(
        "rotates",
        "echo 1 > $RESULT_DIR/one; echo k > $RESULT_DIR/kept; echo up; while [ ! -e $JOB_STATE_DIR/go ]; do sleep 0.05; done; \
         rm $RESULT_DIR/one; echo 2 > $RESULT_DIR/two; echo rotated; sleep 1000",
    );
    yard.wait_log(&id, "\nup\n");
    wait_for("it is stored", PATIENCE, || yard.results(&id).contains_key("one").then_some(()));
    fs::write(yard.run_folder(&id).join("job/go"), "").unwrap();
    yard.wait_log(&id, "\nrotated\n");
    kill_runner(&yard, &id);
    assert_eq!(yard.wait_end(&id)["error"]["errors"][0]["code"], "TY0407");
    let there = yard.results(&id);
    assert!(!there.contains_key("one"), "what the program removed is in the bucket: {there:?}");
    assert!(there.contains_key("two") && there.contains_key("kept"), "{there:?}");
    assert_marker_is_true(&yard, &id);
}

#[test]
fn answers_that_are_lost_put_nothing_aside() {
    let yard = Yard::with(CONFIG);
    let proxy = Proxy::start(yard.store.endpoint_url.trim_start_matches("http://").parse().unwrap()).unwrap();
    let endpoint = format!("http://{}", proxy.address());
    let manifest = yard.manifest_with(
        "lossy",
        "head -c 20000000 /dev/urandom > $RESULT_DIR/large",
        &endpoint,
        &yard.data,
        &yard.results,
    );
    // The upload is begun twice, completed unheard, and the first who asks hears nothing.
    proxy.faults().plan(Fault::LoseAnswer, &["POST ", "uploads=", "large"]);
    proxy.faults().plan(Fault::LoseAnswer, &["POST ", "uploadId=", "large"]);
    proxy.faults().plan(Fault::LoseAnswer, &["HEAD ", "large"]);
    let code = crate::harness::code_folder(yard.dir.path(), &[("x", "")]);
    let id = yard.train_code(&code, &manifest);
    let status = yard.wait_end(&id);
    assert_eq!(status["state"], "completed", "{status:#}");
    let lost = proxy.faults().happened();
    // SeaweedFS completes an upload a second time, so that nobody has to look.
    assert!(lost == 3 || lost == 2 && !yard.is_at_home(), "{lost} answers were lost: this shows less");
    assert_eq!(yard.results(&id)["large"], 20_000_000);
    assert_marker_is_true(&yard, &id);
    assert_eq!(block_on(yard.bucket(&yard.results).unfinished("")).unwrap(), []);
}

#[test]
fn a_deleted_run_goes_also_where_its_server_is_killed_right_behind_the_commit() {
    for point in ["journal:delete", "removal:folder", "removal:logs"] {
        let Some(mut yard) = Yard::with_breakpoints(CONFIG) else { return };
        let id = yard.train("deleted", "echo hello");
        yard.wait_end(&id);
        yard.arm(point, "kill");
        yard.try_http("DELETE", &format!("/v3/models/{id}"), None);
        wait_for("the server dies", PATIENCE, || yard.is_dead().then_some(()));
        yard.restart();
        wait_for("its log is gone", PATIENCE, || yard.logs_of(&id).is_empty().then_some(()));
        wait_for("its record is gone", PATIENCE, || {
            let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=30)\n\
                print(c.execute('select count(*) from runs where id = ?', (sys.argv[2],)).fetchone()[0])";
            let database = yard.data_folder().join("trainyard.db");
            let asked =
                std::process::Command::new("python3").args(["-c", script]).arg(database).arg(&id).output();
            (asked.unwrap().stdout == b"0\n").then_some(())
        });
    }
}

#[test]
fn logs_that_nobody_can_see_any_more_are_removed() {
    let mut yard = Yard::with(CONFIG);
    let id = yard.train("kept", "echo hello");
    yard.wait_end(&id);
    yard.kill_server();
    let orphan = yard.data_folder().join("logs/training-000000000.log");
    fs::write(&orphan, "of nobody").unwrap();
    yard.restart();
    wait_for("the orphan is gone", PATIENCE, || (!orphan.exists()).then_some(()));
    assert!(yard.cli(&["logs", &id]).ok().contains("hello"));
}

#[test]
fn a_folder_goes_also_where_its_runner_is_slow_to_leave() {
    let Some(mut yard) = Yard::with_breakpoints(CONFIG) else { return };
    yard.arm("runner:emptied", "stop");
    let id = yard.train("slow", "echo hello");
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    let (_, runner, _) = wait_for("the runner stands still", PATIENCE, || yard.taken().pop());
    yard.kill_server();
    yard.restart();
    assert!(yard.run_folder(&id).exists(), "it had left already: this shows nothing");
    kill(Pid::from_raw(runner), Signal::SIGCONT).unwrap();
    wait_for("its folder is gone", PATIENCE, || (!yard.run_folder(&id).exists()).then_some(()));
}

#[test]
fn a_canceled_run_whose_files_are_all_stored_has_no_error() {
    let yard = Yard::with(CONFIG);
    let id = yard
        .train("unwanted", "trap '' TERM; echo x > $RESULT_DIR/x; echo up; while true; do sleep 0.1; done");
    yard.wait_log(&id, "\nup\n");
    let runner = Pid::from_raw(yard.runners()[&id]);
    kill(runner, Signal::SIGSTOP).unwrap();
    yard.cli(&["cancel", &id]).ok();
    kill(runner, Signal::SIGKILL).unwrap();
    let status = yard.wait_end(&id);
    assert_eq!((status["state"].as_str(), &status["error"]), (Some("canceled"), &Value::Null), "{status:#}");
    assert!(yard.results(&id).contains_key("x"));
}

#[test]
fn a_runner_that_dies_with_everything_else_is_missed_at_once() {
    let mut yard = Yard::with(CONFIG);
    let id = yard.train("lost", "echo up; sleep 1000");
    yard.wait_log(&id, "\nup\n");
    yard.kill_server();
    kill_runner(&yard, &id);
    // Each start of a server used to give it another while to show up: servers of short lives never missed it.
    let missed = (1..=20).find(|_| {
        yard.restart();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(2) {
            if yard.status(&id)["attempt"] == 2 {
                println!("missed {:?} after the server was started", begun.elapsed());
                return true;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        yard.kill_server();
        false
    });
    assert!(missed.is_some(), "twenty servers that lived for two seconds have not missed it");
    yard.wait_end(&id);
}

#[test]
fn a_run_whose_node_lost_its_files_ends_and_what_it_had_stored_stays() {
    let mut yard = Yard::with(CONFIG);
    let id = yard.train("lost", "echo w > $RESULT_DIR/w; echo up; sleep 1000");
    yard.wait_log(&id, "\nup\n");
    wait_for("its log is stored", PATIENCE, || {
        let stored = yard.results(&id);
        let log = stored.get("learner-1/training-log.txt").filter(|_| stored.contains_key("w"))?;
        (*log > 0).then_some(())
    });
    let log = yard.result(&id, "learner-1/training-log.txt");
    let program = yard.run_folder(&id);
    let runner = yard.runners()[&id];
    yard.kill_server();
    // As a node that starts anew with an empty disk.
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    fs::remove_dir_all(&program).unwrap();
    yard.restart();
    assert_eq!(yard.wait_end(&id)["error"]["errors"][0]["code"], "TY0407");
    assert_eq!(yard.result(&id, "w"), "w\n");
    assert_eq!(yard.result(&id, "learner-1/training-log.txt"), log, "the log that was stored is gone");
    assert!(yard.cli(&["logs", &id]).ok().contains("up\n"));
    assert_marker_is_true(&yard, &id);
}

/// Behind a server that dies come five that die as well, and one that lives.
fn outlive_servers(yard: &mut Yard) {
    for _ in 0..5 {
        wait_for("the server dies", PATIENCE, || yard.is_dead().then_some(()));
        // When it has given the attempt a token, before it has it started.
        yard.arm("store:attempt", "kill");
        yard.restart();
    }
    wait_for("the server dies", PATIENCE, || yard.is_dead().then_some(()));
    yard.disarm();
    yard.restart();
}

#[test]
fn a_run_that_was_placed_is_started_however_often_its_server_dies_before() {
    let Some(mut yard) = Yard::with_breakpoints(CONFIG) else { return };
    yard.arm("journal:placed", "kill");
    // Its answer is lost with the server.
    let code = crate::harness::code_folder(yard.dir.path(), &[("x", "")]);
    let manifest = yard.manifest("patient", "echo ran");
    yard.cli(&["train", code.to_str().unwrap(), manifest.to_str().unwrap(), "-q"]);
    outlive_servers(&mut yard);
    let id = yard.cli(&["list", "-q"]).ok().trim().to_owned();
    let status = yard.wait_end(&id);
    assert_eq!(
        (status["state"].as_str(), status["attempt"].as_u64()),
        (Some("completed"), Some(1)),
        "{status:#}"
    );
}

#[test]
fn a_salvage_that_was_placed_is_started_however_often_its_server_dies_before() {
    let Some(mut yard) = Yard::with_breakpoints(CONFIG) else { return };
    let id = yard.train("lost", "echo w > $RESULT_DIR/w; echo up; sleep 1000");
    yard.wait_log(&id, "\nup\n");
    yard.arm("store:attempt", "kill");
    kill_runner(&yard, &id);
    outlive_servers(&mut yard);
    let status = yard.wait_end(&id);
    assert_eq!(status["attempt"], 2, "deaths of the server cost attempts: {status:#}");
    assert_eq!(yard.result(&id, "w"), "w\n");
}
