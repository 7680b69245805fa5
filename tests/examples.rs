//! What a new user runs first: the quickstart, and the example on each framework.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use trainyard_transfer::{Bucket, Http};

use crate::harness::{Cluster, PATIENCE, Shape, Tools, Yard, block_on, wait_for};

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
fn example(name: &str) -> (Yard, String, f64) {
    let yard = Yard::with("[local]\ncpus = 4\nmemory = '64GiB'\n");
    let (id, accuracy) = example_at(&yard, name, "local");
    (yard, id, accuracy)
}

fn example_at(yard: &Yard, name: &str, engine: &str) -> (String, f64) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for (file, bytes) in digits() {
        yard.put(&file, &bytes);
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
    let engine = format!("model_definition.execution.compute_configuration.engine={engine}");
    let set = [
        "training_data_reference.source.bucket=data",
        "training_results_reference.target.bucket=results",
        &engine,
    ];
    let id = yard.train_set(&code, &manifest, &set);
    let said = yard.cli(&["wait", &id, "--timeout", "15m"]);
    assert_eq!(said.code, 0, "{}\n{}", said.err, yard.cli(&["show", &id]).out);
    let summary: Value = serde_json::from_str(&yard.result(&id, "model/summary.json")).unwrap();
    let accuracy = summary["test_accuracy"].as_f64().unwrap();
    (id, accuracy)
}

/// Groups and names of what was collected of a run.
fn curves(yard: &Yard, id: &str) -> BTreeSet<String> {
    let metrics = yard.run(id)["entity"]["status"]["metrics"].clone();
    let name =
        |m: &Value| format!("{} {}", m["phase"].as_str().unwrap(), m["values"][0]["name"].as_str().unwrap());
    metrics.as_array().unwrap().iter().map(name).collect()
}

/// Names and contents of the files of digits.
fn digits() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits/data");
    let files = fs::read_dir(folder).unwrap().flatten().map(|e| e.path());
    let files = files.filter(|p| p.extension().is_some_and(|e| e == "gz"));
    files.map(|p| (p.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&p).unwrap())).collect()
}

#[test]
fn the_notebook_with_ibms_client_runs_as_its_readme_says() {
    let Some(tools) = Tools::find() else { return };
    let yard = Yard::with("[local]\ncpus = 4\nmemory = '64GiB'\n");
    let own = yard.own_store();
    block_on(async {
        let bucket = |name: &str| Bucket::new(&Http::default(), &own, name).unwrap();
        bucket("digits-results").create().await.unwrap();
        bucket("digits-data").create().await.unwrap();
        for (file, bytes) in digits() {
            bucket("digits-data").put(&file, bytes.into()).await.unwrap();
        }
    });
    // The quickstart is this server, and the client is installed: the other lines are run.
    let home = tempfile::tempdir().unwrap();
    let quickstart = home.path().join(".local/share/trainyard");
    fs::create_dir_all(&quickstart).unwrap();
    std::os::unix::fs::symlink(yard.data_folder(), quickstart.join("quickstart")).unwrap();
    std::os::unix::fs::symlink(Yard::program(), home.path().join("trainyard")).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let readme = fs::read_to_string(root.join("examples/ibm-client/README.md")).unwrap();
    let block = readme.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let done = ["trainyard quickstart", "python3 -m venv", "wml/bin/pip"];
    let lines: Vec<&str> = block.lines().filter(|l| !done.iter().any(|d| l.starts_with(d))).collect();
    assert_eq!(lines.len() + done.len(), block.lines().count(), "{block}");
    let python = tools.path("python").display().to_string();
    let script = format!("set -eu\n{}", lines.join("\n").replace("wml/bin/python", &python));
    let mut command = tools.ibm_client("1.0.338");
    let path = format!("{}:{}", home.path().display(), std::env::var("PATH").unwrap());
    let environment: Vec<_> =
        command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    command = Command::new("bash");
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let output = command
        .args(["-c", &script])
        .current_dir(&root)
        .env("HOME", home.path())
        .env("PATH", path)
        .env_remove("TRAINYARD_DATA")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("Testing accuracy: 0.9"), "{said}");
    for part in ["State: completed", "Model: ", "weights.npz"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn the_tensorflow_example_reads_digits() {
    let (yard, id, accuracy) = example("tensorflow");
    assert!(accuracy >= 0.95, "{accuracy}");
    // Its TensorBoard files are TensorFlow's own.
    let curves = curves(&yard, &id);
    for curve in ["train epoch_loss", "train epoch_accuracy", "validation epoch_loss"] {
        assert!(curves.contains(curve), "{curve}: {curves:?}");
    }
}

#[test]
fn the_pytorch_examples_read_digits_here_and_on_two_nodes() {
    // Each node is a machine of its own as far as the network goes.
    let yard = match Cluster::start(Shape { wired: true, ..Shape::default() }) {
        Some(cluster) => Yard::on_cluster(cluster, ""),
        None => Yard::start(),
    };
    let (id, accuracy) = example_at(&yard, "pytorch", "local");
    assert!(accuracy >= 0.95, "{accuracy}");
    let curves = curves(&yard, &id);
    for curve in ["train loss", "train accuracy"] {
        assert!(curves.contains(curve), "{curve}: {curves:?}");
    }
    if yard.cluster.is_none() {
        return;
    }
    // The nodes reach no package index, and use what was made here.
    let node = yard.dir.path().join("shared/node");
    fs::create_dir_all(&node).unwrap();
    std::os::unix::fs::symlink(yard.data_folder().join("node/environments"), node.join("environments"))
        .unwrap();
    let (id, accuracy) = example_at(&yard, "distributed", "slurm");
    assert!(accuracy >= 0.95, "{accuracy}");
    for learner in ["1", "2"] {
        let log = yard.cli(&["logs", &id, "--learner", learner]).ok();
        assert!(log.contains(&format!("learner {learner} of 2, on cpu\n")), "{log}");
        assert!(log.contains("loss "), "{log}");
    }
}
