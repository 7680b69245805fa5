//! One server in a folder of its own, on free ports.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use tempfile::TempDir;
use trainyard_transfer::{Bucket, Http};

use super::{Cluster, PATIENCE, Shape, wait_for};

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// What went to stdout of a command that has to succeed.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }

    /// What went to stderr of a command that has to end with this code.
    #[track_caller]
    pub fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.out, self.err);
        self.err
    }
}

/// A server and its folder.
pub struct Yard {
    pub dir: TempDir,
    child: Option<Child>,
    pub url: String,
    /// Endpoint and keys that manifests name: this server's own store, or the one that
    /// `TRAINYARD_TEST_STORE` names as `ENDPOINT ACCESS_KEY SECRET_KEY`.
    pub store: trainyard_api::Connection,
    /// The buckets that manifests name.
    pub data: String,
    pub results: String,
    /// Address of this server's own store, once it has one.
    own_store: String,
    /// The user that the server runs as, when it is not this one.
    user: Option<u32>,
    /// The cluster that runs go to.
    pub cluster: Option<Cluster>,
    /// Folder in which break points are armed, where they are compiled in.
    pub breakpoints: Option<PathBuf>,
}

/// Two CPU cores and much memory pretended, so that tests do not depend on the machine.
const MACHINE: &str = "[local]\ncpus = 2\nmemory = '64GiB'\n";

/// The store that somebody else wrote, when the suite runs on one.
fn elsewhere() -> Option<trainyard_api::Connection> {
    let text = std::env::var("TRAINYARD_TEST_STORE").ok()?;
    let mut words = text.split(' ').map(str::to_owned);
    let mut word = || words.next().expect("TRAINYARD_TEST_STORE is `ENDPOINT ACCESS_KEY SECRET_KEY`");
    let (endpoint_url, access_key_id) = (word(), word());
    Some(trainyard_api::Connection {
        endpoint_url,
        access_key_id,
        secret_access_key: trainyard_api::Secret::new(word()),
    })
}

/// Whether the suite runs on Slurm: tests with a configuration of their own for another engine do not.
fn on_slurm(config: &str) -> bool {
    let asked = std::env::var("TRAINYARD_TEST_ENGINE").is_ok_and(|e| e == "slurm");
    asked && !config.contains("[engine")
}

impl Yard {
    /// The folder of a run on its node.
    pub fn run_folder(&self, run: &str) -> PathBuf {
        match &self.cluster {
            None => self.node_folder().join("runs").join(run),
            Some(_) => self.node_folder().join(format!("runs/{run}.1")),
        }
    }

    /// Files of a run's log and metrics at the server.
    pub fn logs_of(&self, run: &str) -> Vec<String> {
        let all = fs::read_dir(self.data_folder().join("logs")).unwrap().flatten();
        all.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|name| name.contains(run)).collect()
    }

    /// Folder of caches, environments and runs on the node.
    pub fn node_folder(&self) -> PathBuf {
        if self.cluster.is_some() {
            self.dir.path().join("shared/node")
        } else {
            self.data_folder().join("node")
        }
    }

    /// What the runner of a run's first attempt logs itself.
    pub fn runner_log(&self, run: &str) -> String {
        let path = if self.cluster.is_some() {
            let jobs = fs::read_dir(self.dir.path().join("shared/jobs")).into_iter().flatten().flatten();
            let of = |p: &PathBuf| p.display().to_string().ends_with(&format!("{run}-1.log"));
            jobs.map(|e| e.path()).find(of)
        } else {
            Some(self.run_folder(run).join("runner.log"))
        };
        path.and_then(|p| fs::read_to_string(p).ok()).unwrap_or_default()
    }

    /// Where a run's folder is put whose results could be stored nowhere.
    pub fn kept_folder(&self, run: &str) -> PathBuf {
        match &self.cluster {
            None => self.node_folder().join("kept").join(run),
            Some(_) => self.node_folder().join(format!("kept/{run}.1")),
        }
    }

    /// With [`MACHINE`].
    pub fn start() -> Self {
        Self::with(MACHINE)
    }

    /// With a server that runs as this user.
    pub fn as_user(user: u32) -> Self {
        Self::make(MACHINE, Some(user))
    }

    /// With a server at this address.
    pub fn start_at(url: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("yard-").tempdir().unwrap();
        Self::at(dir, url.to_owned(), MACHINE, None, None)
    }

    /// On a disk of its own of so many MiB, which takes root to make.
    pub fn on_small_disk(mib: u32) -> Self {
        let disk = tempfile::Builder::new().prefix("yard-").tempdir().unwrap();
        let size = format!("size={mib}m");
        let (kind, flags) = (Some("tmpfs"), nix::mount::MsFlags::empty());
        nix::mount::mount(kind, disk.path(), kind, flags, Some(size.as_str())).unwrap();
        Self::within(disk, MACHINE, None)
    }

    /// With a cluster that runs go to; `more` is added to the configuration, and may go on with
    /// `[engine.slurm]`.
    pub fn on_cluster(cluster: Cluster, more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("yard-").tempdir().unwrap();
        let shared = dir.path().join("shared");
        let config = format!("grace = 2\n{MACHINE}[engine.slurm]\nshared = '{}'\n{more}\n", shared.display());
        Self::at(dir, String::new(), &config, None, Some(cluster))
    }

    /// The same with a cluster whose nodes share nothing with the server.
    pub fn on_far_cluster(cluster: Cluster, more: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("yard-").tempdir().unwrap();
        let node = if more.contains("as_owners = true") { "%u/yard" } else { "yard" };
        let (node, socket) = (cluster.scratch().join(node), cluster.munge_socket());
        let config = format!(
            "grace = 2\n{MACHINE}[engine.slurm]\nnode = '{}'\nmunge_socket = '{}'\n{more}\n",
            node.display(),
            socket.display()
        );
        Self::at(dir, String::new(), &config, None, Some(cluster))
    }

    /// With this configuration, and break points that can be armed. `None`, said loudly, where they are not compiled
    /// in; with `CI=true` that is a failure.
    pub fn with_breakpoints(config: &str) -> Option<Self> {
        if !cfg!(feature = "break-points") {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "there are no break points: run ./test");
            eprintln!("NOT RUN: break points are not compiled in; ./test does it");
            return None;
        }
        let mut yard = Self::with(config);
        let folder = yard.dir.path().join("breakpoints");
        fs::create_dir(&folder).unwrap();
        yard.breakpoints = Some(folder);
        yard.kill_server();
        yard.restart();
        Some(yard)
    }

    /// Arms a break point: whoever comes by is ended there (`kill`), or stands still (`stop`).
    pub fn arm(&self, point: &str, how: &str) {
        // Whole at once: a process may be waiting for it.
        let part = self.dir.path().join("arming");
        fs::write(&part, how).unwrap();
        fs::rename(part, self.breakpoints.as_ref().unwrap().join(point)).unwrap();
    }

    /// The points that processes came by since they were last asked for: the point, the process, and what was asked
    /// of it.
    pub fn taken(&self) -> Vec<(String, i32, String)> {
        let mut taken = Vec::new();
        for entry in fs::read_dir(self.breakpoints.as_ref().unwrap()).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some((point, pid)) = name.split_once(".taken-by-") {
                let how = fs::read_to_string(entry.path()).unwrap();
                fs::remove_file(entry.path()).unwrap();
                taken.push((point.to_owned(), pid.parse().unwrap(), how));
            }
        }
        taken
    }

    /// How many points are armed and nobody has come by.
    pub fn armed(&self) -> usize {
        let entries = fs::read_dir(self.breakpoints.as_ref().unwrap()).unwrap().flatten();
        entries.filter(|e| !e.file_name().to_string_lossy().contains(".taken-by-")).count()
    }

    /// Arms nothing any more.
    pub fn disarm(&self) {
        for entry in fs::read_dir(self.breakpoints.as_ref().unwrap()).unwrap().flatten() {
            if !entry.file_name().to_string_lossy().contains(".taken-by-") {
                // Somebody may come by at this moment.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// With this configuration.
    pub fn with(config: &str) -> Self {
        Self::make(config, None)
    }

    fn make(config: &str, user: Option<u32>) -> Self {
        Self::within(tempfile::Builder::new().prefix("yard-").tempdir().unwrap(), config, user)
    }

    fn within(dir: TempDir, config: &str, user: Option<u32>) -> Self {
        Self::at(dir, String::new(), config, user, None)
    }

    fn at(dir: TempDir, url: String, config: &str, user: Option<u32>, cluster: Option<Cluster>) -> Self {
        let (cluster, config) = match cluster {
            None if on_slurm(config) => {
                let shape = Shape { nodes: 1, plain: true, ..Shape::default() };
                let cluster = Cluster::start(shape).expect("TRAINYARD_TEST_ENGINE=slurm needs a Slurm");
                let shared = dir.path().join("shared");
                // A controller that is killed forgets jobs: three times the pause between two words of a runner.
                let more = "store_seconds = 20\nlost_after = 30\n";
                let config = format!("{config}[engine.slurm]\nshared = '{}'\n{more}", shared.display());
                (Some(cluster), config)
            }
            cluster => (cluster, config.to_owned()),
        };
        // As the binary does; every test but the first finds it done.
        let _ = rustls::crypto::ring::default_provider().install_default();
        fs::write(dir.path().join("server.toml"), config).unwrap();
        if let Some(user) = user {
            std::os::unix::fs::chown(dir.path(), Some(user), Some(user)).unwrap();
        }
        let store = elsewhere().unwrap_or_default();
        // A store elsewhere is shared: buckets of this test's own.
        let tail = if elsewhere().is_some() { dir.path().to_str().unwrap().rsplit('-').next() } else { None };
        let bucket = |name: &str| tail.map_or(name.to_owned(), |t| format!("{name}-{}", t.to_lowercase()));
        let (data, results) = (bucket("data"), bucket("results"));
        let own_store = String::new();
        let (child, breakpoints) = (None, None);
        let mut yard = Self { dir, child, url, store, data, results, own_store, user, cluster, breakpoints };
        yard.restart();
        yard.make_buckets();
        yard
    }

    pub fn data_folder(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn program() -> &'static str {
        env!("CARGO_BIN_EXE_trainyard")
    }

    /// Starts the server, again or for the first time, on the same ports.
    pub fn restart(&mut self) {
        assert!(self.try_restart(), "the server ended while it started: {}", self.server_log());
    }

    /// The same; `false`: it ended before it served.
    pub fn try_restart(&mut self) -> bool {
        let log = fs::File::options().create(true).append(true).open(self.log_path()).unwrap();
        let s3 = self.own_store.trim_start_matches("http://").to_owned();
        let host = self.cluster.as_ref().map_or("127.0.0.1", |c| c.host.as_str());
        let or_free = |a: &str| if a.is_empty() { format!("{host}:0") } else { a.to_owned() };
        let mut command = Command::new(Self::program());
        if let Some(user) = self.user {
            std::os::unix::process::CommandExt::uid(&mut command, user);
            std::os::unix::process::CommandExt::gid(&mut command, user);
        }
        let child = command
            .args(["server", "--config"])
            .arg(self.dir.path().join("server.toml"))
            .arg("--data")
            .arg(self.data_folder())
            .args(["--listen", &or_free(self.url.trim_start_matches("http://"))])
            .args(["--s3-listen", &or_free(&s3)])
            .env("TRAINYARD_LOG", "info,s3s=error")
            .env("HOME", self.dir.path())
            .env_remove("XDG_CONFIG_HOME")
            .envs(self.cluster.iter().map(|c| ("SLURM_CONF", c.conf())))
            .envs(self.cluster.iter().map(|c| ("PATH", c.search_path())))
            .envs(self.breakpoints.iter().map(|folder| ("TRAINYARD_BREAKPOINTS", folder)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = child.id();
        self.child = Some(child);
        let address = wait_for("the server's start", PATIENCE, || {
            if self.is_dead() {
                return Some(None);
            }
            let text = fs::read(self.data_folder().join("server.json")).ok()?;
            let address: Value = serde_json::from_slice(&text).ok()?;
            (address["pid"] == pid).then_some(Some(address))
        });
        let Some(address) = address else { return false };
        address["url"].as_str().unwrap().clone_into(&mut self.url);
        address["s3_url"].as_str().unwrap().clone_into(&mut self.own_store);
        if elsewhere().is_none() {
            self.store = self.own_store();
        }
        true
    }

    /// Whether the server has ended by itself, or was ended by somebody else.
    pub fn is_dead(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some())
    }

    /// This server's own store.
    pub fn own_store(&self) -> trainyard_api::Connection {
        let keys: Value =
            serde_json::from_slice(&fs::read(self.data_folder().join("s3-keys.json")).unwrap()).unwrap();
        let text = |key: &str| keys[key].as_str().unwrap().to_owned();
        trainyard_api::Connection {
            endpoint_url: self.own_store.clone(),
            access_key_id: text("access_key_id"),
            secret_access_key: trainyard_api::Secret::new(text("secret_access_key")),
        }
    }

    /// Whether runs use this server's own store. What a test shows of that store is shown only then.
    pub fn is_at_home(&self) -> bool {
        self.store.endpoint_url == self.own_store
    }

    /// Which server it is, for its runners.
    pub fn server_id(&self) -> String {
        let key = fs::read(self.data_folder().join("secret.key")).unwrap();
        hex::encode(
            &ring::digest::digest(&ring::digest::SHA256, &[b"server id", &key[..]].concat()).as_ref()[..16],
        )
    }

    pub fn server_pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Ends the server as a power cut would.
    pub fn kill_server(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Asks the server to end, and waits until it has.
    pub fn stop_server(&mut self) -> i32 {
        let mut child = self.child.take().unwrap();
        kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
        child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Process ids of runners, by run, from the locks that they hold.
    pub fn runners(&self) -> BTreeMap<String, i32> {
        let mut found = BTreeMap::new();
        let folders = [self.data_folder().join("node/runs"), self.dir.path().join("shared/node/runs")];
        for run in folders.iter().filter_map(|f| fs::read_dir(f).ok()).flatten().flatten() {
            let lock = run.path().join("runner.lock");
            let Ok(file) = fs::File::open(&lock) else { continue };
            let held = matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock));
            let pid = fs::read_to_string(&lock).ok().and_then(|t| t.parse::<i32>().ok());
            if let (true, Some(pid)) = (held, pid) {
                let name = run.file_name().to_string_lossy().into_owned();
                // On a cluster it is `RUN.ATTEMPT`.
                found.insert(name.split('.').next().unwrap_or_default().to_owned(), pid);
            }
        }
        found
    }

    pub fn admin_token(&self) -> String {
        fs::read_to_string(self.data_folder().join("admin-token")).unwrap().trim().to_owned()
    }

    /// Runs the command line against this server.
    pub fn cli(&self, words: &[&str]) -> Said {
        self.command(words).run()
    }

    /// A command line that can still be changed.
    pub fn command(&self, words: &[&str]) -> Typed {
        let mut command = Command::new(Self::program());
        command
            .args(words)
            .env("TRAINYARD_SERVER", &self.url)
            .env("TRAINYARD_DATA", self.data_folder())
            .env("HOME", self.dir.path())
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null());
        Typed(command)
    }

    fn make_buckets(&self) {
        block_on(async {
            self.bucket(&self.data).create().await.unwrap();
            self.bucket(&self.results).create().await.unwrap();
        });
    }

    /// A store elsewhere is not gone with this test: it should not fill up.
    fn remove_buckets(&self) {
        block_on(async {
            for name in [&self.data, &self.results] {
                let bucket = self.bucket(name);
                for object in bucket.list("").await.unwrap_or_default() {
                    let _ = bucket.delete(&object.key).await;
                }
            }
        });
    }

    /// Makes this server's own store forget a bucket.
    pub fn forget_bucket(&self, name: &str) {
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], timeout=30)\n\
            c.execute('delete from objects where bucket = ?', (sys.argv[2],))\n\
            c.execute('delete from buckets where name = ?', (sys.argv[2],))\nc.commit()";
        let index = self.data_folder().join("s3/index.db");
        let done = Command::new("python3").args(["-c", script]).arg(index).arg(name).status().unwrap();
        assert!(done.success());
    }

    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket::new(&Http::default(), &self.store, name).unwrap()
    }

    /// Puts an object into the data bucket.
    pub fn put(&self, key: &str, bytes: &[u8]) {
        block_on(self.bucket(&self.data).put(key, bytes::Bytes::copy_from_slice(bytes))).unwrap();
    }

    /// Keys and sizes of what a run left in the results bucket, without the run's own prefix.
    pub fn results(&self, run: &str) -> BTreeMap<String, u64> {
        let prefix = format!("{run}/");
        let objects = block_on(self.bucket(&self.results).list(&prefix)).unwrap();
        objects.into_iter().map(|o| (o.key[prefix.len()..].to_owned(), o.size)).collect()
    }

    pub fn result(&self, run: &str, key: &str) -> String {
        let bytes = block_on(self.bucket(&self.results).get_bytes(&format!("{run}/{key}"))).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// A manifest for this server's store, with the machine's own python and one CPU.
    pub fn manifest(&self, name: &str, command: &str) -> PathBuf {
        self.manifest_with(name, command, &self.store.endpoint_url, &self.data, &self.results)
    }

    pub fn manifest_with(
        &self,
        name: &str,
        command: &str,
        endpoint: &str,
        data: &str,
        results: &str,
    ) -> PathBuf {
        let connection = format!(
            "{{endpoint_url: '{endpoint}', access_key_id: '{}', secret_access_key: '{}'}}",
            self.store.access_key_id,
            self.store.secret_access_key.expose()
        );
        let command = serde_json::to_string(command).unwrap();
        let text = format!(
            "model_definition:\n  name: {name}\n  framework: {{name: custom, version: '1'}}\n  execution:\n    \
             command: {command}\n    compute_configuration: {{name: cpu}}\ntraining_data_reference:\n  \
             connection: {connection}\n  source: {{bucket: {data}}}\n  type: s3\ntraining_results_reference:\n  \
             connection: {connection}\n  target: {{bucket: {results}}}\n  type: s3\n"
        );
        let path = self.dir.path().join(format!("{name}.yml"));
        fs::write(&path, text).unwrap();
        path
    }

    /// Submits a run of a shell command; returns its id.
    #[track_caller]
    pub fn train(&self, name: &str, command: &str) -> String {
        let code = code_folder(self.dir.path(), &[("main.sh", "echo hello\n")]);
        self.train_code(&code, &self.manifest(name, command))
    }

    #[track_caller]
    pub fn train_code(&self, code: &Path, manifest: &Path) -> String {
        self.train_set(code, manifest, &[])
    }

    /// With `KEY=VALUE` in place of what the manifest says.
    #[track_caller]
    pub fn train_set(&self, code: &Path, manifest: &Path, set: &[&str]) -> String {
        let mut words = vec!["train", code.to_str().unwrap(), manifest.to_str().unwrap(), "-q"];
        words.extend(set.iter().flat_map(|s| ["--set", s]));
        self.cli(&words).ok().trim().to_owned()
    }

    /// The run as the server tells it.
    #[track_caller]
    pub fn run(&self, id: &str) -> Value {
        serde_json::from_str(&self.cli(&["show", id, "-o", "json"]).ok()).unwrap()
    }

    pub fn status(&self, id: &str) -> Value {
        self.run(id)["entity"]["status"].clone()
    }

    /// Waits for the end of a run; returns its status.
    #[track_caller]
    pub fn wait_end(&self, id: &str) -> Value {
        let said = self.cli(&["wait", id, "--timeout", "120"]);
        assert_ne!(said.code, 124, "{id} has not ended: {}", self.server_log());
        self.status(id)
    }

    /// Waits until the log of a run holds a text.
    #[track_caller]
    pub fn wait_log(&self, id: &str, text: &str) {
        wait_for(&format!("`{text}` in the log of {id}"), PATIENCE, || {
            self.cli(&["logs", id]).out.contains(text).then_some(())
        });
    }

    /// Beside the yard: what the server says of a full disk has to be written somewhere.
    fn log_path(&self) -> PathBuf {
        self.dir.path().with_extension("log")
    }

    pub fn server_log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- server log\n{}", self.server_log());
        }
        self.kill_server();
        for (_, pid) in self.runners() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        if elsewhere().is_some() && !std::thread::panicking() {
            self.remove_buckets();
        }
        // Programs of killed runners: those in groups of this yard's runs.
        for run in fs::read_dir(self.data_folder().join("node/runs")).into_iter().flatten().flatten() {
            end_programs(&run.file_name().to_string_lossy());
        }
        // Succeeds only where this yard has a disk of its own.
        let _ = nix::mount::umount2(self.dir.path(), nix::mount::MntFlags::MNT_DETACH);
        let _ = fs::remove_file(self.log_path());
    }
}

/// Ends processes that carry this run's id: they are this test's own.
pub fn end_programs(run: &str) {
    for pid in programs(run) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Processes that carry this run's id in their environment.
pub fn programs(run: &str) -> Vec<i32> {
    let marker = format!("TRAINING_ID={run}");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|b| *b == 0).any(|v| v == marker.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// The fork server of a server, which is its child.
pub fn fork_server(server: u32) -> Option<i32> {
    let is_fork_server = |pid: &i32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c.windows(11).any(|w| w == b"fork-server"))
    };
    // The server's threads start processes: each thread has its own list.
    let tasks = fs::read_dir(format!("/proc/{server}/task")).ok()?.flatten();
    let lists = tasks.map(|t| fs::read_to_string(t.path().join("children")).unwrap_or_default());
    let pids: Vec<i32> =
        lists.flat_map(|l| l.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<_>>()).collect();
    pids.into_iter().find(is_fork_server)
}

pub struct Typed(Command);

impl Typed {
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.0.env(name, value);
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.0.env_remove(name);
        self
    }

    pub fn input(mut self, path: &Path) -> Self {
        self.0.stdin(fs::File::open(path).unwrap());
        self
    }

    pub fn within(mut self, folder: &Path) -> Self {
        self.0.current_dir(folder);
        self
    }

    pub fn run(mut self) -> Said {
        let output = self.0.output().unwrap();
        let text = |b: Vec<u8>| String::from_utf8(b).unwrap();
        Said { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    pub fn start(mut self) -> Child {
        self.0.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// A folder of code; scripts can be executed.
pub fn code_folder(parent: &Path, files: &[(&str, &str)]) -> PathBuf {
    let folder = tempfile::Builder::new().prefix("code-").tempdir_in(parent).unwrap().keep();
    for (name, text) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
