//! What some clusters have besides: slurmrestd, accounting in a database, memory limits by cgroups.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{Cluster, PATH, PATIENCE, free_port, wait_for};

/// What a cluster has besides.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each part is there or not, whatever the others are")]
pub struct Parts {
    /// slurmrestd, and tokens for it.
    pub rest: bool,
    /// slurmdbd and a database: `sacct` knows what became of jobs.
    pub accounting: bool,
    /// Jobs are kept to their memory.
    pub cgroups: bool,
    /// `srun` has the options of pyxis.
    pub pyxis: bool,
}

impl Parts {
    /// Commands that have to be there.
    pub(super) fn needed(self) -> Vec<&'static str> {
        let mut all = Vec::new();
        if self.rest {
            all.extend(["slurmrestd", "setpriv"]);
        }
        if self.accounting {
            all.extend(["slurmdbd", "mariadbd", "mariadb-install-db", "mariadb"]);
        }
        if self.pyxis {
            all.push("gcc");
        }
        all
    }

    /// Lines of `slurm.conf`.
    pub(super) fn lines(self, root: &Path, dbd_port: u16) -> String {
        let root = root.display();
        let how = if self.cgroups {
            ["proctrack/cgroup", "task/cgroup", "jobacct_gather/cgroup"]
        } else {
            ["proctrack/linuxproc", "task/none", "jobacct_gather/none"]
        };
        let mut text =
            format!("ProctrackType={}\nTaskPlugin={}\nJobAcctGatherType={}\n", how[0], how[1], how[2]);
        if self.rest {
            text.push_str(&format!("AuthAltTypes=auth/jwt\nAuthAltParameters=jwt_key={root}/jwt.key\n"));
        }
        if self.pyxis {
            text.push_str(&format!("PlugStackConfig={root}/plugstack.conf\n"));
        }
        text.push_str(&if self.accounting {
            format!(
                "AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=127.0.0.1\n\
                 AccountingStoragePort={dbd_port}\nAccountingStoragePass={root}/munge.socket\n"
            )
        } else {
            "AccountingStorageType=accounting_storage/none\n".to_owned()
        });
        text
    }

    /// `cgroup.conf`. Devices stay open: a pretended GPU is a null device, and it would take that away.
    pub(super) fn cgroup_lines(self) -> &'static str {
        if self.cgroups {
            "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nCgroupAutomount=no\n\
             ConstrainRAMSpace=yes\nAllowedRAMSpace=100\nMinRAMSpace=10\nConstrainCores=no\nConstrainDevices=no\n"
        } else {
            "CgroupAutomount=no\n"
        }
    }
}

fn run(program: &str, words: &[&str]) {
    let output = Command::new(program).args(words).env("PATH", PATH).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl Cluster {
    /// Makes the plugin that stands in for pyxis.
    pub(super) fn make_pyxis(&self) {
        let plugin = self.root().join("pyxis.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/harness/pyxis.c");
        run("gcc", &["-shared", "-fPIC", "-o", &plugin.display().to_string(), source]);
        fs::write(self.root().join("plugstack.conf"), format!("required {}\n", plugin.display())).unwrap();
    }

    /// Starts the database and its daemon, before the controller.
    pub(super) fn start_accounting(&mut self, port: u16) {
        let root = self.root().to_owned();
        let at = |name: &str| root.join(name).display().to_string();
        fs::create_dir(at("db")).unwrap();
        let mysql = fs::read_to_string("/etc/passwd").unwrap();
        let mysql = mysql.lines().find(|l| l.starts_with("mysql:")).unwrap().split(':').nth(2).unwrap();
        let mysql: u32 = mysql.parse().unwrap();
        chown(at("db"), Some(mysql), Some(mysql)).unwrap();
        let (data, socket) = (format!("--datadir={}", at("db/data")), at("db/socket"));
        let method = "--auth-root-authentication-method=normal";
        run("mariadb-install-db", &["--no-defaults", "--user=mysql", &data, method, "--skip-test-db"]);
        let own = format!("--socket={socket}");
        let pid = format!("--pid-file={}", at("db/pid"));
        let words = [
            "--no-defaults",
            "--user=mysql",
            &data,
            &own,
            &pid,
            "--skip-networking",
            "--innodb-buffer-pool-size=64M",
        ];
        self.spawn("mariadbd", "mariadbd", &words);
        let sql = "create database slurm; create user slurm@localhost identified by 'slurm'; \
                   grant all on slurm.* to slurm@localhost";
        wait_for("the database answers", PATIENCE, || {
            let done = Command::new("mariadb").args(["-S", &socket, "-u", "root", "-e", sql]).output();
            done.is_ok_and(|o| o.status.success()).then_some(())
        });
        let name = nix::unistd::gethostname().unwrap().into_string().unwrap();
        let text = format!(
            "DbdHost={name}\nDbdAddr=127.0.0.1\nDbdPort={port}\nSlurmUser=root\nAuthType=auth/munge\n\
             AuthInfo=socket={munge}\nLogFile={log}\nPidFile={pid}\nStorageType=accounting_storage/mysql\n\
             StorageHost=localhost\nStorageUser=slurm\nStoragePass=slurm\nStorageLoc=slurm\n",
            munge = at("munge.socket"),
            log = at("slurmdbd.log"),
            pid = at("slurmdbd.pid"),
        );
        fs::write(at("slurmdbd.conf"), text).unwrap();
        fs::set_permissions(at("slurmdbd.conf"), fs::Permissions::from_mode(0o600)).unwrap();
        // The client library of the database takes the path of its socket from here.
        let socket = format!("MYSQL_UNIX_PORT={socket}");
        self.spawn("slurmdbd", "env", &[&socket, "slurmdbd", "-D"]);
        wait_for("accounting answers", PATIENCE, || {
            let said = self.say("sacctmgr", &["-n", "show", "cluster"]);
            (!said.contains("error")).then_some(())
        });
    }

    /// Starts slurmrestd, which does not run as root, behind the controller; returns its lines of the
    /// server's configuration.
    pub fn start_rest(&mut self) -> String {
        let port = free_port();
        let (conf, address) = (self.conf().display().to_string(), format!("127.0.0.1:{port}"));
        // From Slurm 23.02 on all versions are one plugin.
        let old = self.say("sbatch", &["--version"]).contains(" 22.");
        let plugin = if old { "openapi/v0.0.38" } else { "openapi/slurmctld" };
        let words = [
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "env",
            "SLURM_JWT=daemon",
            "slurmrestd",
            "-f",
            &conf,
            "-a",
            "rest_auth/jwt",
            "-s",
            plugin,
            &address,
        ];
        self.spawn("slurmrestd", "setpriv", &words);
        wait_for("slurmrestd listens", PATIENCE, || std::net::TcpStream::connect(&address).ok());
        let file = self.token();
        fs::write(&file, self.say("scontrol", &["token", "lifespan=3600"])).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        format!(
            "[engine.slurm.rest]\nurl = 'http://{address}'\ntoken_file = '{}'\nuser = 'root'\n",
            file.display()
        )
    }

    /// The file with the token for slurmrestd.
    pub fn token(&self) -> PathBuf {
        self.root().join("token")
    }

    /// Removes what cgroups were made for nodes.
    pub(super) fn remove_cgroups(&self) {
        for node in self.nodes() {
            let folders = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
            for folder in folders.map(|e| e.path().join(format!("slurm_{node}"))).filter(|f| f.is_dir()) {
                let words = ["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"];
                let _ = Command::new("find").arg(folder).args(words).stderr(Stdio::null()).status();
            }
        }
    }
}
