//! The embedded object store under clients that others wrote.

use std::{fs, path::Path, process::Command};

use crate::harness::{Tools, Yard};

/// Everything that boto3 can ask of the store; prints what went wrong and exits with 1.
const BOTO3: &str = include_str!("object_store.py");

fn keys(command: &mut Command, yard: &Yard) {
    let store = yard.own_store();
    command
        .env("AWS_ACCESS_KEY_ID", &store.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", store.secret_access_key.expose())
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
    command.arg(&script).arg(&yard.own_store().endpoint_url);
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
        command.args(["--endpoint-url", &yard.own_store().endpoint_url]).args(words);
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
        command.args(["--endpoint-url", &yard.own_store().endpoint_url]).args(words);
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
