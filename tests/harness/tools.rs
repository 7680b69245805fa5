//! Clients and stores that others wrote, from PyPI. `./test` installs them.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{PATIENCE, wait_for};

/// The folder of a virtual environment with the tools.
pub struct Tools(PathBuf);

impl Tools {
    /// `None`, said loudly, where they are missing; with `CI=true` that is a failure.
    pub fn find() -> Option<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/test-tools/bin");
        if root.join("aws").exists() && root.join("s5cmd").exists() && root.join("weed").exists() {
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
}

/// A running SeaweedFS.
pub struct Seaweed {
    child: Child,
    pub endpoint: String,
    _dir: tempfile::TempDir,
}

impl Drop for Seaweed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Starts SeaweedFS with this key pair.
pub fn seaweed(tools: &Tools, access_key: &str, secret_key: &str) -> Seaweed {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("s3.json");
    let text = format!(
        r#"{{"identities":[{{"name":"t","credentials":[{{"accessKey":"{access_key}","secretKey":"{secret_key}"}}],
            "actions":["Admin","Read","Write","List","Tagging"]}}]}}"#
    );
    fs::write(&config, text).unwrap();
    // Each server's gRPC port is its own plus 10000 unless it is named: name them all.
    let [s3, s3_grpc, master, master_grpc, volume, volume_grpc, filer, filer_grpc] =
        [(); 8].map(|()| free_port());
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let child = tools
        .command("weed")
        .args(["-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"])
        .arg(format!("-dir={}", dir.path().display()))
        .args(["-s3", &format!("-s3.port={s3}"), &format!("-s3.port.grpc={s3_grpc}")])
        .arg(format!("-s3.config={}", config.display()))
        .args([format!("-master.port={master}"), format!("-master.port.grpc={master_grpc}")])
        .args([format!("-volume.port={volume}"), format!("-volume.port.grpc={volume_grpc}")])
        .args([format!("-filer.port={filer}"), format!("-filer.port.grpc={filer_grpc}")])
        .args(["-master.volumeSizeLimitMB=64", "-volume.max=20"])
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let endpoint = format!("http://127.0.0.1:{s3}");
    let seaweed = Seaweed { child, endpoint, _dir: dir };
    let connection = trainyard_api::Connection {
        endpoint_url: seaweed.endpoint.clone(),
        access_key_id: access_key.to_owned(),
        secret_access_key: trainyard_api::Secret::new(secret_key),
    };
    wait_for("SeaweedFS takes objects", PATIENCE, || {
        super::block_on(async {
            let bucket =
                trainyard_transfer::Bucket::new(&trainyard_transfer::Http::default(), &connection, "ready")
                    .ok()?;
            bucket.create().await.ok()?;
            bucket.put("x", bytes::Bytes::from_static(b"x")).await.ok()
        })
    });
    seaweed
}
