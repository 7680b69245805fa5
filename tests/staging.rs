//! Data in: once per node, whole or not at all.

use std::process::Command;

use crate::harness::{Yard, block_on};

fn network_bytes(yard: &Yard, id: &str) -> (u64, u64) {
    let log = yard.result(id, "learner-1/load-data.log");
    let tail = log.split("over the network: ").nth(1).unwrap_or_else(|| panic!("{log}"));
    let mut numbers = tail.split_whitespace().filter_map(|w| w.parse::<u64>().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn a_second_run_fetches_nothing_and_ten_at_once_fetch_once() {
    let yard = Yard::with("[local]\ncpus = 16\nmemory = '64GiB'\n");
    for n in 0..20 {
        yard.put(&format!("part-{n}"), &vec![n as u8; 50_000]);
    }
    let runs: Vec<String> = (0..10).map(|_| yard.train("many", "cat $DATA_DIR/* | wc -c")).collect();
    let mut fetched = 0;
    for id in &runs {
        assert_eq!(yard.wait_end(id)["state"], "completed");
        assert!(yard.cli(&["logs", id]).ok().contains("\n1000000\n"));
        fetched += network_bytes(&yard, id).1;
    }
    assert_eq!(fetched, 1_000_000, "ten runs fetched the data {} times", fetched / 1_000_000);
    let again = yard.train("again", "cat $DATA_DIR/* | wc -c");
    yard.wait_end(&again);
    assert_eq!(network_bytes(&yard, &again), (0, 0));
    // A changed object is fetched, and only that one.
    yard.put("part-3", b"changed");
    let changed = yard.train("changed", "cat $DATA_DIR/part-3");
    yard.wait_end(&changed);
    assert_eq!(network_bytes(&yard, &changed), (1, 7));
    assert!(yard.cli(&["logs", &changed]).ok().contains("changed"));
}

#[test]
fn large_objects_go_both_ways_in_parts_and_are_verified() {
    let yard = Yard::start();
    let path = yard.dir.path().join("large");
    // 70 MiB in a pattern that no two stretches share.
    let bytes: Vec<u8> = (0..70u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&path, &bytes).unwrap();
    block_on(yard.bucket(&yard.data).put_file("large", &path)).unwrap();
    yard.put("folder/with space+x%.txt", b"and a name to escape");
    let command = "md5sum < $DATA_DIR/large; cat \"$DATA_DIR/folder/with space+x%.txt\"; mkdir $RESULT_DIR/model; cp $DATA_DIR/large \"$RESULT_DIR/model/w+ %\"";
    let id = yard.train("large", command);
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    assert!(yard.cli(&["logs", &id]).ok().contains("and a name to escape"));
    let to = yard.dir.path().join("out");
    yard.cli(&["download", &id, "--to", to.to_str().unwrap()]).ok();
    assert!(std::fs::read(to.join("model/w+ %")).unwrap() == bytes, "what came back is not what was sent");
    let here = Command::new("md5sum").stdin(std::fs::File::open(&path).unwrap()).output().unwrap();
    let here = String::from_utf8(here.stdout).unwrap();
    assert!(yard.cli(&["logs", &id]).ok().contains(here.split(' ').next().unwrap()));
}

#[test]
fn object_names_that_cannot_be_files_are_named_and_nothing_is_written() {
    let yard = Yard::start();
    if !yard.is_at_home() {
        // Not every store takes such names.
        return;
    }
    yard.put("good", b"x");
    yard.put("a", b"x");
    yard.put("a/b", b"x");
    yard.put("x//y", b"x");
    let id = yard.train("names", "ls $DATA_DIR");
    let status = yard.wait_end(&id);
    let error = status["error"]["errors"][0].clone();
    assert_eq!(error["code"], "TY0405", "{status:#}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("`a` is an object, and other objects need a folder"), "{message}");
    assert!(message.contains("`x//y` has an empty part"), "{message}");
    assert!(yard.results(&id).contains_key("learner-1/training-log.txt"), "the log is stored on failure too");
}

#[test]
fn a_program_cannot_change_the_data_of_other_runs() {
    let yard = Yard::start();
    yard.put("shared", b"original");
    let vandal = yard.train("vandal", "chmod u+w $DATA_DIR/shared; echo vandal > $DATA_DIR/shared; true");
    yard.wait_end(&vandal);
    let next = yard.train("next", "cat $DATA_DIR/shared");
    yard.wait_end(&next);
    assert!(yard.cli(&["logs", &next]).ok().contains("original"));
}

#[test]
fn results_are_downloaded_and_what_is_there_stays() {
    let yard = Yard::start();
    let id = yard.train("down", "mkdir -p $RESULT_DIR/model/deep; echo one > $RESULT_DIR/model/deep/1; head -c 3000000 /dev/zero > $RESULT_DIR/model/big");
    yard.wait_end(&id);
    let to = yard.dir.path().join("out");
    let words = ["download", &id, "--only", "model/", "--to", to.to_str().unwrap()];
    let said = yard.cli(&words);
    assert!(said.err.contains("2 of 2 files downloaded"), "{}", said.err);
    assert_eq!(std::fs::read(to.join("model/deep/1")).unwrap(), b"one\n");
    // A broken file is fetched again, the other is not.
    std::fs::write(to.join("model/deep/1"), "two\n").unwrap();
    let said = yard.cli(&words);
    assert!(said.err.contains("1 of 2 files downloaded, 1 were there"), "{}", said.err);
    assert_eq!(std::fs::read(to.join("model/deep/1")).unwrap(), b"one\n");
}

#[test]
fn data_wait_for_a_store_that_is_away() {
    let mut yard = Yard::start();
    if !yard.is_at_home() {
        // The store has to go away, and only this server's own is ours to end.
        return;
    }
    yard.put("input", b"late but whole");
    // Two servers: one with the store, one that places the run and stays.
    let store = yard.store.clone();
    let placer = Yard::start();
    let manifest =
        placer.manifest_with("late", "cat $DATA_DIR/input", &store.endpoint_url, &yard.data, &yard.results);
    let text = std::fs::read_to_string(&manifest).unwrap();
    let (own, there) = (placer.store.clone(), store);
    let text = text
        .replace(&own.access_key_id, &there.access_key_id)
        .replace(own.secret_access_key.expose(), there.secret_access_key.expose());
    std::fs::write(&manifest, text).unwrap();
    // All places are taken, so that the store can go between the submit and the start.
    let blocker = "echo up; while [ ! -e $JOB_STATE_DIR/go ]; do sleep 0.05; done";
    let blockers: Vec<String> = (0..2).map(|_| placer.train("blocker", blocker)).collect();
    for id in &blockers {
        placer.wait_log(id, "up");
    }
    let code = crate::harness::code_folder(placer.dir.path(), &[("x", "")]);
    let id = placer.train_code(&code, &manifest);
    yard.kill_server();
    for run in &blockers {
        std::fs::write(placer.run_folder(run).join("job/go"), "").unwrap();
    }
    placer.wait_log(&id, "trying again in");
    yard.restart();
    assert_eq!(placer.wait_end(&id)["state"], "completed");
    assert!(placer.cli(&["logs", &id]).ok().contains("late but whole"));
    assert_eq!(placer.status(&id)["attempt"], 1);
}
