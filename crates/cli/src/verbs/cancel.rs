//! `cancel training-runs ID`.

use trainyard_client::Client;

use super::only_run;
use crate::{Error, Output};

/// `cancel training-runs ID`.
pub(crate) async fn cancel(client: &Client, words: &[String], output: &Output) -> Result<(), Error> {
    let id = only_run(client, words).await?;
    let state = client.run(&id).await?.entity.status.state;
    if state.is_final() && !output.is_original() {
        output.talk(&format!("{id} has ended already: it is {}", state.as_str()));
        return Ok(());
    }
    output.talk(&format!("Canceling training for MODEL-ID '{id}'..."));
    client.cancel(&id).await?;
    output.talk("OK\nCancel training successful");
    Ok(())
}
