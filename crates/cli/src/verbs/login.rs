//! `login` and `whoami`.

use std::io::{BufRead, IsTerminal};

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
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
        output.talk("Token (it is the line in the server's `admin-token` file, or what `trainyard server --data DIR --add-user NAME` printed; it is not shown):");
    }
    let line = read_silently().map_err(|e| Error::new(Code::LocalFile, format!("stdin: {e}")))?;
    let token = Secret::new(line.trim());
    if token.expose().is_empty() {
        return Err(trainyard_api::Problem::new(Code::Usage, "no token came on stdin")
            .hint("write `trainyard login URL < FILE`, or type it when asked")
            .into());
    }
    let client = Client::new(url, Auth::Token(token.clone()))?;
    let who = client.instance("default").await?;
    let path = config::remember(url, &token)?;
    let name = who["entity"]["owner"]["user_id"].as_str().unwrap_or("").to_owned();
    output.talk(&format!("You are {name} at {url}; remembered in {}", path.display()));
    Ok(())
}

/// A line of stdin; on a terminal it is not shown while it is typed.
fn read_silently() -> std::io::Result<String> {
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).ok();
    if let Some(before) = &before {
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(&stdin, SetArg::TCSANOW, &silent)?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if let Some(before) = &before {
        tcsetattr(&stdin, SetArg::TCSANOW, before)?;
    }
    read.map(|_| line)
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
