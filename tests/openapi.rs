//! The OpenAPI document: committed, true, and the source of a table of all routes.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::harness::{Tools, Yard, compare_generated};

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

fn document(yard: &Yard) -> Value {
    yard.http("GET", "/openapi.json", None, None).1
}

/// Every operation: method, path, and what the document says of it.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in METHODS {
            if item[method].is_object() {
                all.push((method.to_uppercase(), path.clone(), item[method].clone()));
            }
        }
    }
    all
}

#[test]
fn the_document_is_the_committed_one_and_has_a_page() {
    let yard = Yard::start();
    let served = yard.text("/openapi.json");
    compare_generated("docs/openapi.json", &served);
    let page = yard.text("/docs");
    for (method, path, _) in operations(&document(&yard)) {
        assert!(page.contains(&path), "{method} {path} is not on the page");
    }
    assert!(page.contains("id=\"Run\"") && page.contains("href=\"#Run\""), "objects are described");
    assert!(!page.contains("<script"));
}

#[test]
fn every_error_leads_to_its_page() {
    let yard = Yard::start();
    let (_, answer) = yard.http("GET", "/v3/models", None, None);
    let more = answer["errors"][0]["more_info"].as_str().unwrap();
    let page = yard.text(more.strip_prefix(&yard.url).expect("the page is this server's"));
    assert!(page.starts_with("# TY0201"), "{page}");
    for code in trainyard_api::Code::ALL {
        let path = format!("/docs/errors/{}", code.as_str());
        assert!(yard.text(&path).contains(code.title()), "{path}");
    }
    assert_eq!(yard.http("GET", "/docs/errors/TY9999", None, None).0, 404);
    assert_eq!(yard.http("GET", "/docs/errors/..%2F..%2Fsecret", None, None).0, 404);
}

/// Things of the first user's, by the name of their parameter.
fn things(yard: &Yard, token: &str) -> BTreeMap<&'static str, String> {
    let run = yard.train("mine", "mkdir $RESULT_DIR/model; echo x > $RESULT_DIR/model/x");
    yard.wait_end(&run);
    let definition = yard.run(&run)["entity"]["model_definition"]["definition_href"].clone();
    let definition = definition.as_str().unwrap().rsplit('/').next().unwrap().to_owned();
    let path = format!("/v3/ml_assets/training_definitions/{definition}");
    let shown = yard.http("GET", &path, Some(token), None).1;
    let version = shown["entity"]["training_definition_version"]["guid"].as_str().unwrap().to_owned();
    let asset = yard.http("PUT", &format!("/v3/models/{run}/ml_asset"), Some(token), Some(b"{}".to_vec())).1;
    let model = asset["entity"]["ml_asset_guid"].as_str().unwrap().to_owned();
    let shown = yard.http("GET", &format!("/v3/ml_assets/models/{model}"), Some(token), None).1;
    let model_version = shown["entity"]["model_version"]["guid"].as_str().unwrap().to_owned();
    BTreeMap::from([
        ("run", run),
        ("definition", definition),
        ("definition version", version),
        ("model", model),
        ("model version", model_version),
    ])
}

/// The path with the things in it; `None`: nothing in it is anybody's.
fn of_somebody(path: &str, things: &BTreeMap<&str, String>) -> Option<String> {
    let (id, version) = if path.contains("/training_definitions/") {
        (&things["definition"], &things["definition version"])
    } else {
        (&things["model"], &things["model version"])
    };
    let owned =
        ["/training_definitions/", "/ml_assets/models/", "/published_models/{model}", "/v3/models/{run}"];
    let filled = path
        .replace("{run}", &things["run"])
        .replace("/wml_instances/{id}", "/wml_instances/any")
        .replace("{model}", &things["model"])
        .replace("{id}", id)
        .replace("{version}", version);
    // What is not here yet belongs to nobody.
    (owned.iter().any(|o| path.contains(o)) && !path.contains("deployment")).then_some(filled)
}

fn body_of(operation: &Value) -> Option<Vec<u8>> {
    operation["requestBody"].is_object().then(|| {
        let reference = json!({ "connection": {}, "source": { "bucket": "b" }, "target": { "bucket": "b" } });
        let all = json!({
            "name": "n", "framework": { "name": "custom", "version": "1" }, "model_definition": {},
            "training_data_reference": reference, "training_results_reference": reference,
        });
        if operation["requestBody"]["content"]["application/json"]["schema"]["type"] == "array" {
            return br#"[{"op":"replace","path":"/status/state","value":"canceled"}]"#.to_vec();
        }
        all.to_string().into_bytes()
    })
}

#[test]
fn every_route_wants_a_token_and_hides_what_belongs_to_others() {
    let yard = Yard::start();
    let mine = yard.admin_token();
    let stranger = yard.token_of("stranger");
    let things = things(&yard, &mine);
    let document = document(&yard);
    let mut hidden = 0;
    for (method, path, operation) in operations(&document) {
        let open = operation["security"] == json!([{}]) || path.ends_with("/identity/token");
        let filled = of_somebody(&path, &things);
        let asked = filled.clone().unwrap_or_else(|| path.replace(['{', '}'], ""));
        let body = body_of(&operation);
        let (status, answer) = yard.http(&method, &asked, None, body.clone());
        if open {
            assert!([200, 400, 401].contains(&status), "{method} {path} without a token: {status} {answer}");
        } else {
            assert_eq!(status, 401, "{method} {path} without a token: {answer}");
            assert_eq!(answer["errors"][0]["code"], "TY0201");
            for wrong in ["ty_wrong", "a.b.c", "eyJhbGciOiJub25lIn0.e30."] {
                let (status, answer) = yard.http(&method, &asked, Some(wrong), body.clone());
                assert_eq!(status, 401, "{method} {path} with the token {wrong}: {answer}");
            }
        }
        if filled.is_some() {
            hidden += 1;
            let (status, answer) = yard.http(&method, &asked, Some(&stranger), body);
            assert_eq!(status, 404, "{method} {path} as a stranger: {answer}");
            assert_eq!(answer["errors"][0]["code"], "TY0202", "{method} {path}");
        } else if method == "GET" && !open {
            let (_, answer) = yard.http(&method, &asked, Some(&stranger), None);
            for (what, id) in &things {
                assert!(!answer.to_string().contains(id.as_str()), "{path} shows a stranger the {what}");
            }
        }
    }
    // The protocol of runners is no part of the document; their tokens alone are good for it.
    for verb in ["claim", "events", "log?offset=0", "metrics?offset=0"] {
        let path = format!("/runner/v1/runs/{}/attempts/1/{verb}", things["run"]);
        for token in [None, Some(mine.as_str()), Some(stranger.as_str())] {
            assert_eq!(yard.http("POST", &path, token, Some(b"[]".to_vec())).0, 401, "{verb}");
        }
    }
    // Nor is what would make something that is not here yet.
    for path in ["/v3/experiments", "/v3/wml_instances/x/deployments", "/v3/experiments/x/runs"] {
        assert_eq!(yard.http("POST", path, None, None).0, 401, "{path}");
        let (status, answer) = yard.http("POST", path, Some(&mine), Some(b"{}".to_vec()));
        assert!(status == 404 && answer.to_string().contains("not there yet"), "{path}: {answer}");
    }
    assert!(hidden >= 20, "only {hidden} routes have something to hide");
    // Nothing was changed or removed.
    assert_eq!(yard.status(&things["run"])["state"], "completed");
    for path in [
        format!("/v3/ml_assets/training_definitions/{}", things["definition"]),
        format!("/v3/ml_assets/models/{}", things["model"]),
    ] {
        assert_eq!(yard.http("GET", &path, Some(&mine), None).0, 200, "{path}");
    }
}

#[test]
fn a_machine_that_reads_the_document_finds_nothing_off_it() {
    let Some(tools) = Tools::find() else { return };
    let yard = Yard::start();
    yard.set_password("admin", "a password of admin's");
    let token = yard.sign_in("admin", "a password of admin's");
    things(&yard, &token);
    let folder = yard.dir.path().join("schemathesis");
    fs::create_dir(&folder).unwrap();
    let output = Command::new(tools.path("schemathesis"))
        .args(["run", "--url", &yard.url, "--header", &format!("Authorization: Bearer {token}")])
        .args(["--checks", "not_a_server_error,status_code_conformance,response_schema_conformance"])
        .args(["--checks", "content_type_conformance", "--seed", "1", "--max-examples", "15"])
        // It would sign itself out.
        .args(["--exclude-operation-id", "sign_out", "--workers", "2", "--no-color", "--warnings", "off"])
        .args(["--phases", "examples,coverage,fuzzing", "--request-timeout", "30"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json"))
        .current_dir(&folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("passed") || said.contains("generated"), "{said}");
}
