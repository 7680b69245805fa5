//! `rerun`: the same run once more.

use trainyard_api::{NewRun, Run};
use trainyard_client::Client;

use super::train::submitted_run;
use crate::{Error, Output, ids};

/// `rerun RUN`.
pub(crate) async fn rerun(client: &Client, run: &str, follow: bool, output: &Output) -> Result<(), Error> {
    let id = ids::find(client, run).await?;
    let new = again(client.run(&id).await?);
    output.talk(&format!("Starting to train {id} again ..."));
    let run = client.submit(&new).await?;
    submitted_run(client, run, follow, output).await
}

fn again(run: Run) -> NewRun {
    NewRun {
        model_definition: run.entity.model_definition,
        training_data_reference: run.entity.training_data_reference,
        training_results_reference: run.entity.training_results_reference,
    }
}
