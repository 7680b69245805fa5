//! A Slurm whose nodes share no folder with the server: the program comes with the job, runners prove with munge whose
//! they are, and what a run leaves on a node only that node has.

use std::{fs, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::harness::{Cluster, PATIENCE, Shape, Yard, code_folder, programs, wait_for};

fn yard() -> Option<Yard> {
    yard_with("")
}

fn yard_with(more: &str) -> Option<Yard> {
    let shape = Shape { scratch: true, ..Shape::default() };
    Some(Yard::on_far_cluster(Cluster::start(shape)?, more))
}

fn cluster(yard: &Yard) -> &Cluster {
    yard.cluster.as_ref().unwrap()
}

fn train(yard: &Yard, script: &str, set: &[&str]) -> String {
    let code = code_folder(yard.dir.path(), &[("main.sh", script)]);
    let set: Vec<String> = set.iter().map(|s| format!("model_definition.{s}")).collect();
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    yard.train_set(&code, &yard.manifest("far", "sh main.sh"), &set)
}

#[track_caller]
fn ended(yard: &Yard, id: &str, state: &str) -> Value {
    let status = yard.wait_end(id);
    assert_eq!(status["state"].as_str(), Some(state), "{status:#}");
    status
}

const PATIENT: &str = "trap 'echo told > $RESULT_DIR/told; exit 0' TERM; echo kept > $RESULT_DIR/kept; echo here; \
                       while :; do sleep 0.05; done";

#[test]
fn a_run_goes_its_whole_way_where_nothing_is_shared() {
    let Some(yard) = yard() else { return };
    yard.put("d.txt", b"payload");
    let socket = cluster(&yard).munge_socket();
    let script = format!(
        "cat $DATA_DIR/d.txt; munge -n -S {} || echo no munge; mkdir $RESULT_DIR/model; echo w > $RESULT_DIR/model/w",
        socket.display()
    );
    let id = train(&yard, &script, &[]);
    ended(&yard, &id, "completed");
    let log = yard.cli(&["logs", &id]).ok();
    assert!(log.contains("payload") && log.contains("no munge\n"), "{log}");
    assert_eq!(yard.result(&id, "model/w"), "w\n");
    let job = cluster(&yard).job_of(&id).unwrap().to_string();
    let script = cluster(&yard).say("scontrol", &["write", "batch_script", &job, "-"]);
    assert!(script.contains("runner --job") && script.contains("/runner/v1/programs/trainyard-"), "{script}");
    for secret in ["typ_", "tya_", "MUNGE:", yard.store.secret_access_key.expose()] {
        assert!(!script.contains(secret), "{secret}: {script}");
    }
    assert_eq!(
        fs::read_dir(cluster(&yard).scratch()).unwrap().count(),
        0,
        "nodes write to the server's disk"
    );
    // The second finds the program there: the server hands out no more.
    fs::rename(yard.data_folder().join("programs"), yard.data_folder().join("elsewhere")).unwrap();
    let again = [0, 1].map(|_| train(&yard, "true", &["execution.compute_configuration.nodes=1"]));
    for id in &again {
        ended(&yard, id, "completed");
    }
}

#[test]
fn a_runner_waits_for_a_server_that_cannot_ask_munge() {
    let Some(yard) = yard() else { return };
    let away = cluster(&yard).scratch().with_extension("away");
    // What `unmunge` says where it finds no socket.
    cluster(&yard).disguise("unmunge", &format!("[ -e {} ] && exit 6; exec $REAL \"$@\"", away.display()));
    fs::write(&away, "").unwrap();
    let id = train(&yard, "echo here", &[]);
    wait_for("it has begun, and waits", PATIENCE, || {
        yard.status(&id)["waits_for"].as_str()?.contains("has not spoken yet").then_some(())
    });
    wait_for("the server could not tell", PATIENCE, || {
        yard.server_log().contains("cannot be told now").then_some(())
    });
    fs::remove_file(&away).unwrap();
    let status = ended(&yard, &id, "completed");
    assert_eq!(status["attempt"].as_u64(), Some(1), "{status:#}");
}

#[test]
fn programs_of_the_servers_own_machine_do_not_reach_munge_either() {
    let Some(yard) = yard() else { return };
    let script = format!("munge -n -S {} || echo no munge", cluster(&yard).munge_socket().display());
    let id = train(&yard, &script, &["execution.compute_configuration.engine=local"]);
    ended(&yard, &id, "completed");
    assert!(yard.cli(&["logs", &id]).ok().lines().any(|l| l == "no munge"));
}

#[test]
fn learners_come_each_to_its_node() {
    let Some(yard) = yard() else { return };
    let id = train(&yard, PATIENT, &["execution.compute_configuration.nodes=2"]);
    for learner in ["1", "2"] {
        wait_for("all are there", PATIENCE, || {
            yard.cli(&["logs", &id, "--learner", learner]).ok().contains("here").then_some(())
        });
    }
    yard.cli(&["cancel", &id]).ok();
    ended(&yard, &id, "canceled");
    assert_eq!(yard.result(&id, "told"), "told\n");
    assert_eq!(yard.result(&id, "learner-2/results/told"), "told\n");
}

#[test]
fn what_a_killed_runner_left_is_stored_on_its_node() {
    let Some(yard) = yard() else { return };
    let id = train(&yard, PATIENT, &[]);
    yard.wait_log(&id, "here");
    // The program's first process is a child of the runner.
    let runner = programs(&id).into_iter().find_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let parent: i32 = stat.rsplit(") ").next()?.split(' ').nth(1)?.parse().ok()?;
        let command = fs::read(format!("/proc/{parent}/cmdline")).ok()?;
        String::from_utf8_lossy(&command).contains("runner\0--job").then_some(parent)
    });
    kill(Pid::from_raw(runner.unwrap()), Signal::SIGKILL).unwrap();
    let status = ended(&yard, &id, "error");
    let code = status["error"]["errors"][0]["code"].as_str();
    assert_eq!(code, Some(trainyard_api::Code::RunnerLost.as_str()), "{status:#}");
    assert_eq!(yard.result(&id, "kept"), "kept\n");
}

#[test]
fn a_requeue_is_a_new_attempt_there_as_well() {
    let Some(yard) = yard() else { return };
    let id = train(&yard, "echo attempt; while [ ! -e $JOB_STATE_DIR/../../go ]; do sleep 0.05; done", &[]);
    yard.wait_log(&id, "attempt");
    let job = cluster(&yard).job_of(&id).unwrap().to_string();
    cluster(&yard).say("scontrol", &["requeue", &job]);
    wait_for("it is a second attempt", 2 * PATIENCE, || {
        (yard.status(&id)["attempt"].as_u64() == Some(2)).then_some(())
    });
    wait_for("both are in the log", PATIENCE, || {
        let log = yard.cli(&["logs", &id]).ok();
        (log.lines().filter(|l| *l == "attempt").count() == 2 && log.contains("--- attempt 2: "))
            .then_some(())
    });
    yard.cli(&["cancel", &id]).ok();
    ended(&yard, &id, "canceled");
}

#[test]
fn jobs_are_their_owners_where_the_operator_wants_it() {
    let Some(yard) = yard_with("as_owners = true") else { return };
    let token = yard.token_of("nobody");
    let code = code_folder(yard.dir.path(), &[("main.sh", "true\n")]);
    // The command line as this user, or as the administrator.
    let cli = |user: Option<&str>, words: &[&str]| {
        let typed = yard.command(words);
        user.into_iter().fold(typed, |typed, token| typed.env("TRAINYARD_TOKEN", token)).run()
    };
    let nobody = Some(token.as_str());
    let submit = |user: Option<&str>, command: &str, nodes: u32| {
        let manifest = yard.manifest("owned", command);
        let nodes = format!("model_definition.execution.compute_configuration.nodes={nodes}");
        let (code, manifest) = (code.to_str().unwrap(), manifest.to_str().unwrap());
        cli(user, &["train", code, manifest, "-q", "--set", &nodes]).ok().trim().to_owned()
    };
    let own = "echo \"I am $(id -un), at home in $HOME\"; id -Gn; touch $RESULT_DIR/mine; \
               [ $LEARNER_ID = 1 ] || echo second";
    let id = submit(nobody, own, 2);
    let ended = cli(nobody, &["wait", &id, "--timeout", "120"]);
    let log = cli(nobody, &["logs", &id]).ok();
    assert_eq!(ended.code, 0, "{ended:?}\n{log}");
    assert!(log.lines().any(|l| l.starts_with("I am nobody, at home in /")), "{log}");
    assert!(!log.lines().any(|l| l.contains("root")), "{log}");
    assert!(cli(nobody, &["logs", &id, "--learner", "2"]).ok().contains("second"));
    assert!(yard.results(&id).contains_key("learner-2/results/mine"));
    let users = cluster(&yard).say("squeue", &["-h", "-t", "all", "-o", "%u"]);
    assert!(users.lines().all(|l| l == "nobody") && !users.is_empty(), "{users}");
    // One that runs is told.
    let patient = submit(nobody, PATIENT, 1);
    wait_for("it is there", PATIENCE, || cli(nobody, &["logs", &patient]).out.contains("here").then_some(()));
    cli(nobody, &["cancel", &patient]).ok();
    assert_eq!(cli(nobody, &["wait", &patient, "--timeout", "120"]).code, 103);
    assert_eq!(yard.result(&patient, "told"), "told\n");
    // Who is no user of the machine has no jobs.
    let stranger = submit(None, "true", 1);
    let status = yard.wait_end(&stranger);
    let failure = &status["error"]["errors"][0];
    assert!(failure["message"].as_str().unwrap().contains("no user `admin`"), "{status:#}");
    // Nor is anybody given another's.
    cluster(&yard).say("scontrol", &["update", "PartitionName=main", "State=DOWN"]);
    let waiting = submit(nobody, "true", 1);
    let job = wait_for("its job waits", PATIENCE, || cluster(&yard).job_of(&waiting)).to_string();
    let script = cluster(&yard).say("scontrol", &["write", "batch_script", &job, "-"]);
    let server = script.split("\"server_id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let text = format!("trainyard board {server} {waiting} 1");
    assert_eq!(board(&yard, &waiting, &credential(&yard, "daemon", &text)), "401");
    assert_eq!(board(&yard, &waiting, &credential(&yard, "nobody", &text)), "200");
}

#[test]
fn doctor_looks_around_where_nothing_is_shared() {
    let Some(mut yard) = yard() else { return };
    let doctor = |yard: &Yard| {
        let (config, data) = (yard.dir.path().join("server.toml"), yard.data_folder());
        let words = ["doctor", "--config", config.to_str().unwrap(), "--data", data.to_str().unwrap()];
        let conf = cluster(yard).conf();
        let doctor = yard.command(&words).env("SLURM_CONF", conf.to_str().unwrap());
        doctor.env("PATH", &cluster(yard).search_path()).run()
    };
    let said = doctor(&yard);
    assert_eq!(said.code, 0, "{said:?}");
    for good in ["fetched it from the server", "n1 can work in", "n1 reaches the server"] {
        assert!(said.out.lines().any(|l| l.starts_with("ok") && l.contains(good)), "{good}: {}", said.out);
    }
    yard.stop_server();
    let said = doctor(&yard);
    assert!(said.out.contains("no job was tried"), "{said:?}");
}

/// A credential with this text, made by this user.
fn credential(yard: &Yard, user: &str, text: &str) -> String {
    let socket = cluster(yard).munge_socket();
    let mut command = Command::new("setpriv");
    command.args(["--clear-groups", &format!("--reuid={user}"), "--regid=0", "munge", "-s", text, "-S"]);
    let output = command.arg(socket).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The status of what a runner of this run's first job is answered that shows this credential.
fn board(yard: &Yard, run: &str, credential: &str) -> String {
    let body = r#"{"restarts": 0, "id": "1", "node": "n1", "gpus": []}"#;
    let url = format!("{}/runner/v1/runs/{run}/jobs/1/board", yard.url);
    let script = "import sys, urllib.request as r, urllib.error as e\n\
                  h = {'Authorization': 'Bearer ' + sys.argv[2], 'Content-Type': 'application/json'}\n\
                  q = r.Request(sys.argv[1], sys.argv[3].encode(), h)\n\
                  try: print(r.urlopen(q).status)\n\
                  except e.HTTPError as error: print(error.code)";
    let output = Command::new("python3").args(["-c", script, &url, credential, body]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn nobody_boards_but_the_servers_user_and_once() {
    let Some(yard) = yard() else { return };
    cluster(&yard).say("scontrol", &["update", "PartitionName=main", "State=DOWN"]);
    let id = train(&yard, "true", &[]);
    let job = wait_for("its job waits", PATIENCE, || cluster(&yard).job_of(&id)).to_string();
    let script = cluster(&yard).say("scontrol", &["write", "batch_script", &job, "-"]);
    let server = script.split("\"server_id\":\"").nth(1).unwrap().split('"').next().unwrap();
    let text = format!("trainyard board {server} {id} 1");
    let board = |credential: &str| board(&yard, &id, credential);
    assert_eq!(board("typ_x"), "401");
    assert_eq!(board("MUNGE:x"), "401");
    assert_eq!(board(&credential(&yard, "nobody", &text)), "401");
    assert_eq!(board(&credential(&yard, "root", &format!("{text}1"))), "401");
    let good = credential(&yard, "root", &text);
    assert_eq!(board(&good), "200");
    assert_eq!(board(&good), "401", "a credential was taken twice");
}
