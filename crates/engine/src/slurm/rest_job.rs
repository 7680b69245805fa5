//! A job in the words of slurmrestd's API, made of `sbatch`'s. No I/O.
//!
//! The API takes the long options of `sbatch`, some under other names and most as numbers; from v0.0.40 on numbers are
//! objects and flags are lists. What it has no word for is refused when the configuration is read.
//! Source: what the daemons of Slurm 22.05 and 24.11 took and refused.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::script::JobRequest;

/// The two ways of writing that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// v0.0.38, of Slurm 22.05.
    Old,
    /// From v0.0.40 on, of Slurm 23.11 and later.
    New,
}

/// How a value is written.
#[derive(Clone, Copy)]
enum As {
    Text,
    Number,
    /// MiB behind which `M` stands.
    Mebibytes,
    /// `90`, `1:30:00`, `2-12`, as minutes.
    Minutes,
    /// How many nodes.
    Nodes,
    /// Their names.
    Names,
    /// `gpu:2`.
    Gres,
    /// With whom nodes are shared.
    Sharing,
    /// Present or not: what that says.
    Flag(bool),
}

/// Options of `sbatch`, and the keys of the API, of the old dialect and of the new.
const WORDS: [(&str, &str, &str, As); 22] = [
    ("job-name", "name", "name", As::Text),
    ("comment", "comment", "comment", As::Text),
    ("output", "standard_output", "standard_output", As::Text),
    ("open-mode", "open_mode", "open_mode", As::Text),
    ("chdir", "current_working_directory", "current_working_directory", As::Text),
    ("nodes", "nodes", "nodes", As::Nodes),
    ("ntasks", "tasks", "tasks", As::Number),
    ("ntasks-per-node", "tasks_per_node", "tasks_per_node", As::Number),
    ("cpus-per-task", "cpus_per_task", "cpus_per_task", As::Number),
    ("mem", "memory_per_node", "memory_per_node", As::Mebibytes),
    ("requeue", "requeue", "requeue", As::Flag(true)),
    ("no-requeue", "requeue", "requeue", As::Flag(false)),
    ("nodelist", "nodelist", "required_nodes", As::Names),
    ("partition", "partition", "partition", As::Text),
    ("account", "account", "account", As::Text),
    ("qos", "qos", "qos", As::Text),
    ("gres", "gres", "tres_per_node", As::Gres),
    ("constraint", "constraints", "constraints", As::Text),
    ("time", "time_limit", "time_limit", As::Minutes),
    ("reservation", "reservation", "reservation", As::Text),
    ("licenses", "licenses", "licenses", As::Text),
    ("exclusive", "exclusive", "shared", As::Sharing),
];
/// Options that mean nothing here: how `sbatch` prints.
const LEFT_OUT: [&str; 1] = ["parsable"];
/// The option by which a job's batch shell is warned before its time limit. The old dialect cannot ask for it: a job
/// then has the cluster's `KillWait` to store in.
const WARNING: &str = "signal";

/// The body of a submission.
pub(crate) fn body(
    dialect: Dialect,
    job: &JobRequest,
    environment: &BTreeMap<String, String>,
) -> Result<Value, String> {
    let mut keys = Map::new();
    for option in &job.options {
        keys.extend(translate(dialect, option)?);
    }
    if dialect == Dialect::Old {
        keys.insert("environment".to_owned(), json!(environment));
        return Ok(json!({ "script": job.script, "job": keys }));
    }
    let environment: Vec<String> = environment.iter().map(|(n, v)| format!("{n}={v}")).collect();
    keys.insert("environment".to_owned(), json!(environment));
    keys.insert("script".to_owned(), json!(job.script));
    Ok(json!({ "job": keys }))
}

/// Whether the API has a word for this option.
pub fn check(option: &str) -> Result<(), String> {
    translate(Dialect::Old, option).and_then(|_| translate(Dialect::New, option)).map(|_| ())
}

fn translate(dialect: Dialect, option: &str) -> Result<Vec<(String, Value)>, String> {
    let word = option.trim_start_matches("--");
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    if LEFT_OUT.contains(&name) {
        return Ok(Vec::new());
    }
    let bad = || format!("`{option}` cannot be written for slurmrestd");
    if name == WARNING {
        return match dialect {
            Dialect::Old => Ok(Vec::new()),
            Dialect::New => warning(value).ok_or_else(bad),
        };
    }
    let Some((_, old, new, form)) = WORDS.iter().find(|(n, ..)| *n == name) else {
        let known: Vec<&str> = WORDS.iter().map(|(n, ..)| *n).collect();
        return Err(format!("slurmrestd cannot be told `--{name}`; it knows {}", known.join(", ")));
    };
    let number =
        |n: u64| if dialect == Dialect::Old { json!(n) } else { json!({ "set": true, "number": n }) };
    let parsed = |text: &str| text.parse::<u64>().map_err(|_| bad());
    let written = match (form, dialect) {
        (As::Text, _) | (As::Names | As::Gres, Dialect::Old) if value.is_empty() => return Err(bad()),
        (As::Text, _) | (As::Names | As::Gres, Dialect::Old) => json!(value),
        (As::Number, _) => json!(parsed(value)?),
        (As::Mebibytes, _) => number(parsed(value.trim_end_matches('M'))?),
        (As::Minutes, _) => number(minutes(value).ok_or_else(bad)?),
        (As::Nodes, Dialect::Old) => {
            let n = parsed(value)?;
            json!([n, n])
        }
        (As::Nodes, Dialect::New) => json!(parsed(value)?.to_string()),
        (As::Names, Dialect::New) => json!([value]),
        (As::Gres, Dialect::New) => {
            json!(value.split(',').map(|g| format!("gres/{g}")).collect::<Vec<_>>().join(","))
        }
        // `--exclusive` alone.
        (As::Sharing, Dialect::Old) => json!(if value.is_empty() { "true" } else { value }),
        (As::Sharing, Dialect::New) => json!([if value.is_empty() { "none" } else { value }]),
        (As::Flag(says), _) => json!(says),
    };
    let key = if dialect == Dialect::Old { old } else { new };
    Ok(vec![((*key).to_owned(), written)])
}

/// A signal to the batch shell so many seconds before the time limit: `B:USR2@90`.
fn warning(text: &str) -> Option<Vec<(String, Value)>> {
    let (signal, seconds) = text.strip_prefix("B:")?.split_once('@')?;
    let seconds: u64 = seconds.parse().ok()?;
    Some(vec![
        ("kill_warning_signal".to_owned(), json!(signal)),
        ("kill_warning_flags".to_owned(), json!(["BATCH_JOB"])),
        ("kill_warning_delay".to_owned(), json!({ "set": true, "number": seconds })),
    ])
}

/// Minutes of a time as `sbatch` takes it: minutes, minutes:seconds, hours:minutes:seconds, days-hours,
/// days-hours:minutes, days-hours:minutes:seconds. Seconds make one minute more.
fn minutes(text: &str) -> Option<u64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (Some(days.parse::<u64>().ok()?), rest),
        None => (None, text),
    };
    let parts: Vec<u64> = rest.split(':').map(|p| p.parse().ok()).collect::<Option<_>>()?;
    let (hours, minutes, seconds) = match (days, parts.as_slice()) {
        (None, [m]) => (0, *m, 0),
        (None, [m, s]) => (0, *m, *s),
        (Some(_), [h]) => (*h, 0, 0),
        (Some(_), [h, m]) => (*h, *m, 0),
        (_, [h, m, s]) => (*h, *m, *s),
        _ => return None,
    };
    Some(days.unwrap_or(0) * 24 * 60 + hours * 60 + minutes + u64::from(seconds > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_in_the_words_of_the_api() {
        let options = [
            "--parsable",
            "--job-name=a",
            "--nodes=2",
            "--mem=512M",
            "--no-requeue",
            "--signal=B:USR2@60",
            "--time=1-2:03:04",
            "--gres=gpu:2",
            "--exclusive",
        ];
        let job = JobRequest {
            name: "a".to_owned(),
            options: options.map(str::to_owned).to_vec(),
            script: "#!/bin/sh\n".to_owned(),
            account: None,
        };
        let environment = BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]);
        assert_eq!(
            body(Dialect::Old, &job, &environment).unwrap(),
            json!({
                "script": "#!/bin/sh\n",
                "job": {
                    "name": "a", "nodes": [2, 2], "memory_per_node": 512, "requeue": false,
                    "time_limit": 1564, "gres": "gpu:2", "exclusive": "true",
                    "environment": { "PATH": "/bin" },
                },
            })
        );
        let number = |n: u64| json!({ "set": true, "number": n });
        assert_eq!(
            body(Dialect::New, &job, &environment).unwrap(),
            json!({
                "job": {
                    "name": "a", "nodes": "2", "memory_per_node": number(512), "requeue": false,
                    "time_limit": number(1564), "tres_per_node": "gres/gpu:2", "shared": ["none"],
                    "kill_warning_signal": "USR2", "kill_warning_flags": ["BATCH_JOB"],
                    "kill_warning_delay": number(60),
                    "environment": ["PATH=/bin"], "script": "#!/bin/sh\n",
                },
            })
        );
    }

    #[test]
    fn what_it_has_no_word_for_is_refused() {
        assert!(check("--mail-user=ada").unwrap_err().contains("`--mail-user`"));
        assert!(check("--time=soon").is_err());
        assert!(check("--partition=main").is_ok());
    }

    #[test]
    fn times() {
        for (text, expected) in [("90", 90), ("1:30", 2), ("2:00:00", 120), ("1-0", 1440), ("0-1:30", 90)] {
            assert_eq!(minutes(text), Some(expected), "{text}");
        }
        assert_eq!(minutes(""), None);
    }
}
