//! Clients that others wrote, from PyPI. `./test` installs them.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The folder of a virtual environment with the tools.
pub struct Tools(PathBuf);

impl Tools {
    /// `None`, said loudly, where they are missing; with `CI=true` that is a failure.
    pub fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/bin");
        if root.join("aws").exists() && root.join("schemathesis").exists() && root.join("../ibm").exists() {
            return Some(Self(root.canonicalize().unwrap()));
        }
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the test tools are missing: run ./test");
        eprintln!("NOT RUN: target/test-tools is missing; ./test makes it");
        None
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.path(name));
        command.stdin(Stdio::null());
        command
    }

    /// A python that imports this version of IBM's client. The versions share what they need.
    pub fn ibm_client(&self, version: &str) -> Command {
        let mut command = self.command("python");
        command.env("PYTHONPATH", self.0.join("../ibm").join(version));
        // Its sockets honour a proxy, and ignore what says that there is none for this machine.
        for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env_remove(proxy);
        }
        command
    }
}
