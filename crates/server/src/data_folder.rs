//! The data folder: what lies where, and the keys that are made at the first start.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use trainyard_api::{Secret, random_token};
use trainyard_store::Sealer;

/// Paths of a data folder, which is there and is locked by this process.
#[derive(Debug)]
pub struct DataFolder {
    root: PathBuf,
    _lock: File,
}

/// Where a running server is found. Written into the data folder; holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// URL of the API.
    pub url: String,
    /// The same, as runners on this machine reach it.
    pub runner_url: String,
    /// URL of the embedded object store.
    pub s3_url: Option<String>,
    /// Process id.
    pub pid: u32,
}

impl Address {
    /// Writes it to `path`, whole or not at all.
    pub(crate) fn announce(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let part = path.with_extension("part");
        fs::write(&part, serde_json::to_vec_pretty(self)?)?;
        fs::rename(part, path)
    }
}

/// Keys of the embedded object store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct S3Keys {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
}

/// How long a server that is about to end, or a command that looks whether there is one, may have the
/// folder's lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// Takes the lock at `path`, of a folder that one server at a time may have.
pub(crate) fn take(path: &Path) -> std::io::Result<File> {
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path)?;
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(std::io::Error::other("another server uses it"));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
    }
}

impl DataFolder {
    /// Opens or makes the folder. One server at a time may have it.
    pub fn open(root: &Path) -> std::io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(root)?;
        // Also where somebody made it before us, open to all.
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
        let lock = take(&root.join("server.lock"))?;
        for folder in ["definitions", "logs", "models", "tmp"] {
            fs::create_dir_all(root.join(folder))?;
        }
        // Uploads that were under way when the last server stopped.
        for entry in fs::read_dir(root.join("tmp"))?.flatten() {
            let _ = fs::remove_file(entry.path());
            let _ = fs::remove_dir_all(entry.path());
        }
        Ok(Self { root: root.to_owned(), _lock: lock })
    }

    /// What a program on this machine need not see: keys, databases, other people's code and results.
    pub fn private(root: &Path) -> Vec<PathBuf> {
        let names = [
            "admin-token",
            "secret.key",
            "s3-keys.json",
            "credentials.toml",
            "trainyard.db",
            "trainyard.db-wal",
            "trainyard.db-shm",
            "s3",
            "definitions",
            "models",
            "logs",
            "programs",
            "tmp",
        ];
        names.iter().map(|n| root.join(n)).collect()
    }

    /// Builds of this program that nodes of a cluster fetch.
    pub fn programs(root: &Path) -> PathBuf {
        root.join("programs")
    }

    /// The database.
    pub fn database(&self) -> PathBuf {
        self.root.join("trainyard.db")
    }

    /// Logs of runs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// Half-made files.
    pub fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Zips of definitions.
    pub fn definitions(&self) -> PathBuf {
        self.root.join("definitions")
    }

    /// The zip of a definition, by its SHA-256.
    pub fn definition(&self, sha256: &str) -> PathBuf {
        self.definitions().join(format!("{sha256}.zip"))
    }

    /// Archives of stored models.
    pub fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// The archive called by this id.
    pub fn model(&self, id: trainyard_api::Uuid) -> PathBuf {
        self.models().join(format!("{id}.tar.gz"))
    }

    /// The embedded object store.
    pub fn s3(&self) -> PathBuf {
        self.root.join("s3")
    }

    /// The key that secrets are sealed and tokens signed with; made at the first start.
    pub fn key(&self) -> std::io::Result<[u8; Sealer::KEY_SIZE]> {
        match Self::read_key(&self.root) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let key = Sealer::random_key();
                write_private(&self.root.join("secret.key"), &key)?;
                Ok(key)
            }
            other => other,
        }
    }

    /// When the folder was made, by its key, which is written once.
    pub fn made_at(&self) -> trainyard_api::Time {
        let made = fs::metadata(self.root.join("secret.key")).and_then(|m| m.modified()).ok();
        let since = made.and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        trainyard_api::Time(since.map_or(0, |d| d.as_millis() as i64))
    }

    /// The key of the data folder at `root`.
    pub fn read_key(root: &Path) -> std::io::Result<[u8; Sealer::KEY_SIZE]> {
        let key = fs::read(root.join("secret.key"))?;
        key.try_into().map_err(|_| std::io::Error::other("secret.key does not have 32 bytes"))
    }

    /// Which server this is, for its runners: as long as its key, and no secret.
    pub fn server_id(&self) -> std::io::Result<String> {
        Self::id_of(&self.root)
    }

    /// The same of the server whose folder this is, whether it runs or not.
    pub fn id_of(root: &Path) -> std::io::Result<String> {
        let key = fs::read(root.join("secret.key"))?;
        let hash = <sha2::Sha256 as sha2::Digest>::digest([b"server id", key.as_slice()].concat());
        Ok(hex::encode(&hash[..16]))
    }

    /// The administrator's token; made at the first start.
    pub fn admin_token(&self) -> std::io::Result<Secret> {
        let path = Self::admin_token_path(&self.root);
        match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() >= 20 => Ok(Secret::new(text.trim())),
            Ok(_) => Err(std::io::Error::other(
                "admin-token does not hold a token: remove it, and a new one is made",
            )),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let token = random_token("ty_");
                write_private(&path, format!("{token}\n").as_bytes())?;
                Ok(Secret::new(token))
            }
            Err(e) => Err(e),
        }
    }

    /// Where the administrator's token lies.
    pub fn admin_token_path(root: &Path) -> PathBuf {
        root.join("admin-token")
    }

    /// Keys of the embedded store; made at the first start.
    pub fn s3_keys(&self) -> std::io::Result<S3Keys> {
        let path = Self::s3_keys_path(&self.root);
        match fs::read(&path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let keys = S3Keys {
                    access_key_id: random_token("TY").chars().take(20).collect(),
                    secret_access_key: Secret::new(random_token("")),
                };
                write_private(&path, &serde_json::to_vec_pretty(&keys)?)?;
                Ok(keys)
            }
            Err(e) => Err(e),
        }
    }

    /// Where the keys of the embedded store lie.
    pub fn s3_keys_path(root: &Path) -> PathBuf {
        root.join("s3-keys.json")
    }

    /// Says where this server is.
    pub fn announce(&self, address: &Address) -> std::io::Result<()> {
        address.announce(&Self::address_path(&self.root))
    }

    /// Says that there is no server here any more.
    pub fn withdraw(&self) {
        let _ = fs::remove_file(Self::address_path(&self.root));
    }

    /// Where [`DataFolder::announce`] writes.
    pub fn address_path(root: &Path) -> PathBuf {
        root.join("server.json")
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Whole or not at all: an empty token would let everybody in.
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(part, path)
}
