//! A job in the words of slurmrestd's API v0.0.38, made of `sbatch`'s. No I/O.
//!
//! That release of the API takes the long options of `sbatch`, some under other names and most as numbers.
//! What it has no word for is refused when the configuration is read.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::script::JobRequest;

/// How a value is written.
#[derive(Clone, Copy)]
enum As {
    Text,
    Number,
    /// MiB behind which `M` stands.
    Mebibytes,
    /// `90`, `1:30:00`, `2-12`, as minutes.
    Minutes,
    /// The least and the most.
    Range,
    /// Present or not: what that says.
    Flag(bool),
}

/// Options of `sbatch`, and the keys of the API.
const WORDS: [(&str, &str, As); 22] = [
    ("job-name", "name", As::Text),
    ("comment", "comment", As::Text),
    ("output", "standard_output", As::Text),
    ("open-mode", "open_mode", As::Text),
    ("chdir", "current_working_directory", As::Text),
    ("nodes", "nodes", As::Range),
    ("ntasks", "tasks", As::Number),
    ("ntasks-per-node", "tasks_per_node", As::Number),
    ("cpus-per-task", "cpus_per_task", As::Number),
    ("mem", "memory_per_node", As::Mebibytes),
    ("requeue", "requeue", As::Flag(true)),
    ("no-requeue", "requeue", As::Flag(false)),
    ("nodelist", "nodelist", As::Text),
    ("partition", "partition", As::Text),
    ("account", "account", As::Text),
    ("qos", "qos", As::Text),
    ("gres", "gres", As::Text),
    ("constraint", "constraints", As::Text),
    ("time", "time_limit", As::Minutes),
    ("reservation", "reservation", As::Text),
    ("licenses", "licenses", As::Text),
    ("exclusive", "exclusive", As::Text),
];
/// Options that mean nothing here: how `sbatch` prints, and a signal to the batch shell alone, which this API
/// cannot ask for. Without it a job has the cluster's `KillWait` to store in.
const LEFT_OUT: [&str; 2] = ["parsable", "signal"];

/// The body of a submission.
pub(crate) fn body(job: &JobRequest, environment: &BTreeMap<String, String>) -> Result<Value, String> {
    let mut keys = Map::new();
    for option in &job.options {
        if let Some((key, value)) = translate(option)? {
            keys.insert(key.to_owned(), value);
        }
    }
    keys.insert("environment".to_owned(), json!(environment));
    Ok(json!({ "script": job.script, "job": keys }))
}

/// Whether the API has a word for this option.
pub fn check(option: &str) -> Result<(), String> {
    translate(option).map(|_| ())
}

fn translate(option: &str) -> Result<Option<(&'static str, Value)>, String> {
    let word = option.trim_start_matches("--");
    let (name, value) = word.split_once('=').unwrap_or((word, ""));
    if LEFT_OUT.contains(&name) {
        return Ok(None);
    }
    let Some((_, key, form)) = WORDS.iter().find(|(n, _, _)| *n == name) else {
        let known: Vec<&str> = WORDS.iter().map(|(n, _, _)| *n).collect();
        return Err(format!("slurmrestd v0.0.38 cannot be told `--{name}`; it knows {}", known.join(", ")));
    };
    let bad = || format!("`{option}` cannot be written for slurmrestd v0.0.38");
    let value = match form {
        // `--exclusive` alone.
        As::Text if value.is_empty() => json!("true"),
        As::Text => json!(value),
        As::Number => json!(value.parse::<u64>().map_err(|_| bad())?),
        As::Mebibytes => json!(value.trim_end_matches('M').parse::<u64>().map_err(|_| bad())?),
        As::Minutes => json!(minutes(value).ok_or_else(bad)?),
        As::Range => {
            let number: u64 = value.parse().map_err(|_| bad())?;
            json!([number, number])
        }
        As::Flag(says) => json!(says),
    };
    Ok(Some((key, value)))
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
        };
        let body = body(&job, &BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())])).unwrap();
        assert_eq!(
            body,
            json!({
                "script": "#!/bin/sh\n",
                "job": {
                    "name": "a", "nodes": [2, 2], "memory_per_node": 512, "requeue": false,
                    "time_limit": 1564, "gres": "gpu:2", "exclusive": "true",
                    "environment": { "PATH": "/bin" },
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
