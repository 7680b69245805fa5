//! `monitor training-runs ID [logs [last N]|metrics]`.

use trainyard_api::{Code, Phase, Problem};
use trainyard_client::{Client, MonitorOptions};

use super::follow::interruptible;
use crate::{Error, Output, ids, output::spinner};

/// `monitor training-runs ID …`.
pub(crate) async fn monitor(client: &Client, words: &[String], output: &Output) -> Result<(), Error> {
    let [run, what @ ..] = ids::after_noun(words) else {
        return Err(Error::new(Code::Usage, "which run?"));
    };
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    let (phases, last) = match what.as_slice() {
        [] => (true, None),
        ["logs"] => (false, None),
        ["logs", "last"] => (false, Some(10)),
        ["logs", "last", n] => match n.parse::<usize>() {
            Ok(n) if n <= 1000 => (false, Some(n)),
            _ => {
                return Err(Error::new(
                    Code::Usage,
                    format!("`{n}` is not a number of lines from 0 to 1000"),
                ));
            }
        },
        ["metrics"] => {
            return Err(Problem::new(Code::NotYet, "metrics are not collected yet")
                .hint("what the program prints is in `monitor training-runs ID logs`")
                .into());
        }
        other => {
            let problem =
                Problem::new(Code::Usage, format!("`{}` is not something to monitor", other.join(" ")));
            return Err(problem.hint("write `logs`, `logs last N`, or nothing").into());
        }
    };
    let id = ids::find(client, run).await?;
    output.talk(&format!("Starting to fetch status messages for model-id '{id}'"));
    let following = async {
        let options = MonitorOptions { last, ..MonitorOptions::default() };
        let mut monitor = client.monitor(&id, options).await?;
        let spinner = spinner(output, "");
        let mut phase: Option<Phase> = None;
        while let Some(frame) = monitor.next().await? {
            let status = frame.status;
            if status.phase != phase && status.phase.is_some() {
                phase = status.phase;
                let word = phase.map_or("", Phase::as_str);
                if phases {
                    spinner.suspend(|| output.data(&format!("Status: {word}\n")))?;
                }
                spinner.set_message(word.to_lowercase());
            }
            if status.log {
                let line = |l: &str| format!("[--LOGS]      {l}\n");
                let text: String = status.message.lines().map(line).collect();
                spinner.suspend(|| output.data(&text))?;
            }
        }
        spinner.finish_and_clear();
        Ok(())
    };
    interruptible(&id, following).await?;
    if output.is_original() {
        output.talk("OK\nMonitor training-runs successful");
    }
    Ok(())
}
