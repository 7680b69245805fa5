//! References in connections: to the environment, and to named credentials.

use trainyard_api::{Code, Problem, Secret};

use crate::Connection;

/// A named credential, from the user's credentials file.
#[derive(Clone, Debug, Default)]
pub struct Credential {
    /// The address of the endpoint.
    pub endpoint_url: String,
    /// The public half of the key pair.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
}

/// A reference that leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unresolved {
    /// The variable is not set.
    #[error("{place}: the environment variable {name} is not set")]
    Variable {
        /// Path in the manifest.
        place: String,
        /// The variable.
        name: String,
    },
    /// There is no such credential.
    #[error("{place}: there is no credential named `{name}`{}", if known.is_empty() { String::new() } else { format!("; there are: {}", known.join(", ")) })]
    Credential {
        /// Path in the manifest.
        place: String,
        /// Its name.
        name: String,
        /// Those that there are.
        known: Vec<String>,
    },
    /// A `${` without a form that is known.
    #[error("{place}: `{text}` is not a reference; write ${{env:NAME}}")]
    Form {
        /// Path in the manifest.
        place: String,
        /// The text.
        text: String,
    },
}

impl Unresolved {
    /// The error as one for users.
    pub fn problem(&self) -> Problem {
        let problem = Problem::new(Code::Manifest, self.to_string());
        match self {
            Self::Credential { .. } => problem.hint(
                "add a section of that name to your credentials.toml; `trainyard doctor` says where it is",
            ),
            _ => problem,
        }
    }
}

/// The connection with every reference replaced. `place` is its path, for messages.
pub fn resolve(
    connection: &Connection,
    place: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    credentials: &std::collections::BTreeMap<String, Credential>,
) -> Result<trainyard_api::Connection, Unresolved> {
    let base = match &connection.name {
        None => Credential::default(),
        Some(name) => credentials.get(name).cloned().ok_or_else(|| Unresolved::Credential {
            place: place.to_owned(),
            name: name.clone(),
            known: credentials.keys().cloned().collect(),
        })?,
    };
    let value = |given: &Option<String>, key: &str, base: String| match given {
        None => Ok(base),
        Some(text) => expand(text, &format!("{place}.{key}"), environment),
    };
    Ok(trainyard_api::Connection {
        endpoint_url: value(&connection.endpoint_url, "endpoint_url", base.endpoint_url)?,
        access_key_id: value(&connection.access_key_id, "access_key_id", base.access_key_id)?,
        secret_access_key: Secret::new(value(
            &connection.secret_access_key,
            "secret_access_key",
            base.secret_access_key.expose().to_owned(),
        )?),
    })
}

fn expand(
    text: &str,
    place: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, Unresolved> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let form =
            || Unresolved::Form { place: place.to_owned(), text: rest[at..].chars().take(60).collect() };
        let end = rest[at..].find('}').ok_or_else(form)? + at;
        let name = rest[at + 2..end].strip_prefix("env:").ok_or_else(form)?;
        let value = environment(name)
            .ok_or_else(|| Unresolved::Variable { place: place.to_owned(), name: name.to_owned() })?;
        out.push_str(&rest[..at]);
        out.push_str(&value);
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environment_and_names() {
        let env = |n: &str| (n == "SECRET").then(|| "s3cr3t".to_owned());
        let mut known = std::collections::BTreeMap::new();
        known.insert(
            "mine".to_owned(),
            Credential {
                endpoint_url: "http://h".into(),
                access_key_id: "a".into(),
                secret_access_key: Secret::new("b"),
            },
        );
        let by_name = Connection { name: Some("mine".into()), ..Connection::default() };
        assert_eq!(resolve(&by_name, "c", &env, &known).unwrap().access_key_id, "a");
        let by_env = Connection { secret_access_key: Some("${env:SECRET}".into()), ..Connection::default() };
        assert_eq!(resolve(&by_env, "c", &env, &known).unwrap().secret_access_key.expose(), "s3cr3t");
        let unset = Connection { access_key_id: Some("${env:NO}".into()), ..Connection::default() };
        assert!(matches!(resolve(&unset, "c", &env, &known), Err(Unresolved::Variable { .. })));
        let odd = Connection { access_key_id: Some("${file:x}".into()), ..Connection::default() };
        assert!(matches!(resolve(&odd, "c", &env, &known), Err(Unresolved::Form { .. })));
        let none = Connection { name: Some("other".into()), ..Connection::default() };
        assert!(matches!(resolve(&none, "c", &env, &known), Err(Unresolved::Credential { .. })));
    }
}
