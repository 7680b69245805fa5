//! Metrics of a run: collected while it runs, each point once, whatever dies meanwhile.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    sync::mpsc,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{PATIENCE, Yard, code_folder, wait_for};

/// Writes points into the emetrics file until it is told to stop, or there are as many as it is told.
const WRITER: &str = r#"
import json, os, sys, time
path = os.path.join(os.environ["LOG_DIR"], "evaluation-metrics.txt")
hold = os.path.join(os.environ["HOME"], "hold")
open(hold, "w").close()
step = 0
while os.path.exists(hold):
    step += 1
    values = {"loss": {"type": 3, "value": str(1 / step)}, "note": {"type": 0, "value": "text"}}
    line = {"meta": {"time": 1700000000000 + step}, "grouplabel": "train", "values": values,
            "etimes": {"iteration": {"type": 2, "value": str(step)}}}
    with open(path, "a") as out:
        out.write(json.dumps(line) + "\n")
    print("step", step, flush=True)
    time.sleep(0.01)
print("last", step, flush=True)
"#;

fn start(yard: &Yard) -> String {
    let code = code_folder(yard.dir.path(), &[("writer.py", WRITER)]);
    let id = yard.train_code(&code, &yard.manifest("metrics", "python3 writer.py"));
    yard.wait_log(&id, "step 5\n");
    id
}

/// Tells the program to stop; returns how many points it has written.
fn stop(yard: &Yard, id: &str) -> usize {
    std::fs::remove_file(yard.run_folder(id).join("job/home/hold")).unwrap();
    yard.wait_end(id);
    let log = yard.cli(&["logs", id]).ok();
    log.lines().find_map(|l| l.strip_prefix("last ")?.parse().ok()).unwrap()
}

fn points(yard: &Yard, id: &str) -> Vec<Value> {
    let (_, run) = yard.http("GET", &format!("/v3/models/{id}"), Some(&yard.admin_token()), None);
    run["entity"]["status"]["metrics"].as_array().unwrap().clone()
}

fn steps(points: &[Value]) -> Vec<i64> {
    points.iter().map(|p| p["iteration"].as_i64().unwrap()).collect()
}

/// What the monitor of the command line shows of the metrics.
fn monitored(yard: &Yard, id: &str) -> Vec<i64> {
    let said = yard.cli(&["monitor", "training-runs", id, "metrics", "-o", "json"]).ok();
    said.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["iteration"].as_i64().unwrap()).collect()
}

#[test]
fn points_are_everywhere_once_and_while_the_program_runs() {
    let yard = Yard::start();
    let id = start(&yard);
    wait_for("points of a running run", PATIENCE, || (points(&yard, &id).len() >= 5).then_some(()));
    assert_eq!(yard.status(&id)["state"], "running");
    let last = stop(&yard, &id);
    let all: Vec<i64> = (1..=last as i64).collect();
    let points = points(&yard, &id);
    assert_eq!(steps(&points), all);
    assert_eq!(points[1]["phase"], "train");
    assert_eq!(points[1]["timestamp"], "2023-11-14T22:13:20.002Z");
    assert_eq!(
        points[1]["values"],
        serde_json::json!([{ "name": "loss", "value": 0.5 }]),
        "text is no metric"
    );
    assert_eq!(monitored(&yard, &id), all);
    assert_eq!(yard.result(&id, "learner-1/evaluation-metrics.txt").lines().count(), last);
    let shown = yard.cli(&["monitor", "training-runs", &id, "metrics"]).ok();
    assert!(shown.contains("2023-11-14T22:13:20.002Z iteration:2 phase:train loss:0.5\n"), "{shown}");
    let (_, list) = yard.http("GET", "/v3/models", Some(&yard.admin_token()), None);
    assert_eq!(list["resources"][0]["entity"]["status"]["metrics"], serde_json::json!([]));
    yard.cli(&["delete", &id]).ok();
    wait_for("its log and its points are gone", PATIENCE, || yard.logs_of(&id).is_empty().then_some(()));
}

#[test]
fn a_dead_server_costs_no_point() {
    let mut yard = Yard::start();
    let id = start(&yard);
    wait_for("points", PATIENCE, || (points(&yard, &id).len() >= 3).then_some(()));
    // It is opened once, and goes on where it was after each restart.
    let mut follower = yard.command(&["monitor", "training-runs", &id, "metrics", "-o", "json"]).start();
    let lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let (seen, followed) = mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| seen.send(line)));
    let first = followed.recv_timeout(PATIENCE).unwrap();
    for _ in 0..3 {
        yard.kill_server();
        yard.restart();
        let before = points(&yard, &id).len();
        wait_for("more points", PATIENCE, || (points(&yard, &id).len() > before).then_some(()));
    }
    yard.kill_server();
    let hold = yard.run_folder(&id).join("job/home/hold");
    std::fs::remove_file(hold).unwrap();
    yard.restart();
    yard.wait_end(&id);
    let log = yard.cli(&["logs", &id]).ok();
    let last: i64 = log.lines().find_map(|l| l.strip_prefix("last ")?.parse().ok()).unwrap();
    assert_eq!(steps(&points(&yard, &id)), (1..=last).collect::<Vec<_>>());
    assert_eq!(monitored(&yard, &id), (1..=last).collect::<Vec<_>>());
    // The channel ends with the follower's output.
    let followed = std::iter::once(first).chain(followed);
    let followed: Vec<Value> = followed.map(|l| serde_json::from_str(&l).unwrap()).collect();
    assert!(follower.wait().unwrap().success());
    assert_eq!(steps(&followed), (1..=last).collect::<Vec<_>>());
}

#[test]
fn a_dead_runner_costs_no_point() {
    let yard = Yard::start();
    let id = start(&yard);
    wait_for("points", PATIENCE, || (points(&yard, &id).len() >= 3).then_some(()));
    kill(Pid::from_raw(yard.runners()[&id]), Signal::SIGKILL).unwrap();
    assert_eq!(yard.wait_end(&id)["state"], "error");
    // The program ended with its runner: what it had written by then is all there is.
    let written = yard.result(&id, "learner-1/evaluation-metrics.txt").lines().count() as i64;
    assert_eq!(steps(&points(&yard, &id)), (1..=written).collect::<Vec<_>>());
    assert_eq!(monitored(&yard, &id), (1..=written).collect::<Vec<_>>());
}

/// Writes scalars as TensorFlow does, by the format's own description.
pub const TENSORBOARD: &str = r#"
import os, struct, time
def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff
def masked(data):
    crc = crc32c(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xa282ead8) & 0xffffffff)
def record(data):
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)
def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128]); n >>= 7
    return out + bytes([n])
def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data
def event(step, tag, value):
    scalar = field(1, tag.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", value)
    return bytes([1 << 3 | 1]) + struct.pack("<d", 1700000000.5) + bytes([2 << 3]) + varint(step) + field(5, field(1, scalar))
for folder, root in (("train", os.path.join(os.environ["JOB_STATE_DIR"], "logs", "tb")), ("validation", os.environ["LOG_DIR"])):
    os.makedirs(os.path.join(root, folder), exist_ok=True)
    with open(os.path.join(root, folder, "events.out.tfevents.1.host"), "wb") as out:
        for step in range(1, 4):
            out.write(record(event(step, "accuracy", step / 4)))
with open(os.path.join(os.environ["LOG_DIR"], "evaluation-metrics.txt"), "w") as out:
    out.write('{"grouplabel":"test","etimes":{"iteration":{"type":2,"value":"9"}},"values":{"f1":{"type":3,"value":"0.5"}}}\n')
"#;

#[test]
fn tensorboard_folders_are_groups_and_join_the_file_of_the_results() {
    let yard = Yard::start();
    let code = code_folder(yard.dir.path(), &[("tb.py", TENSORBOARD)]);
    let id = yard.train_code(&code, &yard.manifest("tensorboard", "python3 tb.py"));
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    let points = points(&yard, &id);
    let found: BTreeSet<String> = points
        .iter()
        .map(|p| {
            let v = &p["values"][0];
            format!(
                "{} {} {} {}",
                p["phase"].as_str().unwrap(),
                p["iteration"],
                v["name"].as_str().unwrap(),
                v["value"]
            )
        })
        .collect();
    let expected: BTreeSet<String> = ["train", "validation"]
        .iter()
        .flat_map(|g| (1..4).map(move |s| format!("{g} {s} accuracy {}", f64::from(s) / 4.0)))
        .chain(["test 9 f1 0.5".to_owned()])
        .collect();
    assert_eq!((points.len(), found), (7, expected));
    assert!(points.iter().any(|p| p["timestamp"] == "2023-11-14T22:13:20.500Z"));
    let stored = yard.result(&id, "learner-1/evaluation-metrics.txt");
    assert_eq!(stored.lines().count(), 7, "{stored}");
    assert!(
        stored.starts_with("{\"grouplabel\":\"test\""),
        "the program's own lines are as it wrote them: {stored}"
    );
    for line in stored.lines().skip(1) {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["meta"]["training_id"], id.as_str());
    }
    let results = yard.results(&id);
    assert!(results.contains_key("learner-1/tb/train/events.out.tfevents.1.host"), "{results:?}");
}
