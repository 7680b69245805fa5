//! `delete training-runs ID`.

use trainyard_client::Client;

use crate::{Error, Output, ids};

/// `delete training-runs ID`.
pub(crate) async fn delete(client: &Client, run: &str, output: &Output) -> Result<(), Error> {
    let id = ids::find(client, run).await?;
    output.talk(&format!("Deleting the training run '{id}' ..."));
    client.delete(&id).await?;
    output.talk("OK\nDelete training-runs successful");
    Ok(())
}
