//! `login` and `whoami`.

use serde_json::{Value, json};
use trainyard_api::{Code, Secret};
use trainyard_client::{Auth, Client};

use crate::{
    Error, Output,
    config::{self, Connection},
    output::{Shown, two_columns},
    secret_input::read_secret,
};

/// `login URL [--user NAME]`: the token or the password comes from stdin, so that it stands in no history.
pub(crate) async fn login(url: &str, user: Option<&str>, output: &Output) -> Result<(), Error> {
    let prompt = match user {
        Some(user) => format!("Password of {user}"),
        None => "Token (from `trainyard users token NAME`, or the server's `admin-token` file)".to_owned(),
    };
    let typed = read_secret(&prompt).map_err(|e| Error::new(Code::LocalFile, format!("stdin: {e}")))?;
    // A token has no spaces around it; a password may.
    let typed = if user.is_none() { Secret::new(typed.expose().trim()) } else { typed };
    if typed.expose().is_empty() {
        return Err(trainyard_api::Problem::new(Code::Usage, "nothing came on stdin")
            .hint("write `trainyard login URL < FILE`, or type it when asked")
            .into());
    }
    let token = match user {
        None => typed,
        Some(user) => {
            let auth = Auth::Password { user: user.to_owned(), password: typed };
            Client::new(url, auth)?.sign_in().await?
        }
    };
    let client = Client::new(url, Auth::Token(token.clone()))?;
    let who = client.instance("default").await?;
    let path = config::remember(url, &token)?;
    let name = &who.entity.owner.user_id;
    output.talk(&format!("You are {name} at {url}; remembered in {}", path.display()));
    if user.is_some() {
        output.talk("It is good for some hours; a token for scripts is good until it is revoked.");
    }
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
    let entity = connection.client.instance("default").await?.entity;
    let value = json!({
        "user": entity.owner.user_id,
        "admin": entity.owner.admin,
        "server": connection.client.url(),
        "version": entity.version,
        "found": connection.found,
    });
    output.show(&Who { value })
}
