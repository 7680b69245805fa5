//! IBM's own Python client, from PyPI and unmodified, drives the server. Each stage is a script in
//! `ibm_client/` that uses the client's public methods alone, and says at the end that it is done.

use std::path::Path;

use serde_json::json;

use crate::harness::{Tools, Yard};

const PASSWORD: &str = "a notebook's password";

/// Runs a stage with a version of the client.
#[track_caller]
fn stage(name: &str, version: &str) {
    let Some(tools) = Tools::find() else { return };
    let yard = Yard::start();
    yard.add_user("notebook", PASSWORD);
    let setting = json!({
        "url": yard.url,
        "user": "notebook",
        "password": PASSWORD,
        "endpoint": yard.store.endpoint_url,
        "access_key": yard.store.access_key_id,
        "secret_key": yard.store.secret_access_key.expose(),
        "data": yard.data,
        "results": yard.results,
        "folder": yard.dir.path(),
        "home": yard.is_at_home(),
    });
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/ibm_client");
    let output = tools
        .ibm_client(version)
        .arg(scripts.join(format!("{name}.py")))
        .env("TRAINYARD_TEST_YARD", setting.to_string())
        .current_dir(yard.dir.path())
        .output()
        .unwrap();
    let (said, talk) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains(&format!("DONE {name}")), "{said}\n{talk}");
    assert!(said.contains(version), "another version than {version} ran: {said}");
}

#[test]
fn the_whole_cycle() {
    stage("cycle", "1.0.338");
}

#[test]
fn the_whole_cycle_with_the_last_client() {
    stage("cycle", "1.0.391");
}

#[test]
fn the_whole_cycle_with_the_client_that_stores_models_the_old_way() {
    stage("cycle", "1.0.260");
}

#[test]
fn runs_are_waited_for_and_canceled() {
    stage("runs", "1.0.338");
}

#[test]
fn runs_are_waited_for_and_canceled_with_the_last_client() {
    stage("runs", "1.0.391");
}

#[test]
fn failures_are_those_that_users_know() {
    stage("failures", "1.0.338");
}

#[test]
fn models_are_uploaded_and_renewed() {
    stage("models", "1.0.338");
}
