//! Named credentials: `credentials.toml`, a section per name, readable by its owner only.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use trainyard_api::{Code, Problem, Secret};
use trainyard_manifest::Credential;

use crate::{Error, config};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    endpoint_url: String,
    access_key_id: String,
    secret_access_key: Secret,
}

/// Where the user's credentials are.
pub(crate) fn path() -> PathBuf {
    config::config_folder().join("credentials.toml")
}

/// Reads a credentials file; a missing one is empty. One that others can read is refused.
pub(crate) fn read(path: &Path) -> Result<BTreeMap<String, Credential>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(Error::file(path, &e)),
    };
    let mode = fs::metadata(path).map_err(|e| Error::file(path, &e))?.permissions().mode();
    if mode & 0o077 != 0 {
        let problem =
            Problem::new(Code::Configuration, format!("{} can be read by other users", path.display()));
        return Err(problem.hint(format!("run `chmod 600 {}`", path.display())).into());
    }
    let sections: BTreeMap<String, Section> = toml::from_str(&text).map_err(|e| {
        // The message of the parser would quote the line, and with it the secret.
        let place = e.span().map_or(0, |s| text[..s.start].matches('\n').count() + 1);
        Error::new(Code::Configuration, format!("{}: line {place}: {}", path.display(), e.message()))
    })?;
    let credential = |s: Section| Credential {
        endpoint_url: s.endpoint_url,
        access_key_id: s.access_key_id,
        secret_access_key: s.secret_access_key,
    };
    Ok(sections.into_iter().map(|(name, s)| (name, credential(s))).collect())
}

/// Writes a credentials file with one section.
pub(crate) fn write(path: &Path, name: &str, credential: &Credential) -> Result<(), Error> {
    let section = Section {
        endpoint_url: credential.endpoint_url.clone(),
        access_key_id: credential.access_key_id.clone(),
        secret_access_key: credential.secret_access_key.clone(),
    };
    let text =
        toml::to_string(&BTreeMap::from([(name, section)])).map_err(|e| Error::internal(e.to_string()))?;
    config::write_private(path, text.as_bytes())
}
