//! Stored models and versions, of models and of definitions; and the keys that answers do not hold.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{PATIENCE, Yard, code_folder, wait_for};

fn post(yard: &Yard, path: &str, body: &Value) -> (u16, Value) {
    yard.http("POST", path, Some(&yard.admin_token()), Some(body.to_string().into_bytes()))
}

fn get(yard: &Yard, path: &str) -> Value {
    yard.http("GET", path, Some(&yard.admin_token()), None).1
}

fn path_of<'a>(yard: &Yard, url: &'a Value) -> &'a str {
    url.as_str().unwrap().strip_prefix(&yard.url).unwrap()
}

#[test]
fn a_run_of_an_older_version_runs_its_code() {
    let yard = Yard::start();
    let manifest = yard.manifest("versions", "cat which");
    let store = |text: &str| {
        let code = code_folder(yard.dir.path(), &[("which", text)]);
        let definition = yard.dir.path().join("definition.yml");
        fs::write(&definition, "name: v\nframework: {name: custom, version: '1'}\n").unwrap();
        (code, definition)
    };
    let (code, definition) = store("first\n");
    let said = yard
        .cli(&["store", "training-definitions", code.to_str().unwrap(), definition.to_str().unwrap()])
        .ok();
    let ids: Vec<&str> = said.split('\'').collect();
    let (id, first) = (ids[1].to_owned(), ids[3].to_owned());
    // A second version, by the API.
    let path = format!("/v3/ml_assets/training_definitions/{id}");
    let (status, made) =
        post(&yard, &path, &json!({"name": "v2", "framework": {"name": "custom", "version": "1"}}));
    assert_eq!(status, 201, "{made}");
    let version = &made["entity"]["training_definition_version"];
    let second = version["guid"].as_str().unwrap();
    assert_ne!(second, first);
    // Until it has its zip, the definition is what it was.
    assert_eq!(get(&yard, &path)["entity"]["training_definition_version"]["guid"], first.as_str());
    let zip = yard.dir.path().join("second.zip");
    let mut writer = zip::ZipWriter::new(fs::File::create(&zip).unwrap());
    writer.start_file("which", zip::write::SimpleFileOptions::default()).unwrap();
    std::io::Write::write_all(&mut writer, b"second\n").unwrap();
    writer.finish().unwrap();
    let (status, answer) = yard.http(
        "PUT",
        path_of(&yard, &version["content_url"]),
        Some(&yard.admin_token()),
        Some(fs::read(&zip).unwrap()),
    );
    assert_eq!((status, answer["content_status"]["state"].as_str()), (200, Some("persisted")), "{answer}");
    let listed = get(&yard, &format!("{path}/versions"));
    let listed: Vec<&str> =
        listed["resources"].as_array().unwrap().iter().map(|v| v["guid"].as_str().unwrap()).collect();
    assert_eq!(listed, [second, &first]);
    assert_eq!(get(&yard, &path)["entity"]["name"], "v2");
    for (version, expected) in [(first.as_str(), "first"), (second, "second")] {
        let words = ["train", "training-definitions", &id, version, manifest.to_str().unwrap(), "-q"];
        let run = yard.cli(&words).ok().trim().to_owned();
        yard.wait_end(&run);
        assert!(yard.cli(&["logs", &run]).ok().contains(expected), "{version}");
        let shown = yard.cli(&["show", &run]).ok();
        assert!(shown.contains(&format!("Training definition ID   {id}\n")), "{shown}");
        let of_version = get(&yard, &format!("{path}/versions/{version}"));
        assert_eq!(of_version["entity"]["name"], if version == second { "v2" } else { "v" });
    }
    let words = ["train", "training-definitions", &id, "no-such-version", manifest.to_str().unwrap()];
    yard.cli(&words).fails(102);
    let zips = || fs::read_dir(yard.data_folder().join("definitions")).unwrap().count();
    assert_eq!(zips(), 2);
    yard.cli(&["delete", "training-definitions", &id]).ok();
    assert_eq!(zips(), 0, "zips of a removed definition stay");
}

#[test]
fn a_model_is_uploaded_given_a_version_and_removed() {
    let yard = Yard::start();
    let (archive, manifest) = (yard.dir.path().join("m.tar.gz"), yard.dir.path().join("m.yml"));
    fs::write(&archive, "not looked into").unwrap();
    fs::write(&manifest, "name: uploaded\nframework: {name: tensorflow, version: '2'}\n").unwrap();
    let words = ["store", archive.to_str().unwrap(), manifest.to_str().unwrap(), "-q"];
    let id = yard.cli(&words).ok().trim().to_owned();
    let list = yard.cli(&["list", "models"]).ok();
    assert!(list.contains(&id) && list.contains("tensorflow-2") && list.contains("uploaded"), "{list}");
    let path = format!("/v3/ml_assets/models/{id}");
    let (status, made) = post(&yard, &path, &json!({}));
    assert_eq!(status, 201, "{made}");
    let content = path_of(&yard, &made["entity"]["model_version"]["content_url"]).to_owned();
    let token = yard.admin_token();
    assert_eq!(yard.http("GET", &content, Some(&token), None).0, 409, "it has no content yet");
    assert_eq!(yard.http("GET", &format!("{path}/content"), Some(&token), None).0, 200, "the first has");
    assert_eq!(yard.http("PUT", &content, Some(&token), Some(b"second".to_vec())).0, 200);
    assert_eq!(yard.http("PUT", &content, Some(&token), Some(b"third".to_vec())).0, 409);
    let to = yard.dir.path().join("got");
    yard.cli(&["models", "download", "uploaded", to.to_str().unwrap()]).ok();
    assert_eq!(fs::read(&to).unwrap(), b"second");
    yard.cli(&["models", "download", "uploaded", to.to_str().unwrap()]).fails(1);
    let versions = get(&yard, &format!("{path}/versions"));
    assert_eq!(versions["resources"].as_array().unwrap().len(), 2);
    let files = || fs::read_dir(yard.data_folder().join("models")).unwrap().count();
    assert_eq!(files(), 2);
    yard.cli(&["delete", "models", &id]).ok();
    assert_eq!(files(), 0, "archives of a removed model stay");
    yard.cli(&["show", "models", &id]).fails(102);
}

#[test]
fn keys_come_back_as_stand_ins_that_only_their_owner_can_use() {
    let yard = Yard::start();
    let id = yard.train("stand-ins", "mkdir $RESULT_DIR/model; echo x > $RESULT_DIR/model/x");
    yard.wait_end(&id);
    let token = yard.admin_token();
    let (_, run) = yard.http("GET", &format!("/v3/models/{id}"), Some(&token), None);
    let secret = yard.store.secret_access_key.expose();
    assert!(!run.to_string().contains(secret), "the key itself comes back");
    let entity = &run["entity"];
    // Posted again, they are turned back: for their owner.
    let again = json!({
        "model_definition": entity["model_definition"],
        "training_data_reference": entity["training_data_reference"],
        "training_results_reference": entity["training_results_reference"],
    });
    let (status, answer) = post(&yard, "/v3/models", &again);
    assert_eq!(status, 202, "{answer}");
    assert_eq!(yard.wait_end(answer["metadata"]["guid"].as_str().unwrap())["state"], "completed");
    let location = json!({
        "connection": entity["training_results_reference"]["connection"],
        "source": { "bucket": yard.results, "path": id },
        "type": "s3",
    });
    let model = json!({ "name": "m", "framework": { "name": "custom", "version": "1" }, "content_location": location });
    let (status, answer) = post(&yard, "/v3/ml_assets/models", &model);
    assert_eq!(status, 202, "{answer}");
    let path = format!("/v3/ml_assets/models/{}", answer["metadata"]["guid"].as_str().unwrap());
    wait_for("the copy of the model", PATIENCE, || {
        let state = get(&yard, &path)["entity"]["model_version"]["content_status"]["state"].clone();
        assert_ne!(state, "persisting_failed");
        (state == "persisted").then_some(())
    });
    // A stranger's are refused, also where the run is not named.
    let stranger = yard.token_of("stranger");
    let mut stolen = model;
    stolen["content_location"]["source"]["path"] = json!("somewhere");
    let body = stolen.to_string().into_bytes();
    let (status, answer) = yard.http("POST", "/v3/ml_assets/models", Some(&stranger), Some(body));
    assert_eq!((status, answer["errors"][0]["code"].as_str()), (400, Some("TY0110")), "{answer}");
    // At another endpoint it would show the secret to whoever is there.
    let mut elsewhere = again;
    elsewhere["training_data_reference"]["connection"]["endpoint_url"] = json!("http://127.0.0.1:9");
    let (status, answer) = post(&yard, "/v3/models", &elsewhere);
    let codes: Vec<&str> =
        answer["errors"].as_array().unwrap().iter().map(|e| e["code"].as_str().unwrap()).collect();
    assert!(status == 400 && (codes.contains(&"TY0110") || codes.contains(&"TY0112")), "{answer}");
    // Results are downloaded without keys.
    let to = yard.dir.path().join("results");
    yard.cli(&["download", &id, "--to", to.to_str().unwrap()]).ok();
    assert_eq!(fs::read_to_string(to.join("model/x")).unwrap(), "x\n");
    assert!(to.join("learner-1/training-log.txt").exists());
}

#[test]
fn the_pair_for_the_embedded_store_reads_and_changes_nothing() {
    let yard = Yard::start();
    if !yard.is_at_home() {
        return;
    }
    let id = yard.train("reader", "echo hello");
    yard.wait_end(&id);
    let run = get(&yard, &format!("/v3/models/{id}"));
    let http = trainyard_transfer::Http::default();
    let connection =
        serde_json::from_value(run["entity"]["training_results_reference"]["connection"].clone()).unwrap();
    let bucket = trainyard_transfer::Bucket::new(&http, &connection, &yard.results).unwrap();
    let run_of_another = yard.bucket("others");
    crate::harness::block_on(async {
        run_of_another.create().await.unwrap();
        run_of_another.put("x", bytes::Bytes::from_static(b"x")).await.unwrap();
        let key = format!("{id}/learner-1/training-log.txt");
        let log = bucket.get_bytes(&key).await.unwrap();
        assert!(log.ends_with(b"Exit code: 0\n"), "{}", String::from_utf8_lossy(&log));
        for error in [
            bucket.put("stranger", bytes::Bytes::from_static(b"x")).await.unwrap_err(),
            bucket.delete(&key).await.unwrap_err(),
        ] {
            assert!(
                error.to_string().contains("AccessDenied")
                    || error.problem().code == trainyard_api::Code::StoreCredentials,
                "{error}"
            );
        }
        let others = trainyard_transfer::Bucket::new(&http, &connection, "others").unwrap();
        assert!(others.get_bytes("x").await.is_err(), "it reads a bucket of no run of its owner");
    });
    // It is void with the sign-ins of its owner.
    yard.users(&["revoke", "admin"]).run().ok();
    let key = format!("{id}/learner-1/training-log.txt");
    assert!(crate::harness::block_on(bucket.get_bytes(&key)).is_err(), "it outlives its owner's tokens");
}
