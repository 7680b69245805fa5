//! `wait`: ends when the run does, with an exit code that says how.

use std::time::Duration;

use trainyard_api::Code;
use trainyard_client::{Client, MonitorOptions};
use trainyard_manifest::parse_duration;

use super::follow::{interruptible, outcome};
use crate::{Error, Output, ids, output::spinner};

/// `wait RUN [--timeout T]`.
pub(crate) async fn wait(
    client: &Client,
    run: &str,
    timeout: Option<&str>,
    output: &Output,
) -> Result<(), Error> {
    let limit = timeout.map(|text| {
        let seconds = parse_duration(text);
        seconds
            .map(Duration::from_secs)
            .ok_or_else(|| Error::new(Code::Usage, format!("--timeout {text}: write 90, 30m or 12h")))
    });
    let limit = limit.transpose()?;
    let id = ids::find(client, run).await?;
    let spinner = spinner(output, &format!("waiting for {id}"));
    let ending = async {
        // Only the end matters: no log line has to travel.
        let options = MonitorOptions { last: Some(0), only: Some("state"), ..MonitorOptions::default() };
        let mut monitor = client.monitor(&id, options).await?;
        while monitor.next().await?.is_some() {}
        Ok(())
    };
    let ending = interruptible(&id, ending);
    match limit {
        None => ending.await?,
        Some(limit) => match tokio::time::timeout(limit, ending).await {
            Ok(result) => result?,
            Err(_) => {
                return Err(Error::new(
                    Code::TimedOut,
                    format!("{id} has not ended within {} s", limit.as_secs()),
                ));
            }
        },
    }
    spinner.finish_and_clear();
    let run = client.run(&id).await?;
    output.talk(&format!("{id} is {}", run.entity.status.state.as_str()));
    outcome(&run)
}
