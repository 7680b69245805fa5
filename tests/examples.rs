//! What a new user runs first: the quickstart, and the example on each framework.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{PATIENCE, Yard, wait_for};

fn quickstart(home: &Path, within: &Path) -> (String, String) {
    let output = Command::new(Yard::program())
        .arg("quickstart")
        .current_dir(within)
        .env("HOME", home)
        .env_remove("XDG_DATA_HOME")
        .env_remove("XDG_CONFIG_HOME")
        .env_remove("TRAINYARD_SERVER")
        .env_remove("TRAINYARD_DATA")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    assert!(output.status.success(), "{}\n{}", text(&output.stdout), text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_quickstart_trains_a_network_and_a_second_one_reuses_what_is_there() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let (out, err) = quickstart(home.path(), elsewhere.path());
    let last =
        out.lines().find(|l| l.contains("Testing accuracy:")).unwrap_or_else(|| panic!("{out}\n{err}"));
    let accuracy: f64 = last.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(accuracy >= 0.95, "{last}");
    assert!(out.contains("/model/weights.npz") && out.contains("/learner-1/.log-copy-complete"), "{out}");
    assert!(err.contains("$ trainyard train ") && err.contains("Three things to try next:"), "{err}");

    let (out, err) = quickstart(home.path(), elsewhere.path());
    assert!(err.contains("is running already") && err.contains("holds the digits already"), "{err}");
    assert!(out.contains("Testing accuracy:"), "{out}");

    let data = home.path().join(".local/share/trainyard/quickstart");
    let address: Value = serde_json::from_slice(&fs::read(data.join("server.json")).unwrap()).unwrap();
    let server = Pid::from_raw(i32::try_from(address["pid"].as_i64().unwrap()).unwrap());
    kill(server, Signal::SIGTERM).unwrap();
    wait_for("the quickstart's server ends", PATIENCE, || kill(server, None).is_err().then_some(()));
}

/// Runs an example of the repository with this server's store; returns its accuracy.
fn example(name: &str) -> f64 {
    let yard = Yard::with("[local]\ncpus = 4\nmemory = '64GiB'\n");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for entry in fs::read_dir(root.join("digits/data")).unwrap().flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        if Path::new(&file).extension().is_some_and(|e| e == "gz") {
            yard.put(&file, &fs::read(entry.path()).unwrap());
        }
    }
    // The manifests name the quickstart's credential: here it is this server's.
    let s = &yard.store;
    let credentials = yard.data_folder().join("credentials.toml");
    let keys = format!(
        "[quickstart]\nendpoint_url = '{}'\naccess_key_id = '{}'\nsecret_access_key = '{}'\n",
        s.endpoint_url,
        s.access_key_id,
        s.secret_access_key.expose()
    );
    fs::write(&credentials, keys).unwrap();
    fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, manifest) = (root.join(name).join("code"), root.join(name).join("manifest.yml"));
    let set =
        ["training_data_reference.source.bucket=data", "training_results_reference.target.bucket=results"];
    let id = yard.train_set(&code, &manifest, &set);
    let said = yard.cli(&["wait", &id, "--timeout", "15m"]);
    assert_eq!(said.code, 0, "{}\n{}", said.err, yard.cli(&["show", &id]).out);
    let summary: Value = serde_json::from_str(&yard.result(&id, "model/summary.json")).unwrap();
    summary["test_accuracy"].as_f64().unwrap()
}

#[test]
fn the_tensorflow_example_reads_digits() {
    let accuracy = example("tensorflow");
    assert!(accuracy >= 0.95, "{accuracy}");
}

#[test]
fn the_pytorch_example_reads_digits() {
    let accuracy = example("pytorch");
    assert!(accuracy >= 0.95, "{accuracy}");
}
