//! A real Slurm of its own for a test: munge, a controller, and nodes with pretended GPUs, each of which can
//! lose its power or its network. On one machine, without systemd, on free ports.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use tempfile::TempDir;

use super::{PATIENCE, wait_for};

// Beside this file, also for the bench, which takes it by its path.
#[path = "cluster_parts.rs"]
mod parts;

pub use parts::Parts;

/// What a test asks of its cluster.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub nodes: u32,
    /// Nodes have network namespaces of their own, whose cables can be cut.
    pub wired: bool,
    /// Seconds without a word after which a node counts as down, and that a job waits then before it starts
    /// again. At least 5.
    pub patience: u32,
    /// Nodes cannot be powered off, and their processes are seen by the numbers that they have themselves.
    pub plain: bool,
    /// Nodes have a file system of their own each, [`Cluster::scratch`]. Not for plain ones.
    pub scratch: bool,
    /// What it has besides.
    pub parts: Parts,
    /// Lines for `slurm.conf`.
    pub more: &'static str,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 2,
            wired: false,
            patience: 5,
            plain: false,
            scratch: false,
            parts: Parts::default(),
            more: "",
        }
    }
}

/// CPUs, GPUs and MiB that each node says it has.
const CPUS: u32 = 4;
const GPUS: u32 = 2;
const MEMORY: u32 = 8000;

/// See the module.
pub struct Cluster {
    dir: TempDir,
    shape: Shape,
    /// Address of this machine, as nodes see it.
    pub host: String,
    /// Tells the networks of clusters apart.
    number: u32,
    services: BTreeMap<String, Child>,
}

/// Commands of Debian's packages.
const NEEDED: [&str; 6] = ["munged", "slurmctld", "slurmd", "sbatch", "squeue", "unshare"];
/// Where Debian puts daemons.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Counts clusters of this process.
static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Cluster {
    /// Starts one, unless this machine cannot: then the test says so and is over. With `CI=true` that is a
    /// failure.
    pub fn start(shape: Shape) -> Option<Self> {
        let has = |c: &&str| PATH.split(':').any(|d| Path::new(d).join(c).exists());
        let needed = NEEDED.into_iter().chain(shape.parts.needed());
        let missing: Vec<&str> = needed.filter(|c| !has(c)).collect();
        let root = nix::unistd::geteuid().is_root();
        if !missing.is_empty() || !root {
            let why = if root { format!("without {missing:?}") } else { "by anybody but root".to_owned() };
            assert!(std::env::var("CI").as_deref() != Ok("true"), "no Slurm can be started here {why}");
            eprintln!("NOT RUN: no Slurm can be started here {why}");
            return None;
        }
        let number = (std::process::id() % 200) * 100 + NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix("slurm-").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let host = if shape.wired { format!("{}.254", network(number)) } else { "127.0.0.1".to_owned() };
        let mut cluster = Self { dir, shape, host, number, services: BTreeMap::new() };
        let accounting = free_port();
        cluster.configure(accounting);
        if shape.parts.pyxis {
            cluster.make_pyxis();
        }
        cluster.wire();
        cluster.start_munge();
        if shape.parts.accounting {
            cluster.start_accounting(accounting);
        }
        cluster.start_controller();
        for n in cluster.nodes() {
            cluster.power_on(&n);
        }
        wait_for("all nodes are idle", PATIENCE, || {
            let idle = cluster.say("sinfo", &["-h", "-t", "idle", "-o", "%D"]);
            (idle.trim() == cluster.shape.nodes.to_string()).then_some(())
        });
        Some(cluster)
    }

    pub(super) fn root(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder that is another one on each node.
    pub fn scratch(&self) -> PathBuf {
        self.path("scratch")
    }

    /// munge's socket.
    pub fn munge_socket(&self) -> PathBuf {
        self.path("munge.socket")
    }

    /// A folder for images, which all nodes see.
    pub fn images(&self) -> PathBuf {
        let path = self.path("images");
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// What `SLURM_CONF` has to be.
    pub fn conf(&self) -> PathBuf {
        self.path("slurm.conf")
    }

    /// Names of the nodes.
    pub fn nodes(&self) -> Vec<String> {
        (1..=self.shape.nodes).map(|n| format!("n{n}")).collect()
    }

    fn configure(&self, accounting: u16) {
        for folder in ["state", "spool", "gpu", "scratch"] {
            fs::create_dir(self.path(folder)).unwrap();
        }
        for key in ["munge.key", "jwt.key"] {
            fs::write(self.path(key), rand_bytes()).unwrap();
            fs::set_permissions(self.path(key), fs::Permissions::from_mode(0o400)).unwrap();
        }
        for gpu in 0..GPUS {
            // A GPU is a device file that exists; a null device does.
            let path = self.path(&format!("gpu/gpu{gpu}"));
            mknod(&path, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 3)).unwrap();
        }
        let root = self.dir.path().display();
        let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let Shape { nodes, patience, more, .. } = self.shape;
        let mut text = format!(
            "ClusterName=yard\nSlurmctldHost={name}({host})\nSlurmctldPort={port}\nSlurmUser=root\n\
             AuthType=auth/munge\nAuthInfo=socket={root}/munge.socket,cred_expire={patience}\nCredType=cred/munge\n\
             StateSaveLocation={root}/state\nSlurmdSpoolDir={root}/spool/%n\n\
             SlurmctldPidFile={root}/slurmctld.pid\nSlurmdPidFile={root}/slurmd.%n.pid\n\
             SlurmctldLogFile={root}/slurmctld.log\nSlurmdLogFile={root}/slurmd.%n.log\n\
             MpiDefault=none\nSwitchType=switch/none\nSelectType=select/cons_tres\n\
             SelectTypeParameters=CR_Core_Memory\nGresTypes=gpu\nSchedulerType=sched/backfill\n\
             SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=2,bf_interval=2\n\
             ReturnToService=2\nSlurmdParameters=config_overrides\nSlurmdTimeout={patience}\n\
             SlurmctldTimeout=30\nMessageTimeout=5\nTCPTimeout=2\nHealthCheckInterval=0\nInactiveLimit=0\n\
             KillWait=5\nMinJobAge={age}\nJobRequeue=1\n{parts}",
            // With accounting, the controller soon forgets jobs that are over.
            age = if self.shape.parts.accounting { 2 } else { 300 },
            parts = self.shape.parts.lines(self.root(), accounting),
            host = self.host,
            port = free_port(),
        );
        for n in 1..=nodes {
            let address =
                if self.shape.wired { format!("{}.{n}", network(self.number)) } else { self.host.clone() };
            text.push_str(&format!(
                "NodeName=n{n} NodeHostname={name} NodeAddr={address} Port={} CPUs={CPUS} RealMemory={MEMORY} Gres=gpu:{GPUS}\n",
                free_port()
            ));
        }
        text.push_str(&format!(
            "PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP\n{more}\n"
        ));
        fs::write(self.conf(), text).unwrap();
        fs::write(self.path("gres.conf"), format!("Name=gpu File={root}/gpu/gpu[0-{}]\n", GPUS - 1)).unwrap();
        fs::write(self.path("cgroup.conf"), self.shape.parts.cgroup_lines()).unwrap();
    }

    pub(super) fn spawn(&mut self, name: &str, program: &str, words: &[&str]) {
        let log =
            fs::File::options().create(true).append(true).open(self.path(&format!("{name}.out"))).unwrap();
        let child = Command::new(program)
            .args(words)
            .env("PATH", PATH)
            .env("SLURM_CONF", self.conf())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.services.insert(name.to_owned(), child);
    }

    /// Ends a service as a power cut would.
    fn kill(&mut self, name: &str) {
        if let Some(mut child) = self.services.remove(name) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn start_munge(&mut self) {
        let root = self.dir.path().to_owned();
        let at = |name: &str| root.join(name).display().to_string();
        let words = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            format!("--key-file={}", at("munge.key")),
            format!("--socket={}", at("munge.socket")),
            format!("--pid-file={}", at("munge.pid")),
            format!("--seed-file={}", at("munge.seed")),
            format!("--log-file={}", at("munge.log")),
        ];
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.spawn("munged", "munged", &words);
        let socket = at("munge.socket");
        wait_for("munge answers", PATIENCE, || {
            let done = Command::new("munge")
                .args(["-n", "-S", &socket])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            done.is_ok_and(|s| s.success()).then_some(())
        });
    }

    /// Starts the controller, for the first time or again.
    pub fn start_controller(&mut self) {
        let conf = self.conf().display().to_string();
        self.spawn("slurmctld", "slurmctld", &["-D", "-i", "-f", &conf]);
        wait_for("the controller answers", PATIENCE, || {
            self.say("scontrol", &["ping"]).contains("is UP").then_some(())
        });
    }

    /// Ends the controller as a power cut would.
    pub fn kill_controller(&mut self) {
        self.kill("slurmctld");
    }

    /// A node is a namespace of processes whose first is its daemon's parent: it takes all with it.
    pub fn power_on(&mut self, node: &str) {
        fs::create_dir_all(self.path("spool").join(node)).unwrap();
        let conf = self.conf().display().to_string();
        if self.shape.plain {
            self.spawn(node, "slurmd", &["-f", &conf, "-N", node, "-D"]);
            return;
        }
        let net = format!("--net=/run/netns/{}", self.namespace(node));
        let script = "hostname \"$1\"; [ -z \"$3\" ] || mount -t tmpfs scratch \"$3\"; \
                      slurmd -f \"$2\" -N \"$1\" -D & wait; wait";
        let scratch = if self.shape.scratch { self.scratch().display().to_string() } else { String::new() };
        let mut words = Vec::new();
        if self.shape.wired {
            words.extend([net.as_str(), "--", "unshare"]);
        }
        words.extend([
            "--fork",
            "--kill-child",
            "--pid",
            "--mount-proc",
            "--uts",
            "bash",
            "-c",
            script,
            "node",
            node,
            &conf,
            &scratch,
        ]);
        let program = if self.shape.wired { "nsenter" } else { "unshare" };
        self.spawn(node, program, &words);
    }

    /// The node's processes are gone at once.
    pub fn power_off(&mut self, node: &str) {
        self.kill(node);
    }

    fn namespace(&self, node: &str) -> String {
        format!("yard{}{node}", self.number)
    }

    /// Cuts the cable of a node, or joins it again.
    pub fn set_cable(&self, node: &str, joined: bool) {
        let cable = format!("y{}{node}", self.number);
        ip(&["link", "set", &cable, if joined { "up" } else { "down" }]);
    }

    fn wire(&self) {
        if !self.shape.wired {
            return;
        }
        let (bridge, network) = (format!("y{}", self.number), network(self.number));
        ip(&["link", "add", &bridge, "type", "bridge"]);
        ip(&["addr", "add", &format!("{network}.254/24"), "dev", &bridge]);
        ip(&["link", "set", &bridge, "up"]);
        for (n, node) in self.nodes().iter().enumerate() {
            let (inside, cable) = (self.namespace(node), format!("y{}{node}", self.number));
            ip(&["netns", "add", &inside]);
            ip(&["link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &inside]);
            ip(&["link", "set", &cable, "master", &bridge, "up"]);
            ip(&["-n", &inside, "addr", "add", &format!("{network}.{}/24", n + 1), "dev", "eth0"]);
            ip(&["-n", &inside, "link", "set", "eth0", "up"]);
            ip(&["-n", &inside, "link", "set", "lo", "up"]);
        }
    }

    /// Ends what a node without a namespace leaves: the parents of jobs, and jobs. They know this cluster's
    /// configuration by a path that nobody else has, or hold its logs open.
    fn end_steps(&self) {
        let marker = format!("SLURM_CONF={}", self.conf().display());
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
            if pid == std::process::id().cast_signed() {
                continue;
            }
            let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
            let marked = environment.split(|b| *b == 0).any(|v| v == marker.as_bytes());
            let open = fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
            let ours = |path: PathBuf| path.starts_with(self.root());
            if marked || open.filter_map(|f| fs::read_link(f.path()).ok()).any(ours) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }

    fn unwire(&self) {
        if !self.shape.wired {
            return;
        }
        for node in self.nodes() {
            let _ = Command::new("ip").args(["netns", "del", &self.namespace(&node)]).status();
        }
        let _ = Command::new("ip").args(["link", "del", &format!("y{}", self.number)]).status();
    }

    /// What a command of Slurm prints, whether it goes well or not.
    pub fn say(&self, program: &str, words: &[&str]) -> String {
        let output = Command::new(program)
            .args(words)
            .env("PATH", PATH)
            .env("SLURM_CONF", self.conf())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    }

    /// What an operator does behind a controller that was killed: it drains the node of a job that it forgot it had
    /// started, and holds that job.
    pub fn tidy_up(&self) {
        let nodes = self.nodes().join(",");
        self.say("scontrol", &["update", &format!("nodename={nodes}"), "state=resume"]);
        for line in self.say("squeue", &["-h", "-t", "PD", "-o", "%i %r"]).lines() {
            if let Some((job, reason)) = line.split_once(' ')
                && reason.contains("held")
            {
                self.say("scontrol", &["release", job]);
            }
        }
    }

    /// Numbers and states of all jobs, oldest first.
    pub fn jobs(&self) -> Vec<(u64, String)> {
        let text = self.say("squeue", &["-h", "-t", "all", "-o", "%i %T"]);
        let job = |l: &str| l.split_once(' ').and_then(|(i, s)| Some((i.parse().ok()?, s.to_owned())));
        let mut jobs: Vec<(u64, String)> = text.lines().filter_map(job).collect();
        jobs.sort();
        jobs
    }

    /// The job of a run that was submitted last.
    pub fn job_of(&self, run: &str) -> Option<u64> {
        let text = self.say("squeue", &["-h", "-t", "all", "-O", "JobID:|,Name:|"]);
        let of = |l: &str| {
            l.split_once('|').filter(|(_, n)| n.contains(run)).and_then(|(i, _)| i.trim().parse().ok())
        };
        text.lines().filter_map(of).max()
    }

    /// Where a server that uses this cluster looks for commands first.
    pub fn search_path(&self) -> String {
        format!(
            "{}:{}",
            self.path("bin").display(),
            std::env::var("PATH").unwrap_or_else(|_| PATH.to_owned())
        )
    }

    /// Puts another program in the place of a command of Slurm, for the server alone; `$REAL` is the true one.
    pub fn disguise(&self, command: &str, script: &str) {
        let folder = self.path("bin");
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(command);
        fs::write(&path, format!("#!/bin/bash\nREAL=/usr/bin/{command}\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Gives a command of Slurm its place back.
    pub fn undisguise(&self, command: &str) {
        fs::remove_file(self.path("bin").join(command)).unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes() {
            self.kill(&node);
        }
        for service in ["slurmrestd", "slurmctld", "slurmdbd", "mariadbd", "munged"] {
            self.kill(service);
        }
        self.end_steps();
        if self.shape.parts.cgroups {
            self.remove_cgroups();
        }
        self.unwire();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("slurmctld.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- slurmctld\n{}", lines[lines.len().saturating_sub(30)..].join("\n"));
        }
    }
}

/// The first three numbers of the addresses of cluster `number`.
fn network(number: u32) -> String {
    format!("10.{}.{}", 100 + number / 250 % 100, number % 250)
}

fn ip(words: &[&str]) {
    let done = Command::new("ip").args(words).status().unwrap();
    assert!(done.success(), "ip {words:?}");
}

pub(super) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn rand_bytes() -> Vec<u8> {
    use std::io::Read;
    let mut bytes = vec![0; 128];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}
