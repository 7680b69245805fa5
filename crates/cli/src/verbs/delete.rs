//! `delete training-runs ID`.

use trainyard_client::Client;

use super::only_run;
use crate::{Error, Output};

/// `delete training-runs ID`.
pub(crate) async fn delete(client: &Client, words: &[String], output: &Output) -> Result<(), Error> {
    let id = only_run(client, words).await?;
    output.talk(&format!("Deleting the training run '{id}' ..."));
    client.delete(&id).await?;
    output.talk("OK\nDelete training-runs successful");
    Ok(())
}
