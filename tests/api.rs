//! The API from outside: owners, tokens, shapes, abuse.

use serde_json::{Value, json};

use crate::harness::{Yard, code_folder};

#[test]
fn a_run_has_the_shape_that_old_clients_read() {
    let yard = Yard::start();
    let id = yard.train("shape", "true");
    yard.wait_end(&id);
    let (status, run) = yard.http("GET", &format!("/v3/models/{id}"), Some(&yard.admin_token()), None);
    assert_eq!(status, 200);
    assert_eq!(run["metadata"]["guid"], id.as_str());
    assert!(run["metadata"]["url"].as_str().unwrap().ends_with(&format!("/models/{id}")));
    let results = &run["entity"]["training_results_reference"];
    assert_eq!(results["location"], json!({"bucket": yard.results, "model_location": id}));
    let secret = results["connection"]["secret_access_key"].as_str().unwrap();
    assert!(secret.starts_with("tys_"), "a stand-in comes in place of {secret}");
    let status = &run["entity"]["status"];
    assert_eq!(status["metrics"], json!([]));
    assert_eq!(status["message"], format!("{id}: "));
    for time in ["submitted_at", "running_at", "finished_at", "current_at"] {
        let text = status[time].as_str().unwrap();
        assert!(text.len() == 24 && text.ends_with('Z'), "{time} is {text}");
    }
    let (_, list) = yard.http("GET", "/v3/models?limit=1", Some(&yard.admin_token()), None);
    assert!(!list.to_string().contains(yard.store.secret_access_key.expose()), "lists hold no keys");
}

#[test]
fn lists_come_in_pages_newest_first() {
    let yard =
        Yard::with("[local]\ncpus = 0.5\nmemory = '64GiB'\n[compute.tiny]\ncpus = 0.5\nmemory = '1MiB'\n");
    let code = code_folder(yard.dir.path(), &[("x", "")]);
    let manifest = yard.manifest("page", "true");
    let ids: Vec<String> = (0..5)
        .map(|_| {
            let set = "model_definition.execution.compute_configuration.name=tiny";
            yard.cli(&["train", code.to_str().unwrap(), manifest.to_str().unwrap(), "-q", "--set", set])
                .ok()
                .trim()
                .to_owned()
        })
        .collect();
    let token = yard.admin_token();
    let mut seen = Vec::new();
    let mut path = "/v3/models?limit=2".to_owned();
    loop {
        let (status, page) = yard.http("GET", &path, Some(&token), None);
        assert_eq!(status, 200);
        seen.extend(
            page["resources"]
                .as_array()
                .unwrap()
                .iter()
                .map(|r| r["metadata"]["guid"].as_str().unwrap().to_owned()),
        );
        match page["next"]["url"].as_str() {
            Some(url) => path = url.trim_start_matches(&yard.url).to_owned(),
            None => break,
        }
    }
    let newest_first: Vec<String> = ids.into_iter().rev().collect();
    assert_eq!(seen, newest_first);
    for bad in ["0", "1001", "-1", "x"] {
        assert_eq!(yard.http("GET", &format!("/v3/models?limit={bad}"), Some(&token), None).0, 400, "{bad}");
    }
}

#[test]
fn both_forms_of_the_cancel_are_taken_and_other_patches_are_not() {
    let yard = Yard::start();
    let token = yard.admin_token();
    let cancel = json!({"op": "replace", "path": "/status/state", "value": "canceled"});
    for body in [json!([cancel]), cancel] {
        let id = yard.train("patch", "sleep 1000");
        let (status, _) = yard.http(
            "PATCH",
            &format!("/v3/models/{id}"),
            Some(&token),
            Some(body.to_string().into_bytes()),
        );
        assert_eq!(status, 204);
        assert_eq!(yard.wait_end(&id)["state"], "canceled");
    }
    let id = yard.train("other", "true");
    for bad in [
        r#"[]"#,
        r#"{"op":"replace","path":"/name","value":"x"}"#,
        "no json",
        r#"[{"op":"remove","path":"/status/state"}]"#,
    ] {
        let (status, answer) =
            yard.http("PATCH", &format!("/v3/models/{id}"), Some(&token), Some(bad.into()));
        assert_eq!(status, 400, "{bad}: {answer}");
    }
}

#[test]
fn malformed_requests_get_an_answer_in_the_known_shape() {
    let yard = Yard::start();
    let token = yard.admin_token();
    let cases: [(&str, &str, &str, u16); 7] = [
        ("POST", "/v3/models", "", 400),
        ("POST", "/v3/models", "{\"model_definition\": 5}", 400),
        ("POST", "/v3/ml_assets/training_definitions", "{}", 400),
        ("GET", "/v3/models/training-../../x", "", 404),
        ("GET", "/v3/models/not-a-run", "", 404),
        ("GET", "/v3/unknown", "", 404),
        ("DELETE", "/v3/models", "", 405),
    ];
    for (method, path, body, expected) in cases {
        let (status, answer) = yard.http(method, path, Some(&token), Some(body.into()));
        assert_eq!(status, expected, "{method} {path}: {answer}");
        let error = &answer["errors"][0];
        assert!(
            error["code"].as_str().unwrap().starts_with("TY0")
                && !error["message"].as_str().unwrap().is_empty(),
            "{answer}"
        );
        assert!(answer["trace"].is_string());
    }
    let (status, _) = yard.http("POST", "/v3/models", Some(&token), Some(vec![b' '; 3 << 20]));
    assert_eq!(status, 413);
}

#[test]
fn a_body_that_is_nested_too_deep_is_refused_and_harms_nobody() {
    let mut yard = Yard::start();
    let id = yard.train("good", "true");
    yard.wait_end(&id);
    let token = yard.admin_token();
    let (_, run) = yard.http("GET", &format!("/v3/models/{id}"), Some(&token), None);
    let entity = &run["entity"];
    for depth in [20, 40, 47, 100, 125, 130, 10_000] {
        let again = json!({
            "model_definition": entity["model_definition"],
            "training_data_reference": entity["training_data_reference"],
            "training_results_reference": entity["training_results_reference"],
        });
        let author = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let body = again.to_string().replacen("\"name\":", &format!("\"author\":{author},\"name\":"), 1);
        let (status, answer) = yard.http("POST", "/v3/models", Some(&token), Some(body.into_bytes()));
        assert!([202, 400].contains(&status), "{depth}: {answer}");
        assert_eq!(yard.http("GET", "/v3/models", Some(&token), None).0, 200, "{depth}");
        if status == 202 {
            yard.wait_end(answer["metadata"]["guid"].as_str().unwrap());
        }
    }
    yard.kill_server();
    yard.restart();
    assert_eq!(yard.status(&id)["state"], "completed");
}

#[test]
fn secrets_are_nowhere_on_disk_in_clear() {
    let yard = Yard::start();
    // Where a mount namespace can be had, the keys on the machine read as nothing.
    let folder = yard.data_folder().display().to_string();
    let id = yard.train("secret", &format!("env; cat {folder}/s3-keys.json {folder}/admin-token {folder}/secret.key; ls {folder}/logs {folder}/node/runs; true"));
    yard.wait_end(&id);
    let secret = yard.store.secret_access_key.expose().as_bytes().to_vec();
    let log = yard.cli(&["logs", &id]).ok();
    assert!(!log.contains(yard.store.secret_access_key.expose()), "the program saw the key");
    if log.contains("DATA_DIR: /job/") {
        assert!(!log.contains(&yard.admin_token()), "the program read the administrator's token");
        assert!(!log.lines().any(|l| l.starts_with("training-")), "the program sees other runs: {log}");
    }
    assert!(!yard.cli(&["show", &id, "-o", "json"]).ok().contains(yard.store.secret_access_key.expose()));
    let mut open = vec![yard.data_folder()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_none_or(|n| n != "s3-keys.json") || !yard.is_at_home() {
                let bytes = std::fs::read(&path).unwrap_or_default();
                assert!(
                    !bytes.windows(secret.len()).any(|w| w == secret),
                    "{} holds the key",
                    path.display()
                );
            }
        }
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(yard.data_folder().join("admin-token")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn records_go_after_their_days_and_the_bucket_stays() {
    // The clock cannot be turned; a record can be made to have ended long ago.
    let mut yard = Yard::with("keep_days = 7\n[local]\ncpus = 2\nmemory = '64GiB'\n");
    let old = yard.train("old", "true");
    let new = yard.train("new", "true");
    yard.wait_end(&old);
    yard.wait_end(&new);
    yard.kill_server();
    let script = format!(
        "import sqlite3; c = sqlite3.connect('{}'); c.execute(\"update runs set finished_at = finished_at - 8*86400000 where id = ?\", ('{old}',)); c.commit()",
        yard.data_folder().join("trainyard.db").display()
    );
    let done = std::process::Command::new("python3").args(["-c", &script]).status().unwrap();
    assert!(done.success());
    yard.restart();
    crate::harness::wait_for("the old record goes", crate::harness::PATIENCE, || {
        (yard.cli(&["show", &old]).code == 102).then_some(())
    });
    yard.cli(&["show", &new]).ok();
    assert!(yard.results(&old).contains_key("learner-1/training-log.txt"));
    let list: Value = serde_json::from_str(&yard.cli(&["list", "-o", "json"]).ok()).unwrap();
    assert_eq!(list["resources"].as_array().unwrap().len(), 1);
}
