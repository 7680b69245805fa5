//! What people type, and what they see.

use std::{fs, io::Read};

use crate::harness::{Yard, code_folder, compare_generated};

/// Output with what differs from run to run replaced.
fn redact(yard: &Yard, id: &str, text: &str) -> String {
    let mut out = text.replace(id, "training-XXXXXXXXX").replace(yard.dir.path().to_str().unwrap(), "DIR");
    out = out.replace(&yard.url, "URL").replace(&yard.store.endpoint_url, "S3");
    out = out.replace(&yard.data, "data").replace(&yard.results, "results");
    let words = out.split_inclusive(char::is_whitespace).map(|word| {
        let trimmed = word.trim_end();
        let tail = &word[trimmed.len()..];
        let is_time = trimmed.len() == 24 && trimmed.ends_with('Z') && trimmed.starts_with("20");
        let is_uuid = trimmed.len() == 36 && trimmed.matches('-').count() == 4;
        let is_span = trimmed.trim_end_matches(',').ends_with('s')
            && trimmed.starts_with(|c: char| c.is_ascii_digit())
            && trimmed.trim_end_matches(['s', 'm', ',']).chars().all(|c| c.is_ascii_digit() || c == '.');
        match trimmed {
            _ if is_time => format!("2026-01-01T00:00:00.000Z{tail}"),
            _ if is_uuid => format!("00000000-0000-0000-0000-000000000000{tail}"),
            _ if is_span => format!("TIME{tail}"),
            _ => word.to_owned(),
        }
    });
    let text: String = words.collect();
    // The machine's own python has some version.
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for line in &mut lines {
        if let Some(at) = line.find("custom, python ") {
            line.truncate(at);
            line.push_str("custom, python VERSION");
        }
    }
    lines.join("\n")
}

#[test]
fn the_verbs_read_as_the_original_did() {
    let yard = Yard::start();
    let code = code_folder(yard.dir.path(), &[("main.sh", "echo hello\n")]);
    let manifest = yard.manifest("look", "./main.sh; exit 3");
    let said = yard.cli(&["train", code.to_str().unwrap(), manifest.to_str().unwrap()]);
    let id = said.out.split('\'').nth(1).unwrap().to_owned();
    yard.wait_end(&id);
    let mut film = String::new();
    let mut frame = |title: &str, said: (String, String, i32)| {
        film.push_str(&format!(
            "$ {title}\n--- stdout\n{}\n--- stderr\n{}\n--- exit {}\n\n",
            said.0, said.1, said.2
        ));
    };
    let view = |said: crate::harness::Said| {
        (
            redact(&yard, &id, &said.out).replace(code.file_name().unwrap().to_str().unwrap(), "CODE"),
            redact(&yard, &id, &said.err).replace(code.file_name().unwrap().to_str().unwrap(), "CODE"),
            said.code,
        )
    };
    frame("train CODE look.yml", view(said));
    for words in [
        vec!["list", "training-runs"],
        vec!["list", "-q"],
        vec!["list", "-o", "wide"],
        vec!["show", "training-runs", &id],
        vec!["monitor", "training-runs", &id, "logs", "last", "3"],
        vec!["logs", &id, "--tail", "2"],
        vec!["logs", &id, "--grep", "^hel+o"],
        vec!["wait", &id],
        vec!["store", "training-runs", &id],
        vec!["cancel", "training-runs", &id],
        vec!["delete", "training-runs", &id],
        vec!["show", &id],
    ] {
        let title = words.join(" ").replace(&id, "ID");
        let mut said = yard.cli(&words);
        // How often it looks depends on the machine, and so does the width of the column of times.
        said.err = said.err.replace("Checking if content upload is complete ...\n", "");
        if words.contains(&"wide") {
            said.out =
                said.out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect();
        }
        frame(&title, view(said));
    }
    insta::assert_snapshot!(film);
}

#[test]
fn old_command_lines_work_unchanged_through_bx() {
    let yard = Yard::start();
    let bx = yard.dir.path().join("bx");
    std::os::unix::fs::symlink(Yard::program(), &bx).unwrap();
    let zip = yard.dir.path().join("code.zip");
    fs::write(&zip, crate::definitions::zip_of(&[("run.py", "print('hi from bx')\n")])).unwrap();
    let manifest = yard.manifest("bx", "python3 run.py");
    let old = |words: &[&str]| {
        let mut command = std::process::Command::new(&bx);
        command
            .arg("ml")
            .args(words)
            .env("ML_ENV", &yard.url)
            .env("ML_USERNAME", "someone")
            .env("ML_PASSWORD", yard.admin_token())
            .env("ML_INSTANCE", "an-instance")
            .env("HOME", yard.dir.path());
        let output = command.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.code())
    };
    let (out, code) = old(&["train", zip.to_str().unwrap(), manifest.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{out}");
    let id = out.split('\'').nth(1).unwrap().to_owned();
    assert_eq!(out, format!("Starting to train ...\nOK\nModel-ID is '{id}'\n"));
    yard.wait_end(&id);
    let (out, _) = old(&["list", "training-runs"]);
    assert!(out.starts_with("Fetching the list of training runs ...\nSI No   Name   guid"), "{out}");
    assert!(out.ends_with("\n\n1 records found.\nOK\nList all training-runs successful\n"), "{out}");
    let (out, _) = old(&["show", "training-runs", &id]);
    assert!(
        out.starts_with(&format!("Fetching the training runs details with MODEL-ID '{id}' ...\nModelId")),
        "{out}"
    );
    assert!(out.ends_with("OK\nShow training-runs details successful\n"), "{out}");
    let (out, _) = old(&["monitor", "training-runs", &id, "logs"]);
    assert!(out.contains("[--LOGS]      hi from bx\n"), "{out}");
    let (out, _) = old(&["cancel", "training-runs", &id]);
    assert_eq!(out, format!("Canceling training for MODEL-ID '{id}'...\nOK\nCancel training successful\n"));
    let (out, _) = old(&["delete", "training-runs", &id]);
    assert_eq!(out, format!("Deleting the training run '{id}' ...\nOK\nDelete training-runs successful\n"));
    // The long form does the same.
    let said = yard
        .command(&["bx", "ml", "list", "training-runs"])
        .env("ML_ENV", &yard.url)
        .env("ML_PASSWORD", &yard.admin_token())
        .run();
    assert!(said.ok().contains("0 records found."));
}

#[test]
fn old_command_lines_for_definitions_and_models_work_through_bx() {
    let yard = Yard::start();
    yard.add_user("someone", "a password");
    let old = |words: &[&str]| {
        let mut all = vec!["bx", "ml"];
        all.extend(words);
        let said = yard
            .command(&all)
            .env("ML_ENV", &yard.url)
            .env("ML_USERNAME", "someone")
            .env("ML_PASSWORD", "a password")
            .within(yard.dir.path())
            .run();
        (said.out.clone(), said)
    };
    let zip = yard.dir.path().join("code.zip");
    let code = "import os; os.makedirs(os.environ['RESULT_DIR'] + '/model'); open(os.environ['RESULT_DIR'] + '/model/w', 'w').write('w')\n";
    fs::write(&zip, crate::definitions::zip_of(&[("run.py", code)])).unwrap();
    let (out, said) = old(&["generate-manifest", "training-definitions"]);
    said.ok();
    assert_eq!(out, "OK\nA sample manifest file is generated under training-definitions.yml\n");
    let (_, said) = old(&["generate-manifest", "training-definitions"]);
    assert!(said.fails(1).contains("training-definitions.yml"), "a file that is there was written over");
    let (out, said) =
        old(&["store", "training-definitions", zip.to_str().unwrap(), "training-definitions.yml"]);
    said.ok();
    let words: Vec<&str> = out.split('\'').collect();
    let (id, version) = (words[1].to_owned(), words[3].to_owned());
    assert_eq!(
        out,
        format!(
            "Creating training-definition ...\nOK\ntraining-definition ID is '{id}' and version ID is '{version}'\n"
        )
    );
    let (out, said) = old(&["list", "training-definitions"]);
    said.ok();
    assert!(
        out.contains("\nName            guid                                   framework    created-at\n"),
        "{out}"
    );
    assert!(
        out.contains(&id)
            && out.ends_with("\n\n1 records found.\nOK\nList all training-definitions successful\n"),
        "{out}"
    );
    let (out, said) = old(&["show", "training-definitions", &id]);
    said.ok();
    assert!(out.contains(&format!("TrainingDefinitiontId   {id}\nname")), "{out}");
    let manifest = yard.manifest("stored", "python3 run.py");
    let (out, said) = old(&["train", "training-definitions", &id, &version, manifest.to_str().unwrap()]);
    said.ok();
    let run = out.split('\'').nth(1).unwrap().to_owned();
    let (_, said) = old(&["wait", &run]);
    said.ok();
    let (out, said) = old(&["store", "training-runs", &run]);
    said.ok();
    let model = out.rsplit('\'').nth(1).unwrap().to_owned();
    assert!(out.ends_with(&format!("OK\nModel store successful. Model-ID is '{model}'.\n")), "{out}");
    let (out, said) = old(&["list", "models"]);
    said.ok();
    assert!(out.contains("Model Id") && out.contains(&format!("{run} model saved from CLI")), "{out}");
    let (_, said) = old(&["models", "download", &model]);
    said.ok();
    assert!(yard.dir.path().join(format!("{model}.tar.gz")).exists());
    for (noun, id, closing) in [
        ("models", &model, "Delete model successful"),
        ("training-definitions", &id, "Delete training-definition successful"),
    ] {
        let (out, said) = old(&["delete", noun, id]);
        said.ok();
        assert!(out.ends_with(&format!("OK\n{closing}\n")), "{out}");
    }
    let (out, said) = old(&["version"]);
    said.ok();
    for part in ["Git Commit Hash:", "UTC Build Time :", "Plugin Version :"] {
        assert!(out.contains(part), "{out}");
    }
    for words in [
        ["list", "experiments"],
        ["list", "deployments"],
        ["show", "experiments"],
        ["generate-manifest", "batch"],
    ] {
        let words: Vec<&str> = words.iter().copied().chain((words[0] == "show").then_some("x")).collect();
        let (_, said) = old(&words);
        assert!(said.fails(1).contains("TY0508"), "{words:?}");
    }
}

#[test]
fn runs_are_found_by_beginning_by_name_and_by_last() {
    let yard = Yard::start();
    let first = yard.train("alpha", "true");
    let second = yard.train("beta", "true");
    let id = |text: &str| yard.cli(&["show", text, "-q"]);
    assert_eq!(id("last").ok().trim(), second);
    assert_eq!(id("alpha").ok().trim(), first);
    assert_eq!(id(&first[..15]).ok().trim(), first);
    assert_eq!(id(&first["training-".len().."training-".len() + 5]).ok().trim(), first);
    yard.train("alpha", "true");
    let ambiguous = id("alpha").fails(1);
    assert!(ambiguous.contains("TY0502") && ambiguous.contains(&first), "{ambiguous}");
    id("nothing-like-it").fails(102);
}

#[test]
fn ctrl_c_while_following_leaves_the_run_alone() {
    let yard = Yard::start();
    let id = yard.train("follow", "echo up; sleep 1000");
    yard.wait_log(&id, "up");
    let mut follower = yard.command(&["logs", "-f", &id]).start();
    let mut head = [0u8; 8];
    follower.stdout.as_mut().unwrap().read_exact(&mut head).unwrap();
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(follower.id().cast_signed()),
        nix::sys::signal::Signal::SIGINT,
    )
    .unwrap();
    assert_eq!(follower.wait().unwrap().code(), Some(130));
    assert_eq!(yard.status(&id)["phase"], "PROCESSING");
    let waited = yard.cli(&["wait", &id, "--timeout", "1"]);
    assert_eq!(waited.code, 124, "{waited:?}");
    yard.cli(&["cancel", &id]).ok();
}

#[test]
fn a_follower_survives_a_restart_of_the_server() {
    let mut yard = Yard::start();
    let id = yard.train("restart", "for i in $(seq 1 100); do echo line $i; sleep 0.02; done");
    yard.wait_log(&id, "line 5\n");
    let mut follower = yard.command(&["logs", "-f", &id]).start();
    let mut head = vec![0u8; 8];
    follower.stdout.as_mut().unwrap().read_exact(&mut head).unwrap();
    yard.kill_server();
    yard.restart();
    let output = follower.wait_with_output().unwrap();
    let text = String::from_utf8([head, output.stdout].concat()).unwrap();
    let lines: Vec<&str> = text.lines().filter(|l| l.starts_with("line ")).collect();
    let expected: Vec<String> = (1..=100).map(|i| format!("line {i}")).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let yard = Yard::start();
    let id = yard.train("pipe", "seq 1 100000");
    yard.wait_end(&id);
    let mut child = yard.command(&["logs", &id]).start();
    let mut head = [0u8; 10];
    child.stdout.take().unwrap().read_exact(&mut head).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn every_problem_of_a_manifest_is_drawn_in_one_report() {
    let yard = Yard::start();
    let text = "model_definition:\n  name: x\n  framwork:\n    name: numpy\n    version: \"2\"\n  execution:\n    command: [a, b]\n    \
                compute_configuration:\n      name: cpu\n      nodes: many\ntraining_data:\n  source: {container: c}\n\
                training_data_reference:\n  connection: {name: nowhere}\n  source: {bucket: d}\n  type: bluemix_objectstore\n\
                training_results_reference:\n  connection: {endpoint_url: h, acess_key_id: k, secret_access_key: s}\n  target: {bucket: r}\n  type: s3\n  type: s3\n";
    fs::write(yard.dir.path().join("m.yml"), text).unwrap();
    let said = yard.command(&["validate", "m.yml"]).within(yard.dir.path()).env("NO_COLOR", "1").run();
    assert_eq!(said.code, 1);
    insta::assert_snapshot!(said.err);
}

#[test]
fn generated_files_are_up_to_date() {
    let yard = Yard::start();
    let schema = yard.cli(&["schema"]).ok();
    compare_generated("docs/schema/training-run.json", &schema);
    let mut help =
        String::from("# The command line\n\nGenerated from `trainyard --help`; a test compares.\n");
    let verbs = [
        "",
        "train",
        "list",
        "show",
        "monitor",
        "cancel",
        "store",
        "delete",
        "logs",
        "wait",
        "download",
        "rerun",
        "frameworks",
        "validate",
        "schema",
        "login",
        "whoami",
        "completion",
        "doctor",
        "models download",
        "generate-manifest",
        "version",
        "quickstart",
        "server",
        "users",
        "users add",
    ];
    for verb in verbs {
        let mut words: Vec<&str> = verb.split_whitespace().collect();
        words.push("--help");
        let text = yard
            .command(&words)
            .without("TRAINYARD_SERVER")
            .without("TRAINYARD_DATA")
            .env("COLUMNS", "100")
            .run()
            .ok();
        help.push_str(&format!(
            "\n## trainyard {verb}\n\n```\n{}```\n",
            text.lines().map(|l| format!("{}\n", l.trim_end())).collect::<String>()
        ));
    }
    compare_generated("docs/command-line.md", &help);
}

#[test]
fn login_is_remembered_privately_and_whoami_says_who() {
    let yard = Yard::start();
    let token = yard.dir.path().join("token");
    fs::write(&token, yard.admin_token()).unwrap();
    let config = yard.dir.path().join("config");
    let typed = |words: &[&str]| {
        yard.command(words)
            .without("TRAINYARD_SERVER")
            .without("TRAINYARD_DATA")
            .env("XDG_CONFIG_HOME", config.to_str().unwrap())
    };
    typed(&["login", &yard.url]).input(&token).run().ok();
    let file = config.join("trainyard/login.json");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let who = typed(&["whoami"]).run().ok();
    assert!(who.contains("admin") && who.contains(&yard.url), "{who}");
    fs::write(&token, "ty_wrong").unwrap();
    assert!(typed(&["login", &yard.url]).input(&token).run().fails(1).contains("TY0201"));
}

#[test]
fn named_credentials_and_the_environment_keep_secrets_out_of_the_manifest() {
    let yard = Yard::start();
    let config = yard.dir.path().join("config/trainyard");
    fs::create_dir_all(&config).unwrap();
    let path = config.join("credentials.toml");
    let s = &yard.store;
    fs::write(
        &path,
        format!(
            "[mine]\nendpoint_url = '{}'\naccess_key_id = '{}'\nsecret_access_key = '{}'\n",
            s.endpoint_url,
            s.access_key_id,
            s.secret_access_key.expose()
        ),
    )
    .unwrap();
    let manifest = yard.manifest("named", "true");
    let text = fs::read_to_string(&manifest).unwrap();
    let start = text.find("connection: {").unwrap();
    let end = text[start..].find('}').unwrap() + start;
    let connection = &text[start..=end];
    let by_env = format!(
        "connection: {{endpoint_url: '{}', access_key_id: '{}', secret_access_key: '${{env:MY_SECRET}}'}}",
        s.endpoint_url, s.access_key_id
    );
    fs::write(
        &manifest,
        text.replacen(connection, "connection: {name: mine}", 1).replacen(connection, &by_env, 1),
    )
    .unwrap();
    let code = code_folder(yard.dir.path(), &[("x", "")]);
    let typed = || {
        yard.command(&["train", code.to_str().unwrap(), manifest.to_str().unwrap(), "-q"])
            .env("XDG_CONFIG_HOME", yard.dir.path().join("config").to_str().unwrap())
    };
    let open = typed().env("MY_SECRET", s.secret_access_key.expose()).run().fails(1);
    assert!(
        open.contains("can be read by other users") && !open.contains(s.secret_access_key.expose()),
        "{open}"
    );
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(typed().run().fails(1).contains("MY_SECRET is not set"));
    let id = typed().env("MY_SECRET", s.secret_access_key.expose()).run().ok();
    assert_eq!(yard.wait_end(id.trim())["state"], "completed");
}

#[test]
fn doctor_and_completion_and_rerun_work() {
    let yard = Yard::start();
    let said = yard.cli(&["doctor"]);
    assert!(said.out.contains("python 3.") && said.out.contains("knows you as admin"), "{said:?}");
    assert!(yard.cli(&["completion", "bash"]).ok().contains("_trainyard"));
    let id = yard.train("again", "echo once more");
    yard.wait_end(&id);
    let out = yard.cli(&["rerun", &id, "-q"]).ok();
    assert_ne!(out.trim(), id);
    assert_eq!(yard.wait_end(out.trim())["state"], "completed");
}
