//! `monitor training-runs ID [logs [last N]|metrics]`.

use trainyard_api::{Code, Metric, Phase, Problem};
use trainyard_client::{Client, MonitorOptions};

use super::follow::interruptible;
use crate::{
    Error, Output, ids,
    nouns::Noun,
    output::{spinner, tame},
};

/// What is shown.
#[derive(Clone, Copy, Default)]
struct Wanted {
    phases: bool,
    log: bool,
    metrics: bool,
}

const LOG: Wanted = Wanted { phases: false, log: true, metrics: false };

/// A metric as a line: for people as IBM's client prints it, for programs as JSON.
fn line_of(metric: &Metric, output: &Output) -> String {
    if !output.is_for_people() {
        return serde_json::to_string(metric).map_or_else(|_| String::new(), |json| json + "\n");
    }
    let values: Vec<String> = metric.values.iter().map(|v| format!("{}:{}", v.name, v.value)).collect();
    let (iteration, phase) = (metric.iteration, &metric.phase);
    tame(&format!("{} iteration:{iteration} phase:{phase} {}", metric.timestamp, values.join(" "))) + "\n"
}

/// `monitor training-runs ID …`.
pub(crate) async fn monitor(client: &Client, words: &[String], output: &Output) -> Result<(), Error> {
    let (noun, [run, what @ ..]) = Noun::split(words) else {
        return Err(Error::new(Code::Usage, "which run?"));
    };
    if noun != Noun::TrainingRuns {
        return Err(noun.refuse("monitor"));
    }
    let what: Vec<&str> = what.iter().map(String::as_str).collect();
    let (wanted, last) = match what.as_slice() {
        [] => (Wanted { phases: true, log: true, metrics: true }, None),
        ["metrics"] => (Wanted { metrics: true, ..Wanted::default() }, None),
        ["logs"] => (LOG, None),
        ["logs", "last"] => (LOG, Some(10)),
        ["logs", "last", n] => match n.parse::<usize>() {
            Ok(n) if n <= 1000 => (LOG, Some(n)),
            _ => {
                return Err(Error::new(
                    Code::Usage,
                    format!("`{n}` is not a number of lines from 0 to 1000"),
                ));
            }
        },
        other => {
            let problem =
                Problem::new(Code::Usage, format!("`{}` is not something to monitor", other.join(" ")));
            return Err(problem.hint("write `logs`, `logs last N`, `metrics`, or nothing").into());
        }
    };
    let id = ids::find(client, run).await?;
    output.talk(&format!("Starting to fetch status and metrics messages for model-id '{id}'"));
    let following = async {
        let only = match wanted {
            Wanted { log: true, metrics: false, .. } => Some("log"),
            Wanted { log: false, metrics: true, .. } => Some("metrics"),
            _ => None,
        };
        let options = MonitorOptions { last, only, ..MonitorOptions::default() };
        let mut monitor = client.monitor(&id, options).await?;
        let spinner = spinner(output, "");
        let mut phase: Option<Phase> = None;
        while let Some(frame) = monitor.next().await? {
            let status = frame.status;
            if status.phase != phase && status.phase.is_some() {
                phase = status.phase;
                let word = phase.map_or("", Phase::as_str);
                if wanted.phases {
                    spinner.suspend(|| output.data(&format!("Status: {word}\n")))?;
                }
                spinner.set_message(word.to_lowercase());
            }
            if status.log && wanted.log {
                let line = |l: &str| format!("[--LOGS]      {l}\n");
                let text: String = status.message.lines().map(line).collect();
                spinner.suspend(|| output.data(&text))?;
            }
            for metric in status.metrics.iter().filter(|_| wanted.metrics) {
                spinner.suspend(|| output.data(&line_of(metric, output)))?;
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
