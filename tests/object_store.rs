//! The embedded object store under clients that others wrote, and runs on a store that others wrote.

use std::{fs, path::Path, process::Command};

use crate::harness::{Tools, Yard, seaweed};

/// Everything that boto3 can ask of the store; prints what went wrong and exits with 1.
const BOTO3: &str = include_str!("object_store.py");

fn keys(command: &mut Command, yard: &Yard) {
    command
        .env("AWS_ACCESS_KEY_ID", &yard.store.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", yard.store.secret_access_key.expose())
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("HOME", yard.dir.path());
}

#[track_caller]
fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}\n{text}");
    text
}

#[test]
fn boto3_finds_nothing_missing() {
    let Some(tools) = Tools::find() else { return };
    let yard = Yard::start();
    let script = yard.dir.path().join("store.py");
    fs::write(&script, BOTO3).unwrap();
    let mut command = tools.command("python3");
    command.arg(&script).arg(&yard.store.endpoint_url);
    keys(&mut command, &yard);
    let text = succeed(command);
    assert!(text.contains("all good"), "{text}");
}

fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(at).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push((
                    path.strip_prefix(folder).unwrap().display().to_string(),
                    fs::read(&path).unwrap(),
                ));
            }
        }
    }
    found.sort();
    found
}

#[test]
fn awscli_and_s5cmd_carry_folders_there_and_back() {
    let Some(tools) = Tools::find() else { return };
    let yard = Yard::start();
    let source = yard.dir.path().join("source");
    for (name, size) in
        [("small", 10), ("deep/er/file", 100_000), ("with space+plus%", 5), ("large", 20 << 20), ("empty", 0)]
    {
        let path = source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..size).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        fs::write(&path, bytes).unwrap();
    }
    let aws = |words: &[&str]| {
        let mut command = tools.command("aws");
        command.args(["--endpoint-url", &yard.store.endpoint_url]).args(words);
        keys(&mut command, &yard);
        succeed(command)
    };
    let from = source.to_str().unwrap();
    let there = yard.dir.path().join("there");
    aws(&["s3", "mb", "s3://carried"]);
    aws(&["s3", "sync", from, "s3://carried/in", "--no-progress"]);
    aws(&["s3", "cp", "--recursive", "s3://carried/in", "s3://carried/copy", "--no-progress"]);
    aws(&["s3", "sync", "s3://carried/copy", there.to_str().unwrap(), "--no-progress"]);
    assert_eq!(tree(&source), tree(&there));
    assert_eq!(
        aws(&["s3", "sync", from, "s3://carried/in", "--no-progress"]),
        "",
        "a second sync has nothing to do"
    );

    let s5cmd = |words: &[&str]| {
        let mut command = tools.command("s5cmd");
        command.args(["--endpoint-url", &yard.store.endpoint_url]).args(words);
        keys(&mut command, &yard);
        succeed(command)
    };
    let back = yard.dir.path().join("back");
    s5cmd(&["cp", "s3://carried/in/*", &format!("{}/", back.display())]);
    assert_eq!(tree(&source), tree(&back));
    s5cmd(&["sync", &format!("{from}/"), "s3://carried/five/"]);
    assert_eq!(s5cmd(&["ls", "s3://carried/five/*"]).lines().count(), 5);
    s5cmd(&["rm", "s3://carried/*"]);
    aws(&["s3", "rb", "s3://carried"]);
}

#[test]
fn runs_work_on_a_store_that_nobody_here_wrote() {
    let Some(tools) = Tools::find() else { return };
    let mut yard = Yard::start();
    let weed = seaweed(&tools, "ACCESS", "SECRETSECRET");
    yard.store = trainyard_api::Connection {
        endpoint_url: weed.endpoint.clone(),
        access_key_id: "ACCESS".to_owned(),
        secret_access_key: trainyard_api::Secret::new("SECRETSECRET"),
    };
    crate::harness::block_on(async {
        yard.bucket("data").create().await.unwrap();
        yard.bucket("results").create().await.unwrap();
    });
    yard.put("folder/with space+x.txt", b"from the weed");
    let large = yard.dir.path().join("large");
    fs::write(&large, vec![7u8; 40 << 20]).unwrap();
    crate::harness::block_on(yard.bucket("data").put_file("large", &large)).unwrap();
    let command = "cat \"$DATA_DIR/folder/with space+x.txt\"; wc -c < $DATA_DIR/large; mkdir $RESULT_DIR/model; head -c 30000000 /dev/urandom > $RESULT_DIR/model/w; exit 0";
    let id = yard.train("weed", command);
    let status = yard.wait_end(&id);
    assert_eq!(status["state"], "completed", "{status:#}");
    let log = yard.cli(&["logs", &id]).ok();
    assert!(log.contains("from the weed") && log.contains("41943040"), "{log}");
    assert_eq!(yard.results(&id)["model/w"], 30_000_000);
    assert!(yard.results(&id).contains_key("learner-1/.log-copy-complete"));
    let to = yard.dir.path().join("out");
    yard.cli(&["download", &id, "--to", to.to_str().unwrap()]).ok();
    assert_eq!(fs::metadata(to.join("model/w")).unwrap().len(), 30_000_000);
    let again = yard.train("again", command);
    assert_eq!(yard.wait_end(&again)["state"], "completed");
    assert!(yard.result(&again, "learner-1/load-data.log").contains("over the network: 0 files"));
    let failed = yard.train("failed", "mkdir $RESULT_DIR/model; echo x > $RESULT_DIR/model/x; exit 4");
    assert_eq!(yard.wait_end(&failed)["state"], "error");
    assert!(yard.results(&failed).contains_key("model/x"));
    let canceled =
        yard.train("canceled", "mkdir $RESULT_DIR/model; echo x > $RESULT_DIR/model/x; echo up; sleep 1000");
    yard.wait_log(&canceled, "up");
    yard.cli(&["cancel", &canceled]).ok();
    assert_eq!(yard.wait_end(&canceled)["state"], "canceled");
    assert!(yard.results(&canceled).contains_key("model/x"));
    let keys = yard.manifest("keys", "true");
    let code = crate::harness::code_folder(yard.dir.path(), &[("x", "")]);
    let refused = yard.cli(&[
        "train",
        code.to_str().unwrap(),
        keys.to_str().unwrap(),
        "--set",
        "training_data_reference.connection.secret_access_key=no",
    ]);
    assert!(refused.fails(1).contains("TY0110"));
}
