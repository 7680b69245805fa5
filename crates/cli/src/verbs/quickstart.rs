//! `quickstart`: from nothing to a trained model, with the verbs that a user would type.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use bytesize::ByteSize;
use serde::Deserialize;
use trainyard_api::{Code, Connection as StoreConnection, Problem, Secret};
use trainyard_client::{Auth, Client};
use trainyard_manifest::Credential;
use trainyard_transfer::{Bucket, Http, is_same};

use crate::{Error, Output, config, credentials, output::spinner};

/// Longest wait for the server to take requests.
const START_UP: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);
const DATA_BUCKET: &str = "digits-data";
const RESULTS_BUCKET: &str = "digits-results";
/// The credential that the example's manifests name.
const CREDENTIAL: &str = "quickstart";
/// Ports that the server has unless they are taken.
const PORTS: [u16; 2] = [8470, 8471];

macro_rules! example {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!("../../../../examples/digits/", $path)).as_slice())),*]
    };
}

/// The example, carried along so that it is there wherever the binary is.
const EXAMPLE: [(&str, &[u8]); 6] = example![
    "manifest.yml",
    "code/convolutional_network.py",
    "data/train-images-idx3-ubyte.gz",
    "data/train-labels-idx1-ubyte.gz",
    "data/t10k-images-idx3-ubyte.gz",
    "data/t10k-labels-idx1-ubyte.gz",
];

#[derive(Deserialize)]
struct Address {
    url: String,
    s3_url: Option<String>,
}

#[derive(Deserialize)]
struct Keys {
    access_key_id: String,
    secret_access_key: Secret,
}

/// `quickstart`.
pub(crate) async fn quickstart(data: Option<PathBuf>, output: &Output) -> Result<(), Error> {
    let data = std::path::absolute(data.unwrap_or_else(config::quickstart_folder))
        .map_err(|e| Error::new(Code::LocalFile, e.to_string()))?;
    let address = server(&data, output).await?;
    let store = store_of(&data, &address)?;
    let example = example(&data)?;
    prepare_buckets(&store, &example, output).await?;

    let setting = Setting { url: address.url.clone(), data: data.clone() };
    let code = shown(&example.join("code"));
    let manifest = shown(&example.join("manifest.yml"));
    let trained = setting.run(&["train", &code, &manifest], true, output)?;
    let id = trained.split('\'').nth(1).unwrap_or("last").to_owned();
    setting.run(&["monitor", "training-runs", &id], false, output)?;
    setting.run(&["wait", &id], false, output)?;

    list_results(&store, &id, output).await?;
    let me = setting.program();
    output.talk(&format!(
        "\nThe server goes on at {}; its object store at {}. Everything lies in {}.",
        address.url,
        address.s3_url.as_deref().unwrap_or("-"),
        data.display()
    ));
    output.talk("Three things to try next:");
    output.talk(&format!("  {me} show training-runs {id}"));
    output.talk(&format!("  {me} download {id} --only model/"));
    output.talk(&format!("  {me} train {code} {manifest} --set model_definition.execution.command='./convolutional_network.py --trainingIters 5000' --follow"));
    Ok(())
}

/// Starts the server of `data`, unless it runs.
async fn server(data: &Path, output: &Output) -> Result<Address, Error> {
    if let Some(address) = answering(data).await {
        output.talk(&format!("The server at {} is running already.", address.url));
        return Ok(address);
    }
    let private = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    private.map_err(|e| Error::file(data, &e))?;
    let log = data.join("server.log");
    let file = File::options().create(true).append(true).open(&log).map_err(|e| Error::file(&log, &e))?;
    let errors = file.try_clone().map_err(|e| Error::file(&log, &e))?;
    let [api, s3] = PORTS.map(free);
    let program =
        std::env::current_exe().map_err(|e| Error::internal(format!("the path of this program: {e}")))?;
    let mut child = Command::new(program)
        .args(["server", "--data"])
        .arg(data)
        .args(["--listen", &format!("127.0.0.1:{api}"), "--s3-listen", &format!("127.0.0.1:{s3}")])
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        // Ctrl-C here is not meant for the server.
        .process_group(0)
        .spawn()
        .map_err(|e| Error::internal(format!("the server cannot be started: {e}")))?;
    let spinner = spinner(output, "starting a server");
    let deadline = Instant::now() + START_UP;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            let text = fs::read_to_string(&log).unwrap_or_default();
            let why = text.lines().last().unwrap_or("").to_owned();
            let problem =
                Problem::new(Code::ServerUnreachable, format!("the server ended ({status}): {why}"));
            return Err(problem.hint(format!("its log is {}", log.display())).into());
        }
        if let Some(address) = answering(data).await {
            spinner.finish_and_clear();
            output.talk(&format!("Started a server at {}.", address.url));
            return Ok(address);
        }
        tokio::time::sleep(LOOK).await;
    }
    let problem = Problem::new(Code::ServerUnreachable, "the server does not answer");
    Err(problem.hint(format!("its log is {}", log.display())).into())
}

/// The port, or 0 when somebody has it.
fn free(port: u16) -> u16 {
    if TcpListener::bind(("127.0.0.1", port)).is_ok() { port } else { 0 }
}

/// The server of `data`, when one answers there and knows its token.
async fn answering(data: &Path) -> Option<Address> {
    let address: Address = serde_json::from_slice(&fs::read(data.join("server.json")).ok()?).ok()?;
    let token = config::admin_token(data)?;
    let client = Client::new(&address.url, Auth::Token(token)).ok()?;
    client.instance("default").await.ok().map(|_| address)
}

/// The embedded store, and its credential under the name that the manifests use.
fn store_of(data: &Path, address: &Address) -> Result<StoreConnection, Error> {
    let path = data.join("s3-keys.json");
    let text = fs::read(&path).map_err(|e| Error::file(&path, &e))?;
    let keys: Keys =
        serde_json::from_slice(&text).map_err(|e| Error::internal(format!("{}: {e}", path.display())))?;
    let endpoint_url =
        address.s3_url.clone().ok_or_else(|| Error::internal("the server has no object store"))?;
    let credential = Credential {
        endpoint_url: endpoint_url.clone(),
        access_key_id: keys.access_key_id.clone(),
        secret_access_key: keys.secret_access_key.clone(),
    };
    credentials::write(&data.join("credentials.toml"), CREDENTIAL, &credential)?;
    Ok(StoreConnection {
        endpoint_url,
        access_key_id: keys.access_key_id,
        secret_access_key: keys.secret_access_key,
    })
}

/// The example's folder: that of the checkout we are in, else a copy in the data folder.
fn example(data: &Path) -> Result<PathBuf, Error> {
    let here = PathBuf::from("examples/digits");
    if EXAMPLE.iter().all(|(path, _)| here.join(path).is_file()) {
        return Ok(here);
    }
    let folder = data.join("examples/digits");
    for (path, bytes) in EXAMPLE {
        let target = folder.join(path);
        let failed = |e: std::io::Error| Error::file(&target, &e);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        fs::write(&target, bytes).map_err(failed)?;
        if target.extension().is_some_and(|e| e == "py") {
            fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        }
    }
    Ok(folder)
}

async fn prepare_buckets(store: &StoreConnection, example: &Path, output: &Output) -> Result<(), Error> {
    let problem = |e: trainyard_transfer::Error| Error::from(e.problem());
    let http = Http::default();
    let data = Bucket::new(&http, store, DATA_BUCKET).map_err(problem)?;
    let results = Bucket::new(&http, store, RESULTS_BUCKET).map_err(problem)?;
    data.create().await.map_err(problem)?;
    results.create().await.map_err(problem)?;
    let there = data.list("").await.map_err(problem)?;
    let mut new = 0;
    for (path, _) in EXAMPLE.iter().filter(|(p, _)| p.starts_with("data/")) {
        let (file, key) = (example.join(path), &path["data/".len()..]);
        if !there.iter().any(|o| o.key == key && is_same(&file, o)) {
            data.put_file(key, &file).await.map_err(problem)?;
            new += 1;
        }
    }
    let what =
        if new == 0 { "holds the digits already".to_owned() } else { format!("was given {new} files") };
    output.talk(&format!("Bucket {DATA_BUCKET} {what}; results go to bucket {RESULTS_BUCKET}."));
    Ok(())
}

/// How the verbs below find the server.
struct Setting {
    url: String,
    data: PathBuf,
}

impl Setting {
    /// This program, as one would type it here.
    fn program(&self) -> String {
        let path = std::env::current_exe().map_or_else(|_| "trainyard".into(), |p| shown(&p));
        if self.data == config::quickstart_folder() {
            path
        } else {
            format!("TRAINYARD_DATA={} {path}", self.data.display())
        }
    }

    /// Prints a command line and runs it; returns its output when that is `kept`.
    fn run(&self, words: &[&str], kept: bool, output: &Output) -> Result<String, Error> {
        output.talk(&format!("\n$ trainyard {}", words.join(" ")));
        let failed = |e: std::io::Error| Error::internal(format!("this program cannot be run: {e}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.args(words).env("TRAINYARD_SERVER", &self.url).env("TRAINYARD_DATA", &self.data);
        if kept {
            command.stdout(Stdio::piped());
        }
        let done = command.spawn().and_then(std::process::Child::wait_with_output).map_err(failed)?;
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        output.data(&text)?;
        match done.status.code() {
            Some(0) => Ok(text),
            // It has said why itself.
            Some(code) => Err(Error::Exit(u8::try_from(code).unwrap_or(1))),
            None => Err(Error::Exit(1)),
        }
    }
}

/// A path as one would type it from here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

async fn list_results(store: &StoreConnection, id: &str, output: &Output) -> Result<(), Error> {
    let problem = |e: trainyard_transfer::Error| Error::from(e.problem());
    let results = Bucket::new(&Http::default(), store, RESULTS_BUCKET).map_err(problem)?;
    let objects = results.list(&format!("{id}/")).await.map_err(problem)?;
    output.talk(&format!("\nIn bucket {RESULTS_BUCKET}:"));
    for object in objects {
        output.data(&format!(
            "{:>10}  {}\n",
            ByteSize(object.size).display().iec().to_string(),
            object.key
        ))?;
    }
    Ok(())
}
