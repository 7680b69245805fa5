//! What a training program can get at, and what it cannot: as root, and as an ordinary user.

use std::{fs, process::Command};

use crate::harness::{Yard, code_folder};

/// Whether the kernel has Landlock, which is what holds without any rights.
fn has_landlock() -> bool {
    let abi = "import ctypes, sys; sys.exit(0 if ctypes.CDLL(None).syscall(444, None, 0, 1) > 0 else 1)";
    Command::new("python3").args(["-c", abi]).status().unwrap().success()
}

/// Tries to read and to change what is not its own, and says how it went, a word each.
const THIEF: &str = r#"#!/bin/bash
data=$1 server=$2
try() { if "${@:2}" >/dev/null 2>&1; then echo "$1 DONE"; else echo "$1 refused"; fi; }
# A covered file can be read, and is empty.
reads() { test "$(head -c 1 "$1" | wc -c)" = 1; }
for file in admin-token secret.key s3-keys.json trainyard.db s3/index.db; do try "read-$file" reads "$data/$file"; done
for file in "$data"/definitions/* "$data"/logs/* "$data"/node/definitions/* "$data"/node/cache/*/*; do
    try read-others reads "$file"
done
umount "$data/admin-token" "$data/s3" 2>/dev/null
try after-umount reads "$data/admin-token"
dd if=/dev/zero of="$data/trainyard.db" count=1 conv=notrunc 2>/dev/null
try remove-logs rm -rf "$data/logs"
try own-login reads "$REAL_HOME/.config/trainyard/login.json"
try server-memory reads "/proc/$server/mem"
try server-environment reads "/proc/$server/environ"
try server-root reads "/proc/$server/root$data/admin-token"
disk=$(df --output=source "$data" | tail -1)
try raw-disk reads "$disk"
try make-device mknod "$HOME/disk" b 8 0
try signal-server kill -0 "$server"
try limit-server python3 -c "import resource; resource.prlimit($server, resource.RLIMIT_FSIZE, (1 << 40, 1 << 40))"
try listen-to-all python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 3)'
for place in /etc /usr/bin "$REAL_HOME" "$JOB_STATE_DIR" "$DATA_DIR"; do
    try write-outside bash -c "echo x > '$place/left-by-$TRAINING_ID'"
done
ln -s "$data" "$RESULT_DIR/way-out"
rmdir "$LOG_DIR/tb" && ln -s "$data" "$LOG_DIR/tb"
ln -s ../../../../admin-token "$RESULT_DIR/token"
mkfifo "$RESULT_DIR/pipe"
# What a program may: its own folders, its home, the machine's programs and temporary files.
for folder in "$RESULT_DIR" "$LOG_DIR" "$CHECKPOINT_DIR" "$HOME" "${TMPDIR:-/tmp}"; do
    try may-write bash -c "echo x > '$folder/mine-$TRAINING_ID' && rm '$folder/mine-$TRAINING_ID'"
done
try may-read cat "$DATA_DIR/input"
try may-run python3 -c 'import json, ssl, subprocess; subprocess.check_call(["true"])'
try may-list ls /
try may-say bash -c 'echo by name >> /dev/stdout; echo by name >> /dev/stderr'
echo "by another name" >> /dev/stderr
echo "home is $HOME"
"#;

fn thieves_report(yard: &Yard) -> String {
    yard.put("input", b"some data");
    let config = yard.dir.path().join(".config/trainyard");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("login.json"), "a token").unwrap();
    let first = yard.train("other", "true");
    yard.wait_end(&first);
    let code = code_folder(yard.dir.path(), &[("thief.sh", THIEF)]);
    let command = format!(
        "REAL_HOME={} ./thief.sh {} {}",
        yard.dir.path().display(),
        yard.data_folder().display(),
        yard.server_pid()
    );
    let id = yard.train_code(&code, &yard.manifest("thief", &command));
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    let results = yard.results(&id);
    for stolen in ["way-out", "token", "pipe", "learner-1/tb"] {
        assert!(!results.keys().any(|k| k.starts_with(stolen)), "{stolen} was stored: {results:?}");
    }
    let database = fs::read(yard.data_folder().join("trainyard.db")).unwrap();
    assert!(database.starts_with(b"SQLite format 3"), "the program wrote into the database");
    yard.cli(&["logs", &id]).ok()
}

fn nothing_was_stolen(report: &str) {
    // Signals are held back from Linux 6.12 on.
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let signals = (numbers.next(), numbers.next()) >= (Some(6), Some(12));
    let tries: Vec<&str> =
        report.lines().filter(|l| l.ends_with(" DONE") || l.ends_with(" refused")).collect();
    assert!(tries.len() > 20, "{report}");
    for line in tries {
        let allowed = line.starts_with("may-") || (line.starts_with("signal-") && !signals);
        assert_eq!(line.ends_with(" DONE"), allowed, "{line}\n{report}");
    }
    assert!(report.contains("by another name\n"), "{report}");
    assert!(report.contains("/home\n"), "the program has its user's home: {report}");
}

#[test]
fn a_program_cannot_get_at_keys_and_other_runs() {
    if !has_landlock() {
        eprintln!("NOT RUN: this kernel has no Landlock");
        return;
    }
    let yard = Yard::start();
    nothing_was_stolen(&thieves_report(&yard));
}

#[test]
fn an_ordinary_user_needs_no_rights_for_that() {
    if !has_landlock() || !nix::unistd::geteuid().is_root() {
        eprintln!("NOT RUN: this takes Landlock, and root to become another user");
        return;
    }
    let yard = Yard::as_user(65_534);
    let report = thieves_report(&yard);
    assert!(!report.contains("home is /job"), "a mount namespace takes root: {report}");
    nothing_was_stolen(&report);
}

#[test]
fn an_operator_can_do_without_isolation() {
    let yard = Yard::with("[local]\ncpus = 2\nmemory = '64GiB'\nisolate = false\n");
    let id = yard.train("open", "echo home is $HOME; echo data is $DATA_DIR");
    assert_eq!(yard.wait_end(&id)["state"], "completed");
    let log = yard.cli(&["logs", &id]).ok();
    assert!(log.contains(&format!("home is {}\n", yard.dir.path().display())), "{log}");
    assert!(log.contains(&format!("data is {}", yard.node_folder().display())), "{log}");
}

#[test]
fn what_a_run_installs_is_its_own() {
    let yard = Yard::start();
    // A wheel is a zip with three files of fixed names (PEP 427).
    let make = "import zipfile\nz = zipfile.ZipFile('own-1.0-py3-none-any.whl', 'w')\n\
        z.writestr('own.py', 'print(\"installed\")')\n\
        z.writestr('own-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: own\\nVersion: 1.0\\n')\n\
        z.writestr('own-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')\n\
        z.writestr('own-1.0.dist-info/RECORD', '')\nz.close()\n";
    let code = code_folder(yard.dir.path(), &[("make.py", make)]);
    let run = |command: &str| {
        let set = ["model_definition.framework.name=numpy", "model_definition.framework.version=2"];
        let manifest = yard.manifest("pip", command);
        let id = yard.train_set(&code, &manifest, &set);
        assert_eq!(yard.wait_end(&id)["state"], "completed", "{}", yard.cli(&["logs", &id]).out);
        yard.cli(&["logs", &id]).ok()
    };
    let log = run(
        "python make.py && pip install --no-index ./own-1.0-py3-none-any.whl && python -c 'import own, numpy'",
    );
    assert!(log.contains("installed\n"), "{log}");
    let log = run("python -c 'import numpy; import own' || echo not there");
    assert!(log.contains("not there"), "the next run has what the last one installed: {log}");
}

#[test]
fn a_program_that_the_kernel_killed_for_memory_says_so() {
    let group = format!("/sys/fs/cgroup/memory/trainyard-test-{}", std::process::id());
    if fs::create_dir(&group).is_err() {
        eprintln!("NOT RUN: no memory cgroup (version 1) can be made here");
        return;
    }
    fs::write(format!("{group}/memory.limit_in_bytes"), "100M").unwrap();
    // The program may join the group because the operator lets it.
    let yard = Yard::with(&format!("[local]\ncpus = 2\nmemory = '64GiB'\nwritable = ['{group}']\n"));
    let command = format!("echo $$ > {group}/cgroup.procs && exec python3 -c 'x = bytearray(400 << 20)'");
    let id = yard.train("memory", &command);
    let status = yard.wait_end(&id);
    let _ = fs::remove_dir(&group);
    let error = &status["error"]["errors"][0];
    assert_eq!(
        (error["code"].as_str(), error["signal"].as_str()),
        (Some("TY0403"), Some("SIGKILL")),
        "{status:#}"
    );
}
