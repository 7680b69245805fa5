//! `frameworks`: what can be asked for.

use serde_json::json;
use trainyard_environment::{Catalogue, Entry};

use crate::{Error, Output, args::Global, config::Connection, output::FrameworksView};

/// `frameworks`, and `list frameworks`. Without a server, what comes with this release.
pub(crate) async fn frameworks(global: &Global, output: &Output) -> Result<(), Error> {
    let value = if let Ok(connection) = Connection::find(global) {
        connection.client.frameworks().await?
    } else {
        output.talk("no server is known: this is the catalogue of this release");
        let entry = |e: &Entry| json!({ "name": e.name, "version": e.version, "runtimes": e.python, "packages": e.packages });
        json!({ "resources": Catalogue::built_in().entries.iter().map(entry).collect::<Vec<_>>() })
    };
    output.show(&FrameworksView { value, original: output.is_original() })?;
    if output.is_original() {
        output.talk("OK\nList frameworks successful");
    }
    Ok(())
}
