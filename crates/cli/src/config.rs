//! Which server, and who we are there.
//!
//! In this order: the command line, the environment (ours, then the original's), what `login`
//! remembered, and a server of this machine whose data folder we can read.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use trainyard_api::{Code, Problem, Secret};
use trainyard_client::{Auth, Client};
use trainyard_manifest::Credential;

use crate::{Error, args::Global, credentials};

/// What `login` remembers.
#[derive(Serialize, Deserialize)]
struct Login {
    url: String,
    token: Secret,
}

/// What a server writes into its data folder.
#[derive(Deserialize)]
struct Address {
    url: String,
}

/// A server, and the way to it.
pub(crate) struct Connection {
    pub(crate) client: Client,
    /// How it was found, for people.
    pub(crate) found: String,
    /// The data folder, of a server on this machine.
    pub(crate) data: Option<PathBuf>,
}

/// A variable that is set to something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

fn home(xdg: &str, fallback: &str) -> PathBuf {
    let base = std::env::var_os(xdg).map(PathBuf::from).filter(|p| p.is_absolute());
    base.unwrap_or_else(|| PathBuf::from(variable("HOME").unwrap_or_else(|| "/".to_owned())).join(fallback))
}

/// Folder of our configuration.
pub(crate) fn config_folder() -> PathBuf {
    home("XDG_CONFIG_HOME", ".config").join("trainyard")
}

/// Folder of a server that was started without saying where.
pub(crate) fn data_folder() -> PathBuf {
    variable("TRAINYARD_DATA")
        .map_or_else(|| home("XDG_DATA_HOME", ".local/share").join("trainyard"), PathBuf::from)
}

/// Folder of the quickstart's server.
pub(crate) fn quickstart_folder() -> PathBuf {
    data_folder().join("quickstart")
}

impl Connection {
    /// Finds the server that is meant.
    pub(crate) fn find(global: &Global) -> Result<Self, Error> {
        let token = variable("TRAINYARD_TOKEN").map(Secret::new);
        if (global.original || global.server.is_none())
            && let Some(url) = variable("ML_ENV")
        {
            let password = variable("ML_PASSWORD").ok_or_else(|| {
                Problem::new(Code::Unauthenticated, format!("ML_ENV names {url}, and ML_PASSWORD is not set"))
                    .hint("set it to the password of ML_USERNAME, or to a token of that server")
            })?;
            let user = variable("ML_USERNAME").unwrap_or_default();
            let auth = Auth::Password { user, password: Secret::new(password) };
            let data = local_data(&url);
            return Ok(Self { client: Client::new(&url, auth)?, found: "ML_ENV".to_owned(), data });
        }
        if let Some(url) = global.server.as_ref().filter(|u| !u.is_empty()) {
            let token = token.or_else(|| remembered(Some(url)).map(|l| l.token)).or_else(|| local_token(url));
            let token = token.ok_or_else(|| {
                Problem::new(Code::Unauthenticated, format!("no token for {url}"))
                    .hint(format!("run `trainyard login {url}`, or set TRAINYARD_TOKEN"))
            })?;
            let client = Client::new(url, Auth::Token(token))?;
            return Ok(Self {
                client,
                found: "--server or TRAINYARD_SERVER".to_owned(),
                data: local_data(url),
            });
        }
        if let Some(login) = remembered(None) {
            let data = local_data(&login.url);
            let client = Client::new(&login.url, Auth::Token(token.unwrap_or(login.token)))?;
            return Ok(Self { client, found: "login".to_owned(), data });
        }
        let folders = [data_folder(), quickstart_folder()];
        for data in &folders {
            if is_running(data)
                && let (Some(url), Some(found)) = (local_url(data), admin_token(data))
            {
                let client = Client::new(&url, Auth::Token(token.unwrap_or(found)))?;
                return Ok(Self {
                    client,
                    found: format!("server of {}", data.display()),
                    data: Some(data.clone()),
                });
            }
        }
        if let Some(data) = folders.iter().find(|d| admin_token(d).is_some()) {
            return Err(not_running(data).into());
        }
        let hint = "start one with `trainyard server`, see one at work with `trainyard quickstart`, or use `trainyard login URL`";
        Err(Problem::new(Code::ServerUnreachable, "no server is known").hint(hint).into())
    }

    /// Named credentials: the user's own, and those of a server on this machine.
    pub(crate) fn credentials(&self) -> Result<BTreeMap<String, Credential>, Error> {
        let mut all = match &self.data {
            Some(data) => credentials::read(&data.join("credentials.toml"))?,
            None => BTreeMap::new(),
        };
        all.extend(credentials::read(&credentials::path())?);
        Ok(all)
    }
}

/// Whether a server holds the data folder.
fn is_running(data: &Path) -> bool {
    let Ok(lock) = fs::File::open(data.join("server.lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(fs::TryLockError::WouldBlock))
}

fn not_running(data: &Path) -> Problem {
    let problem =
        Problem::new(Code::ServerUnreachable, format!("the server of {} is not running", data.display()));
    if data == quickstart_folder() {
        problem.hint("start it with `trainyard quickstart`")
    } else {
        problem.hint(format!("start it with `trainyard server --data {}`", data.display()))
    }
}

fn local_url(data: &Path) -> Option<String> {
    let text = fs::read(data.join("server.json")).ok()?;
    serde_json::from_slice::<Address>(&text).ok().map(|a| a.url)
}

fn local_data(url: &str) -> Option<PathBuf> {
    let same =
        |d: &PathBuf| local_url(d).is_some_and(|u| u.trim_end_matches('/') == url.trim_end_matches('/'));
    [data_folder(), quickstart_folder()].into_iter().find(same)
}

fn local_token(url: &str) -> Option<Secret> {
    local_data(url).and_then(|d| admin_token(&d))
}

/// The administrator's token of a data folder that we may read.
pub(crate) fn admin_token(data: &Path) -> Option<Secret> {
    fs::read_to_string(data.join("admin-token")).ok().map(|t| Secret::new(t.trim()))
}

fn login_path() -> PathBuf {
    config_folder().join("login.json")
}

fn remembered(url: Option<&str>) -> Option<Login> {
    let login: Login = serde_json::from_slice(&fs::read(login_path()).ok()?).ok()?;
    let same = url.is_none_or(|u| u.trim_end_matches('/') == login.url.trim_end_matches('/'));
    same.then_some(login)
}

/// Remembers a server and a token, readable by this user only.
pub(crate) fn remember(url: &str, token: &Secret) -> Result<PathBuf, Error> {
    let path = login_path();
    let login = Login { url: url.trim_end_matches('/').to_owned(), token: token.clone() };
    write_private(&path, &serde_json::to_vec_pretty(&login).unwrap_or_default())?;
    Ok(path)
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::file(path, &e);
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let part = path.with_extension("part");
    let _ = fs::remove_file(&part);
    let mut file =
        fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(&part).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}
