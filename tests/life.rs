//! The life of runs: every way in which one can end.

use serde_json::Value;

use crate::harness::{PATIENCE, Yard, code_folder, programs, wait_for};

#[test]
fn a_run_ends_with_its_results_its_log_and_a_marker_that_lists_them() {
    let yard = Yard::start();
    yard.put("folder/x.txt", b"forty-two");
    let id = yard.train(
        "good",
        "cat $DATA_DIR/folder/x.txt; mkdir -p $RESULT_DIR/model; echo weights > $RESULT_DIR/model/w; echo more > $RESULT_DIR/extra; echo m > $LOG_DIR/evaluation-metrics.txt",
    );
    let status = yard.wait_end(&id);
    assert_eq!(status["state"], "completed", "{status:#}");
    let results = yard.results(&id);
    for key in [
        "model/w",
        "extra",
        "learner-1/training-log.txt",
        "learner-1/evaluation-metrics.txt",
        "learner-1/load-data.log",
    ] {
        assert!(results.contains_key(key), "{key} is missing in {results:?}");
    }
    let log = yard.result(&id, "learner-1/training-log.txt");
    assert!(log.starts_with("Training with training/test data at:\n  DATA_DIR: "), "{log}");
    assert!(log.contains("forty-two") && log.ends_with("Training process finished. Exit code: 0\n"), "{log}");
    assert_eq!(yard.cli(&["logs", &id]).ok(), log, "the server's log and the bucket's are one");

    let marker: Value = serde_json::from_str(&yard.result(&id, "learner-1/.log-copy-complete")).unwrap();
    let listed = marker["files"].as_object().unwrap();
    assert_eq!(listed.len() + 1, results.len(), "{listed:?} and {results:?}");
    for (key, entry) in listed {
        assert_eq!(entry["size"].as_u64(), results.get(key).copied(), "{key}");
    }
}

#[test]
fn a_failed_run_says_why_and_keeps_what_it_wrote() {
    let yard = Yard::start();
    let id = yard
        .train("bad", "mkdir -p $RESULT_DIR/model; echo part > $RESULT_DIR/model/p; echo last words; exit 7");
    let status = yard.wait_end(&id);
    assert_eq!(status["state"], "error");
    let error = &status["error"]["errors"][0];
    assert_eq!((error["code"].as_str(), error["exit_code"].as_i64()), (Some("TY0401"), Some(7)));
    let lines: Vec<&str> =
        status["last_log_lines"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(lines.contains(&"last words"), "{lines:?}");
    assert!(yard.results(&id).contains_key("model/p"));
    assert!(yard.cli(&["wait", &id]).fails(100).contains("status 7"));
}

#[test]
fn a_signal_and_a_missing_command_are_told_apart() {
    let yard = Yard::start();
    let killed = yard.train("killed", "kill -SEGV $$");
    let missing = yard.train("missing", "no-such-program --x");
    let status = yard.wait_end(&killed);
    assert_eq!(status["error"]["errors"][0]["signal"], "SIGSEGV", "{status:#}");
    let status = yard.wait_end(&missing);
    assert!(status["error"]["errors"][0]["message"].as_str().unwrap().contains("did not find"), "{status:#}");
}

#[test]
fn a_cancel_ends_everything_that_the_program_started_and_stores() {
    let yard = Yard::with("grace = 1\n[local]\ncpus = 2\nmemory = '64GiB'\n");
    let script = "#!/bin/bash\nmkdir -p $RESULT_DIR/model\ntrap 'echo saved > $RESULT_DIR/model/checkpoint' TERM\n\
        setsid bash -c 'trap \"\" TERM; echo in another session; while true; do sleep 0.1; done' &\n\
        nohup sleep 1000 &\n(setsid setsid sleep 1001 &)\necho ready\nwhile true; do sleep 0.1; done\n";
    let code = code_folder(yard.dir.path(), &[("run.sh", script)]);
    let id = yard.train_code(&code, &yard.manifest("cancel", "./run.sh"));
    yard.wait_log(&id, "ready");
    yard.wait_log(&id, "in another session");
    assert!(programs(&id).len() >= 4);
    yard.cli(&["cancel", "training-runs", &id]).ok();
    yard.cli(&["wait", &id]).fails(103);
    assert_eq!(programs(&id), Vec::<i32>::new(), "processes are left behind");
    assert_eq!(yard.result(&id, "model/checkpoint"), "saved\n");
    assert_eq!(yard.status(&id)["state"], "canceled");
    // Once more changes nothing.
    yard.cli(&["cancel", &id]).ok();
    assert_eq!(yard.status(&id)["state"], "canceled");
}

#[test]
fn a_background_process_does_not_outlive_its_run() {
    let yard = Yard::with("grace = 1\n[local]\ncpus = 2\nmemory = '64GiB'\n");
    let id = yard.train(
        "background",
        "(setsid bash -c 'trap \"\" TERM; while true; do sleep 0.1; done' &) ; echo done",
    );
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert_eq!(programs(&id), Vec::<i32>::new());
}

#[test]
fn the_time_limit_of_the_manifest_ends_a_run() {
    let yard = Yard::start();
    let manifest = yard.manifest("limit", "echo started; sleep 1000");
    let code = code_folder(yard.dir.path(), &[("x", "")]);
    let limit = "model_definition.execution.max_run_time=1s";
    let said = yard.cli(&["train", code.to_str().unwrap(), manifest.to_str().unwrap(), "-q", "--set", limit]);
    let id = said.ok().trim().to_owned();
    let status = yard.wait_end(&id);
    assert_eq!(status["error"]["errors"][0]["code"], "TY0404", "{status:#}");
    assert!(yard.result(&id, "learner-1/training-log.txt").contains("started"));
}

#[test]
fn a_waiting_run_says_for_what_and_starts_when_it_can() {
    let yard = Yard::with("[local]\ncpus = 1\nmemory = '64GiB'\n");
    let first = yard.train("first", "echo up; while [ ! -e $DATA_DIR/../stop ]; do sleep 0.05; done");
    yard.wait_log(&first, "up");
    let second = yard.train("second", "true");
    let third = yard.train("third", "true");
    let waits = |id: &str| yard.status(id)["waits_for"].as_str().unwrap_or("").to_owned();
    assert!(waits(&second).contains("0 of 1 CPU cores free, 1 needed"), "{}", waits(&second));
    assert!(waits(&third).contains("1 run ahead"), "{}", waits(&third));
    // A run that waits is canceled at once, and holds nobody up.
    yard.cli(&["cancel", &second]).ok();
    assert_eq!(yard.status(&second)["state"], "canceled");
    yard.cli(&["cancel", &first]).ok();
    assert_eq!(yard.wait_end(&third)["state"], "completed");
}

#[test]
fn deleting_a_running_run_cancels_it_and_leaves_the_bucket() {
    let yard = Yard::start();
    let id =
        yard.train("deleted", "mkdir $RESULT_DIR/model; echo x > $RESULT_DIR/model/x; echo up; sleep 1000");
    yard.wait_log(&id, "up");
    yard.cli(&["delete", "training-runs", &id]).ok();
    yard.cli(&["show", &id]).fails(102);
    wait_for("the results of the deleted run", PATIENCE, || {
        yard.results(&id).contains_key("learner-1/.log-copy-complete").then_some(())
    });
    assert!(yard.results(&id).contains_key("model/x"));
    assert_eq!(programs(&id), Vec::<i32>::new());
    wait_for("its files on the node are gone", PATIENCE, || (!yard.run_folder(&id).exists()).then_some(()));
    wait_for("its log is gone", PATIENCE, || yard.logs_of(&id).is_empty().then_some(()));
}

#[test]
fn what_a_run_cannot_have_is_refused_at_submit() {
    let yard = Yard::start();
    let code = code_folder(yard.dir.path(), &[("x", "")]);
    let code = code.to_str().unwrap();
    let refused = |manifest: &std::path::Path, set: &[&str]| {
        let mut words = vec!["train", code, manifest.to_str().unwrap()];
        for s in set {
            words.extend(["--set", s]);
        }
        yard.cli(&words).fails(1)
    };
    let good = yard.manifest("x", "true");
    let gpu = refused(&good, &["model_definition.execution.compute_configuration.name=k80"]);
    assert!(gpu.contains("TY0104") && gpu.contains("this machine has none"), "{gpu}");
    let compute = refused(&good, &["model_definition.execution.compute_configuration.name=tpu"]);
    assert!(compute.contains("there are cpu, cpux2"), "{compute}");
    let framework = refused(
        &good,
        &["model_definition.framework.name=tensorflow", "model_definition.framework.version=1.5"],
    );
    assert!(framework.contains("TY0103") && framework.contains("2.21.0"), "{framework}");
    let keys = refused(&good, &["training_data_reference.connection.secret_access_key=wrong"]);
    assert!(keys.contains("TY0110") && keys.contains("SignatureDoesNotMatch"), "{keys}");
    let endpoint = yard.store.endpoint_url.clone();
    let bucket = refused(&yard.manifest_with("b", "true", &endpoint, &yard.data, "missing-bucket"), &[]);
    assert!(
        bucket.contains("TY0111") && bucket.contains("NoSuchBucket") && bucket.contains("results bucket"),
        "{bucket}"
    );
    let nowhere =
        refused(&yard.manifest_with("n", "true", "http://127.0.0.1:1", &yard.data, &yard.results), &[]);
    assert!(nowhere.contains("TY0112"), "{nowhere}");
    if !yard.is_at_home() {
        // A pair of keys that may read only: a program's work could not be kept.
        let reader = refused(
            &good,
            &[
                "training_results_reference.connection.access_key_id=READER",
                "training_results_reference.connection.secret_access_key=READERSECRET",
            ],
        );
        assert!(reader.contains("TY0110") && reader.contains("results bucket"), "{reader}");
    }
    assert_eq!(yard.cli(&["list", "-q"]).ok(), "", "nothing was accepted");
}

#[test]
fn pretended_gpus_are_given_out_and_counted() {
    let yard = Yard::with("[local]\ncpus = 64\nmemory = '512GiB'\npretend_gpus = 2\n");
    let code = code_folder(yard.dir.path(), &[("x", "")]);
    let manifest =
        yard.manifest("gpu", "echo count $GPU_COUNT visible \\\"$CUDA_VISIBLE_DEVICES\\\"; sleep 0.2");
    let set = "model_definition.execution.compute_configuration.name=K80x2";
    let said = yard.cli(&["train", code.to_str().unwrap(), manifest.to_str().unwrap(), "-q", "--set", set]);
    let id = said.ok().trim().to_owned();
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    let log = yard.cli(&["logs", &id]).ok();
    assert!(log.contains("count 2.000000 visible \"\""), "{log}");
}

#[test]
fn checkpoints_are_shared_by_the_runs_of_a_bucket() {
    let yard = Yard::start();
    let first = yard.train("one", "mkdir -p $CHECKPOINT_DIR/mine; echo 17 > $CHECKPOINT_DIR/mine/step");
    assert_eq!(yard.wait_end(&first)["state"], "completed");
    let second = yard.train("two", "echo resumed at $(cat $CHECKPOINT_DIR/mine/step)");
    assert_eq!(yard.wait_end(&second)["state"], "completed");
    assert!(yard.cli(&["logs", &second]).ok().contains("resumed at 17"));
}

#[test]
fn a_stored_model_is_a_tar_gz_of_the_model_folder() {
    let yard = Yard::start();
    let id = yard.train("model", "mkdir -p $RESULT_DIR/model/sub; echo w > $RESULT_DIR/model/sub/weights");
    yard.wait_end(&id);
    let out = yard.cli(&["store", "training-runs", &id]).ok();
    assert!(out.starts_with("Model store successful. Model-ID is '"), "{out}");
    let model = out.split('\'').nth(1).unwrap();
    let token = yard.admin_token();
    let (status, item) = yard.http("GET", &format!("/v3/ml_assets/models/{model}"), Some(&token), None);
    assert_eq!(
        (status, item["entity"]["model_version"]["content_status"]["state"].as_str()),
        (200, Some("persisted"))
    );
    let path = yard.dir.path().join("model.tar.gz");
    yard.cli(&["models", "download", model, path.to_str().unwrap()]).ok();
    let list = std::process::Command::new("tar").arg("-tzf").arg(&path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&list.stdout), "sub/weights\n");

    let empty = yard.train("empty", "true");
    yard.wait_end(&empty);
    assert!(yard.cli(&["store", &empty]).fails(100).contains("nothing in its `model` folder"));
}

#[test]
fn results_and_log_are_in_the_bucket_while_the_run_goes_on() {
    let yard = Yard::start();
    let id = yard.train(
        "early",
        "mkdir $RESULT_DIR/model; echo c1 > $RESULT_DIR/model/checkpoint-1; echo first line; sleep 1000",
    );
    wait_for("an early upload", PATIENCE, || {
        let results = yard.results(&id);
        (results.contains_key("model/checkpoint-1") && results.contains_key("learner-1/training-log.txt"))
            .then_some(())
    });
    assert_eq!(yard.status(&id)["phase"], "PROCESSING");
    assert!(!yard.results(&id).contains_key("learner-1/.log-copy-complete"), "the marker comes last");
    yard.cli(&["cancel", &id]).ok();
}
