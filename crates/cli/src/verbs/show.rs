//! `show training-runs ID`.

use std::time::Duration;

use trainyard_client::Client;

use super::follow::redraw;
use crate::{Error, Output, ids, output::RunView};

/// Time between two looks while watching.
const PAUSE: Duration = Duration::from_millis(500);

/// `show training-runs ID`.
pub(crate) async fn show(client: &Client, run: &str, watch: bool, output: &Output) -> Result<(), Error> {
    let id = ids::find(client, run).await?;
    if output.is_original() {
        output.talk(&format!("Fetching the training runs details with MODEL-ID '{id}' ..."));
    }
    let mut shown = String::new();
    loop {
        let run = client.run(&id).await?;
        let ended = run.entity.status.state.is_final();
        if watch {
            redraw(output, &RunView(run), &mut shown)?;
        } else {
            output.show(&RunView(run))?;
        }
        if !watch || ended {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    if output.is_original() {
        output.talk("OK\nShow training-runs details successful");
    }
    Ok(())
}
