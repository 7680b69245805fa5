//! Real processes are killed, at any time, and nothing is lost or doubled.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use trainyard_store::{Sealer, Store};

use crate::harness::{Dice, PATIENCE, Yard, code_folder, fork_server, programs, wait_for};

/// A program that counts slowly enough to be interrupted.
const COUNT: &str = "for i in $(seq 1 200); do echo line $i; sleep 0.01; done; mkdir $RESULT_DIR/model; echo end > $RESULT_DIR/model/end";

fn counted(log: &str) -> Vec<u32> {
    log.lines().filter_map(|l| l.strip_prefix("line ")?.parse().ok()).collect()
}

#[test]
fn a_run_goes_on_while_its_server_is_dead_and_nothing_is_lost() {
    let mut yard = Yard::start();
    let id = yard.train("survivor", COUNT);
    yard.wait_log(&id, "line 20\n");
    yard.kill_server();
    let runner = yard.runners()[&id];
    assert!(!programs(&id).is_empty(), "the program went with its server");
    yard.restart();
    assert_eq!(yard.runners().get(&id), Some(&runner), "the same runner works on");
    let status = yard.wait_end(&id);
    assert_eq!(status["state"], "completed", "{status:#}");
    assert_eq!(status["attempt"], 1);
    let expected: Vec<u32> = (1..=200).collect();
    assert_eq!(counted(&yard.cli(&["logs", &id]).ok()), expected);
    assert_eq!(counted(&yard.result(&id, "learner-1/training-log.txt")), expected);
}

#[test]
fn a_run_that_ends_while_its_server_is_dead_is_told_of_later() {
    let mut yard = Yard::start();
    let id = yard.train("quiet", "echo up; sleep 0.3; echo down");
    yard.wait_log(&id, "up");
    yard.kill_server();
    wait_for("the program's end", PATIENCE, || (programs(&id).is_empty()).then_some(()));
    yard.restart();
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert!(yard.cli(&["logs", &id]).ok().contains("down"));
}

#[test]
fn a_killed_runner_is_found_out_and_what_it_left_is_stored() {
    let yard = Yard::start();
    let id = yard.train("lost", "mkdir $RESULT_DIR/model; echo part > $RESULT_DIR/model/part; echo up; (setsid sleep 1000 &); sleep 1000");
    yard.wait_log(&id, "up");
    let begun = Instant::now();
    kill(Pid::from_raw(yard.runners()[&id]), Signal::SIGKILL).unwrap();
    let status = yard.wait_end(&id);
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    assert_eq!(status["error"]["errors"][0]["code"], "TY0407", "{status:#}");
    assert_eq!(status["attempt"], 2, "the second attempt only stores");
    assert_eq!(yard.result(&id, "model/part"), "part\n");
    assert!(yard.result(&id, "learner-1/training-log.txt").contains("up"));
    assert_eq!(programs(&id), Vec::<i32>::new(), "the program is left behind");
}

#[test]
fn a_runner_killed_with_its_server_is_found_out_after_the_restart() {
    let mut yard = Yard::start();
    let id = yard.train("both", "mkdir $RESULT_DIR/model; echo x > $RESULT_DIR/model/x; echo up; sleep 1000");
    yard.wait_log(&id, "up");
    let runner = yard.runners()[&id];
    yard.kill_server();
    kill(Pid::from_raw(runner), Signal::SIGKILL).unwrap();
    yard.restart();
    let status = yard.wait_end(&id);
    assert_eq!(status["error"]["errors"][0]["code"], "TY0407", "{status:#}");
    assert!(yard.results(&id).contains_key("model/x"));
}

#[test]
fn a_cancel_that_its_server_did_not_survive_is_carried_out() {
    let mut yard = Yard::with("grace = 1\n[local]\ncpus = 2\nmemory = '64GiB'\n");
    let id = yard.train("late", "echo up; sleep 1000");
    yard.wait_log(&id, "up");
    // The runner stands still while the cancel is journaled, so that it cannot have heard of it.
    let runner = Pid::from_raw(yard.runners()[&id]);
    kill(runner, Signal::SIGSTOP).unwrap();
    yard.cli(&["cancel", &id]).ok();
    yard.kill_server();
    kill(runner, Signal::SIGCONT).unwrap();
    yard.restart();
    yard.wait_end(&id);
    assert_eq!(yard.status(&id)["state"], "canceled");
}

#[test]
fn a_server_stops_gracefully_and_a_second_one_is_refused() {
    let mut yard = Yard::start();
    let id = yard.train("calm", COUNT);
    yard.wait_log(&id, "line 10\n");
    let second = yard.command(&["server", "--listen", "127.0.0.1:0", "--s3-listen", "127.0.0.1:0"]).run();
    assert!(second.fails(1).contains("another server uses it"));
    // Nor may one of other data work where this one's runs are: it would take their folders for left ones.
    let config = yard.dir.path().join("second.toml");
    let node = yard.data_folder().join("node");
    std::fs::write(&config, format!("[local]\nnode = '{}'\n", node.display())).unwrap();
    let (config, data) = (config.to_str().unwrap(), yard.dir.path().join("second"));
    let words = ["server", "--config", config, "--data", data.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let said = yard.command(&[&words[..], &["--s3-listen", "127.0.0.1:0"]].concat()).run().fails(1);
    assert!(said.contains("which `[local] node` names") && said.contains("another server uses it"), "{said}");
    assert_eq!(yard.stop_server(), 0);
    yard.restart();
    assert_eq!(yard.wait_end(&id)["state"], "completed");
}

#[test]
fn server_and_runners_killed_at_random_lose_and_double_nothing() {
    let mut dice = Dice::from_variable("CRASH_SEED");
    let mut yard = Yard::with("grace = 1\n[local]\ncpus = 8\nmemory = '64GiB'\n");
    yard.put("input", b"some data");
    let code = code_folder(yard.dir.path(), &[("main.sh", "echo hello\n")]);
    let manifest = yard.manifest(
        "crash",
        "for i in $(seq 1 100); do echo line $i; sleep 0.02; done; mkdir $RESULT_DIR/model; cp $DATA_DIR/input $RESULT_DIR/model/",
    );
    let mut killed: BTreeMap<String, u32> = BTreeMap::new();
    let mut canceled = Vec::new();
    let mut runs = Vec::new();
    for _ in 0..24 {
        runs.push(yard.train_code(&code, &manifest));
        match dice.roll(5) {
            0 => {
                yard.kill_server();
                yard.restart();
            }
            1 | 2 => {
                let runners: Vec<(String, i32)> = yard.runners().into_iter().collect();
                if !runners.is_empty() {
                    let (run, pid) = &runners[dice.roll(runners.len() as u64) as usize];
                    if kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok() {
                        *killed.entry(run.clone()).or_default() += 1;
                    }
                }
            }
            3 => {
                let run = runs[dice.roll(runs.len() as u64) as usize].clone();
                if yard.cli(&["cancel", &run]).code == 0 {
                    canceled.push(run);
                }
            }
            _ => {}
        }
    }
    let ends: BTreeMap<String, serde_json::Value> =
        runs.iter().map(|id| (id.clone(), yard.wait_end(id))).collect();
    let key: [u8; 32] = std::fs::read(yard.data_folder().join("secret.key")).unwrap().try_into().unwrap();
    let store = Store::open(&yard.data_folder().join("trainyard.db"), Sealer::new(&key)).unwrap();
    for (id, status) in &ends {
        let state = status["state"].as_str().unwrap();
        let log = yard.cli(&["logs", id]).ok();
        let lines = counted(&log);
        // A run that was canceled before a runner took it up has written nothing.
        let began = state != "canceled" || !lines.is_empty();
        let results = yard.results(id);
        let whole = ["learner-1/training-log.txt", "learner-1/.log-copy-complete"]
            .iter()
            .all(|k| results.contains_key(*k));
        assert!(whole || !began, "{id}: {status:#}\n{log}\n{:#?}", store.journal(&id.parse().unwrap()));
        let in_bucket =
            if whole { counted(&yard.result(id, "learner-1/training-log.txt")) } else { Vec::new() };
        assert!(
            store.is_consistent(&id.parse().unwrap()).unwrap(),
            "{id}: the record is not the fold of its journal"
        );
        assert_eq!(programs(id), Vec::<i32>::new(), "{id} left processes");
        let expected: Vec<u32> = (1..=lines.len() as u32).collect();
        match state {
            "completed" => {
                assert_eq!(lines, (1..=100).collect::<Vec<_>>(), "{id}");
                assert_eq!(in_bucket, lines, "{id}");
                assert_eq!(yard.result(id, "model/input"), "some data");
            }
            "error" => {
                assert!(killed.contains_key(id), "{id} failed though nobody touched its runner: {status:#}");
                assert_eq!(status["error"]["errors"][0]["code"], "TY0407", "{status:#}");
                assert_eq!(lines, expected, "{id}");
                assert_eq!(in_bucket, lines, "{id}");
            }
            "canceled" => {
                assert!(canceled.contains(id), "{id} was never canceled");
                assert_eq!(lines, expected, "{id}");
                assert_eq!(in_bucket, lines, "{id}");
            }
            other => panic!("{id} is {other}"),
        }
    }
    for id in &canceled {
        let state = ends[id]["state"].as_str().unwrap();
        assert!(["canceled", "completed", "error"].contains(&state), "{id} is {state}");
    }
}

#[test]
fn a_program_whose_start_was_never_told_is_not_started_again() {
    let mut yard = Yard::with("grace = 1\n[local]\ncpus = 2\nmemory = '64GiB'\n");
    let id = yard.train(
        "untold",
        "mkdir $RESULT_DIR/model; echo once >> $RESULT_DIR/model/starts; echo line 1; sleep 1000",
    );
    // The server dies before the runner can say that the program runs; then the runner dies too.
    let runner = wait_for("the runner", PATIENCE, || yard.runners().get(&id).copied());
    yard.kill_server();
    let started = Instant::now();
    while programs(&id).is_empty() && started.elapsed() < Duration::from_secs(5) {
        std::thread::yield_now();
    }
    let ran = !programs(&id).is_empty();
    let _ = kill(Pid::from_raw(runner), Signal::SIGKILL);
    yard.restart();
    if ran {
        let status = yard.wait_end(&id);
        assert_eq!(status["error"]["errors"][0]["code"], "TY0407", "{status:#}");
        assert_eq!(yard.result(&id, "model/starts"), "once\n");
        let log = yard.cli(&["logs", &id]).ok();
        assert_eq!(counted(&log), [1], "{log}");
    } else {
        // The order had not reached the runner: the run begins again, and is ended here.
        yard.wait_log(&id, "line 1");
        yard.cli(&["cancel", &id]).ok();
    }
    wait_for("nothing is left", PATIENCE, || programs(&id).is_empty().then_some(()));
}

#[test]
fn results_wait_for_a_store_that_is_away() {
    let mut yard = Yard::start();
    if !yard.is_at_home() {
        // The store has to go away, and only this server's own is ours to end.
        return;
    }
    let id = yard.train("patient", "echo up; while [ ! -e $CHECKPOINT_DIR/../go ]; do sleep 0.05; done; mkdir $RESULT_DIR/model; echo kept > $RESULT_DIR/model/x");
    yard.wait_log(&id, "up");
    let runner = yard.runners()[&id];
    yard.kill_server();
    // The embedded store went with its server, and the program ends now.
    std::fs::write(yard.run_folder(&id).join("job/go"), "").unwrap();
    wait_for("the program's end", PATIENCE, || programs(&id).is_empty().then_some(()));
    wait_for("the runner waits", PATIENCE, || {
        yard.runner_log(&id).contains("the results wait for their store").then_some(())
    });
    assert_eq!(yard.runners().get(&id), Some(&runner));
    yard.restart();
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert_eq!(yard.result(&id, "model/x"), "kept\n");
}

#[test]
fn runners_find_a_server_that_comes_back_under_another_address() {
    let mut yard = Yard::start();
    let id = yard.train("moved", "for i in $(seq 1 100); do echo line $i; sleep 0.02; done");
    yard.wait_log(&id, "line 5\n");
    let runner = yard.runners()[&id];
    yard.kill_server();
    let before = std::mem::take(&mut yard.url);
    yard.restart();
    assert_ne!(yard.url, before);
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert_eq!(counted(&yard.cli(&["logs", &id]).ok()), (1..=100).collect::<Vec<u32>>());
    assert_eq!(yard.status(&id)["attempt"], 1, "runner {runner} was taken for lost");
}

#[test]
fn a_full_disk_is_waited_for_and_loses_nothing() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT RUN: only root can make a small disk");
        return;
    }
    let yard = Yard::on_small_disk(64);
    // Its last metric takes room that it has kept: nobody else can write it down yet.
    let code = code_folder(yard.dir.path(), &[("tb.py", crate::metrics::TENSORBOARD)]);
    let manifest = yard.manifest(
        "full",
        "python3 tb.py; mkdir $RESULT_DIR/model; head -c 3000000 /dev/urandom > $RESULT_DIR/model/w; touch $HOME/hold; \
         metrics=$LOG_DIR/evaluation-metrics.txt; rm $metrics; head -c 4000 /dev/zero | tr '\\0' ' ' > $metrics; \
         for i in $(seq 1 50); do echo line $i; done; while [ -e $HOME/hold ]; do sleep 0.05; done; \
         echo '{\"values\":{\"loss\":0.5}}' 1<> $metrics; exit 3",
    );
    let id = yard.train_code(&code, &manifest);
    yard.wait_log(&id, "line 50\n");
    // The disk is filled to its last block, and then the program ends.
    let ballast = yard.dir.path().join("ballast");
    let mut file = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write(&mut file, &[0; 4096]).is_ok() {}
    let runner = yard.runners()[&id];
    std::fs::remove_file(yard.run_folder(&id).join("job/home/hold")).unwrap();
    wait_for("the program's end", PATIENCE, || programs(&id).is_empty().then_some(()));
    wait_for("the server says that it has no room", PATIENCE, || {
        (yard.http("GET", "/readyz", None, None).0 == 507).then_some(())
    });
    let token = yard.admin_token();
    let (status, answer) = yard.http(
        "POST",
        "/v3/ml_assets/training_definitions",
        Some(&token),
        Some(br#"{"name":"n","framework":{"name":"custom","version":"1"}}"#.to_vec()),
    );
    assert_eq!((status, answer["errors"][0]["code"].as_str()), (507, Some("TY0002")), "{answer}");
    // The runner tries, is refused, and tries again.
    let is_refusal = |l: &&str| {
        l.contains("object index failed") || (l.contains("/attempts/1/") && l.contains("status=507"))
    };
    let refused = || yard.server_log().lines().filter(is_refusal).count();
    wait_for("the runner is refused again and again", PATIENCE, || (refused() >= 3).then_some(()));
    assert_eq!(yard.runners().get(&id), Some(&runner), "the runner did not wait");
    drop(file);
    std::fs::remove_file(&ballast).unwrap();
    let status = yard.wait_end(&id);
    assert_eq!(status["error"]["errors"][0]["exit_code"], 3, "{status:#}");
    assert_eq!(status["attempt"], 1, "{status:#}");
    assert_eq!(yard.results(&id)["model/w"], 3_000_000);
    assert_eq!(counted(&yard.cli(&["logs", &id]).ok()), (1..=50).collect::<Vec<u32>>());
    let metrics = status["metrics"].as_array().unwrap();
    assert!(metrics.iter().any(|m| m["values"][0]["name"] == "loss"), "{status:#}");
    let stored = yard.result(&id, "learner-1/evaluation-metrics.txt");
    assert!(stored.contains("loss") && stored.contains("accuracy"), "{stored}");
    assert_eq!(yard.http("GET", "/readyz", None, None).0, 200);
}

#[test]
fn runs_outlive_the_fork_server_and_the_next_run_starts_another() {
    let yard = Yard::start();
    let id = yard.train("forked", COUNT);
    yard.wait_log(&id, "line 10\n");
    let fork_server = fork_server(yard.server_pid()).expect("no fork server");
    kill(Pid::from_raw(fork_server), Signal::SIGKILL).unwrap();
    let next = yard.train("next", "echo next");
    assert_eq!(yard.wait_end(&next)["state"], "completed");
    let status = yard.wait_end(&id);
    assert_eq!(status["state"], "completed", "{status:#}");
    assert_eq!(status["attempt"], 1, "the run was taken for lost");
    assert_eq!(counted(&yard.cli(&["logs", &id]).ok()), (1..=200).collect::<Vec<u32>>());
    // A runner of the fork server that is gone is still found out when it dies.
    let lost = yard.train("lost", "echo up; sleep 1000");
    yard.wait_log(&lost, "up");
    kill(Pid::from_raw(yard.runners()[&lost]), Signal::SIGKILL).unwrap();
    assert_eq!(yard.wait_end(&lost)["error"]["errors"][0]["code"], "TY0407");
}

#[test]
fn a_stranger_at_the_servers_address_ends_no_run() {
    let mut yard = Yard::start();
    let id = yard.train("claimed", "for i in $(seq 1 150); do echo line $i; sleep 0.02; done");
    yard.wait_log(&id, "line 5\n");
    let runner = yard.runners()[&id];
    yard.kill_server();
    // Another server, which knows nothing of this run, takes the address for a while.
    let stranger = Yard::start_at(&yard.url);
    wait_for("the runner meets the stranger", PATIENCE, || {
        yard.runner_log(&id).contains("another server has its address").then_some(())
    });
    assert_eq!(yard.runners().get(&id), Some(&runner), "the runner left");
    drop(stranger);
    yard.restart();
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert_eq!(counted(&yard.cli(&["logs", &id]).ok()), (1..=150).collect::<Vec<u32>>());
}

#[test]
fn results_that_can_be_stored_nowhere_are_kept_on_the_node() {
    let yard = Yard::start();
    if !yard.is_at_home() {
        // The bucket has to go away, which takes other ways elsewhere.
        return;
    }
    let id = yard.train(
        "kept",
        "echo up; while [ ! -e $JOB_STATE_DIR/go ]; do sleep 0.05; done; mkdir $RESULT_DIR/model; echo weeks > $RESULT_DIR/model/w",
    );
    yard.wait_log(&id, "up");
    yard.forget_bucket(&yard.results);
    std::fs::write(yard.run_folder(&id).join("job/go"), "").unwrap();
    let status = yard.wait_end(&id);
    let error = &status["error"]["errors"][0];
    assert_eq!(error["code"], "TY0406", "{status:#}");
    let kept = yard.kept_folder(&id);
    assert!(error["message"].as_str().unwrap().contains(kept.to_str().unwrap()), "{status:#}");
    wait_for("the folder has its place", PATIENCE, || kept.exists().then_some(()));
    assert_eq!(std::fs::read_to_string(kept.join("job/dl-models/model/w")).unwrap(), "weeks\n");
}
