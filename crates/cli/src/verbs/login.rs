//! `login` and `whoami`.

use std::io::{BufRead, IsTerminal};

use serde_json::{Value, json};
use trainyard_api::{Code, Secret};
use trainyard_client::{Auth, Client};

use crate::{
    Error, Output,
    config::{self, Connection},
    output::{Shown, two_columns},
};

/// `login URL`: the token comes from stdin, so that it stands in no history.
pub(crate) async fn login(url: &str, output: &Output) -> Result<(), Error> {
    if std::io::stdin().is_terminal() {
        output.talk("Token (it is the line in the server's `admin-token` file, or what `trainyard server --add-user` printed):");
    }
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|e| Error::new(Code::LocalFile, format!("stdin: {e}")))?;
    let token = Secret::new(line.trim());
    let client = Client::new(url, Auth::Token(token.clone()))?;
    let who = client.instance("default").await?;
    let path = config::remember(url, &token)?;
    let name = who["entity"]["owner"]["user_id"].as_str().unwrap_or("").to_owned();
    output.talk(&format!("You are {name} at {url}; remembered in {}", path.display()));
    Ok(())
}

struct Who {
    value: Value,
}

impl Shown for Who {
    fn people(&self, _: bool) -> String {
        let text = |key: &str| self.value[key].as_str().unwrap_or("").to_owned();
        two_columns(&[
            ("User", text("user")),
            ("Server", text("server")),
            ("Server version", text("version")),
            ("Found by", text("found")),
        ])
    }

    fn value(&self) -> Value {
        self.value.clone()
    }

    fn names(&self) -> Vec<String> {
        vec![self.value["user"].as_str().unwrap_or("").to_owned()]
    }
}

/// `whoami`.
pub(crate) async fn whoami(connection: &Connection, output: &Output) -> Result<(), Error> {
    let instance = connection.client.instance("default").await?;
    let entity = &instance["entity"];
    let value = json!({
        "user": entity["owner"]["user_id"],
        "admin": entity["owner"]["admin"],
        "server": connection.client.url(),
        "version": entity["version"],
        "found": connection.found,
    });
    output.show(&Who { value })
}
