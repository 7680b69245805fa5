//! What every measurement needs: a server, requests, percentiles, the table.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use trainyard_api::{Connection, Secret};
use trainyard_transfer::{Bucket, Http};

/// A line of the table.
pub(crate) struct Row(pub(crate) &'static str, pub(crate) String, pub(crate) String, pub(crate) &'static str);

/// The table.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        self.0.extend(rows);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | measured | beside | aim |\n| --- | --- | --- | --- |")?;
        for Row(what, measured, beside, aim) in &self.0 {
            writeln!(f, "| {what} | {measured} | {beside} | {aim} |")?;
        }
        Ok(())
    }
}

/// The value at a share of sorted samples.
pub(crate) fn quantile(samples: &mut [Duration], share: f64) -> Duration {
    samples.sort_unstable();
    samples[((samples.len() - 1) as f64 * share).round() as usize]
}

pub(crate) fn ms(d: Duration) -> String {
    format!("{:.1} ms", d.as_secs_f64() * 1e3)
}

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_trainyard");

/// A server in a folder of its own.
pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) child: Option<Child>,
    pub(crate) url: String,
    pub(crate) token: String,
    pub(crate) store: Connection,
    pub(crate) client: reqwest::Client,
    /// The last start: from exec to `/readyz`.
    pub(crate) ready_in: Duration,
    /// Variables of the server.
    environment: Vec<(&'static str, String)>,
}

impl Rig {
    pub(crate) fn new(config: &str) -> Self {
        Self::within(config, &[])
    }

    /// With a server that has these variables.
    pub(crate) fn within(config: &str, environment: &[(&'static str, String)]) -> Self {
        let dir = tempfile::tempdir_in(Path::new(PROGRAM).parent().unwrap()).unwrap();
        fs::write(dir.path().join("server.toml"), config).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let mut rig = Self {
            dir,
            child: None,
            url: String::new(),
            token: String::new(),
            store: Connection::default(),
            client,
            ready_in: Duration::ZERO,
            environment: environment.to_vec(),
        };
        rig.start();
        block_on(async {
            rig.bucket("data").create().await.unwrap();
            rig.bucket("results").create().await.unwrap();
        });
        rig
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn start(&mut self) {
        let log = fs::File::create(self.dir.path().join("server.log")).unwrap();
        let or_free = |url: &str| {
            if url.is_empty() {
                "127.0.0.1:0".to_owned()
            } else {
                url.trim_start_matches("http://").to_owned()
            }
        };
        let begun = Instant::now();
        let child = Command::new(PROGRAM)
            .args(["server", "--config"])
            .arg(self.dir.path().join("server.toml"))
            .arg("--data")
            .arg(self.data())
            .args(["--listen", &or_free(&self.url), "--s3-listen", &or_free(&self.store.endpoint_url)])
            .envs(self.environment.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = child.id();
        self.child = Some(child);
        let address: Value = loop {
            let text = fs::read(self.data().join("server.json")).unwrap_or_default();
            match serde_json::from_slice::<Value>(&text) {
                Ok(address) if address["pid"] == pid => break address,
                _ => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        address["url"].as_str().unwrap().clone_into(&mut self.url);
        let client = self.client.clone();
        let ready = format!("{}/readyz", self.url);
        block_on(async { while client.get(&ready).send().await.is_err() {} });
        self.ready_in = begun.elapsed();
        let token = fs::read_to_string(self.data().join("admin-token")).unwrap();
        token.trim().clone_into(&mut self.token);
        let keys: Value =
            serde_json::from_slice(&fs::read(self.data().join("s3-keys.json")).unwrap()).unwrap();
        self.store = Connection {
            endpoint_url: address["s3_url"].as_str().unwrap().to_owned(),
            access_key_id: keys["access_key_id"].as_str().unwrap().to_owned(),
            secret_access_key: Secret::new(keys["secret_access_key"].as_str().unwrap()),
        };
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    pub(crate) async fn cancel(&self, id: &str) {
        let patch = json!([{"op": "replace", "path": "/status/state", "value": "canceled"}]);
        let url = format!("{}/v3/models/{id}", self.url);
        let answer = self.client.patch(url).bearer_auth(&self.token).json(&patch).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
    }

    /// Resident memory of the server, in MiB.
    pub(crate) fn resident(&self) -> f64 {
        let pid = self.child.as_ref().unwrap().id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
    }

    pub(crate) fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(&Http::default(), &self.store, name).unwrap()
    }

    /// A command line against this server.
    pub(crate) fn cli(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(words).env("TRAINYARD_SERVER", &self.url).env("TRAINYARD_DATA", self.data());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command
    }

    /// Stores a definition of one small file; returns its URL.
    pub(crate) fn definition(&self) -> String {
        block_on(async {
            let new = json!({"name": "bench", "framework": {"name": "custom", "version": "1"}});
            let url = format!("{}/v3/ml_assets/training_definitions", self.url);
            let made: Value = self
                .client
                .post(url)
                .bearer_auth(&self.token)
                .json(&new)
                .send()
                .await
                .unwrap()
                .json()
                .await
                .unwrap();
            let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            zip.start_file("main.sh", zip::write::SimpleFileOptions::default()).unwrap();
            std::io::Write::write_all(&mut zip, b"true\n").unwrap();
            let bytes = zip.finish().unwrap().into_inner();
            let content = made["entity"]["training_definition_version"]["content_url"].as_str().unwrap();
            let put = self.client.put(content).bearer_auth(&self.token).body(bytes).send().await.unwrap();
            assert!(put.status().is_success());
            made["metadata"]["url"].as_str().unwrap().to_owned()
        })
    }

    /// The body of a submit.
    pub(crate) fn body(&self, definition: &str, command: &str, compute: &str) -> Value {
        let reference = |end: &str, bucket: &str| json!({"type": "s3", "connection": self.store, end: {"bucket": bucket}});
        json!({
            "model_definition": {
                "name": "bench", "definition_href": definition, "framework": {"name": "custom", "version": "1"},
                "execution": {"command": command, "compute_configuration": {"name": compute}},
            },
            "training_data_reference": reference("source", "data"),
            "training_results_reference": reference("target", "results"),
        })
    }

    pub(crate) async fn submit(&self, body: &Value) -> String {
        let url = format!("{}/v3/models", self.url);
        let response = self.client.post(url).bearer_auth(&self.token).json(body).send().await.unwrap();
        let run: Value = response.json().await.unwrap();
        run["metadata"]["guid"].as_str().unwrap_or_else(|| panic!("{run}")).to_owned()
    }

    pub(crate) async fn status(&self, id: &str) -> Value {
        let url = format!("{}/v3/models/{id}", self.url);
        let response = self.client.get(url).bearer_auth(&self.token).send().await.unwrap();
        let run: Value = response.json().await.unwrap();
        run["entity"]["status"].clone()
    }

    /// Asks again and again until the run has ended; returns its state.
    pub(crate) async fn end(&self, id: &str, pause: Duration) -> String {
        loop {
            let status = self.status(id).await;
            if status["finished_at"].is_string() {
                return status["state"].as_str().unwrap().to_owned();
            }
            tokio::time::sleep(pause).await;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
        for run in fs::read_dir(self.data().join("node/runs")).into_iter().flatten().flatten() {
            let Ok(file) = fs::File::open(run.path().join("runner.lock")) else { continue };
            if matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)) {
                let pid = fs::read_to_string(run.path().join("runner.lock")).unwrap_or_default();
                let _ = Command::new("kill").args(["-9", &pid]).status();
            }
        }
    }
}

/// Processor time of a process, and of its children that have ended.
pub(crate) fn processor_time(pid: u32) -> (Duration, Duration) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind = stat.rsplit_once(')').unwrap().1;
    let ticks: Vec<u64> = behind.split_whitespace().skip(11).take(4).map(|t| t.parse().unwrap()).collect();
    let time = |a: u64, b: u64| Duration::from_millis((a + b) * 10);
    (time(ticks[0], ticks[1]), time(ticks[2], ticks[3]))
}

pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A tool of the bench's own environment.
pub(crate) fn tool(name: &str) -> Command {
    Command::new(Path::new(&std::env::var("BENCH_TOOLS").unwrap()).join(name))
}
