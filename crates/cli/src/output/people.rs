//! Tables and lists for people, in the shapes of the original: columns three spaces apart.

use serde_json::{Value, json};
use trainyard_api::{Run, RunState, Time};

use super::Shown;

/// Between two columns.
const GAP: &str = "   ";

/// A field without what a terminal would obey: names and messages come from others.
pub(crate) fn tame(text: &str) -> String {
    let tame =
        |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(tame).collect()
}

/// Rows under a header, columns padded; nothing is ever cut.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|r| r.iter().map(|c| tame(c).replace('\n', "\\n")).collect()).collect();
    let mut widths: Vec<usize> = header.iter().map(|h| h.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: Vec<&str>| {
        let padded =
            cells.iter().zip(&widths).map(|(c, w)| format!("{c}{}", " ".repeat(w - c.chars().count())));
        format!("{}\n", padded.collect::<Vec<_>>().join(GAP).trim_end())
    };
    let mut out = line(header.to_vec());
    for row in &rows {
        out.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    out
}

/// Names and values side by side.
pub(crate) fn two_columns(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(n, _)| n.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let pad = " ".repeat(width - name.chars().count());
        // Later lines of a value stand below its first.
        let value = tame(value).replace('\n', &format!("\n{}{GAP}", " ".repeat(width)));
        format!("{name}{pad}{GAP}{value}").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

/// A list of runs.
pub(crate) struct RunsView {
    pub(crate) runs: Vec<Run>,
    /// The original's header and closing lines.
    pub(crate) original: bool,
}

fn state(run: &Run) -> String {
    let status = &run.entity.status;
    match status.state {
        RunState::Running if status.canceling => "canceling".to_owned(),
        state => state.as_str().to_owned(),
    }
}

impl Shown for RunsView {
    fn people(&self, wide: bool) -> String {
        let mut header = vec!["SI No", "Name", "guid", "status", "framework", "version", "submitted-at"];
        if wide {
            header.extend(["phase", "took", "compute", "environment"]);
        }
        let row = |(n, run): (usize, &Run)| {
            let d = &run.entity.model_definition;
            let s = &run.entity.status;
            let mut row = vec![
                (n + 1).to_string(),
                d.name.clone(),
                run.metadata.guid.to_string(),
                if self.original { s.state.as_str().to_owned() } else { state(run) },
                d.framework.name.clone(),
                d.framework.version.clone(),
                s.submitted_at.to_string(),
            ];
            if wide {
                let end = s.finished_at.unwrap_or_else(Time::now);
                let took = s.running_at.map_or_else(String::new, |t| span(end.since(t)));
                let compute = d.execution.compute_configuration.name.clone();
                row.extend([
                    s.phase.as_str().to_owned(),
                    took,
                    compute,
                    s.environment.clone().unwrap_or_default(),
                ]);
            }
            row
        };
        let rows: Vec<Vec<String>> = self.runs.iter().enumerate().map(row).collect();
        table(&header, &rows)
    }

    fn value(&self) -> Value {
        json!({ "resources": self.runs })
    }

    fn names(&self) -> Vec<String> {
        self.runs.iter().map(|r| r.metadata.guid.to_string()).collect()
    }
}

/// A span of milliseconds.
pub(crate) fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0 => format!("{ms}ms"),
        1..60 => format!("{}.{}s", s, ms % 1000 / 100),
        60..3600 => format!("{}m{:02}s", s / 60, s % 60),
        _ => format!("{}h{:02}m", s / 3600, s / 60 % 60),
    }
}

/// One run.
pub(crate) struct RunView(pub(crate) Run);

impl Shown for RunView {
    fn people(&self, _: bool) -> String {
        let run = &self.0;
        let (d, s) = (&run.entity.model_definition, &run.entity.status);
        let id = |url: &String| {
            let mut parts = url.split('/').skip_while(|p| *p != "training_definitions").skip(1);
            parts.next().unwrap_or("").to_owned()
        };
        let mut rows = vec![
            ("ModelId", run.metadata.guid.to_string()),
            ("url", run.metadata.url.clone()),
            ("Name", d.name.clone()),
            ("Training definition ID", d.definition_href.as_ref().map(id).unwrap_or_default()),
            ("Command", d.execution.command.trim().to_owned()),
            ("Source bucket", run.entity.training_data_reference.bucket().to_owned()),
            ("Target bucket", run.entity.training_results_reference.bucket().to_owned()),
            ("Framework name", d.framework.name.clone()),
            ("Framework version", d.framework.version.clone()),
            ("State", state(run)),
            ("Submitted_at", s.submitted_at.to_string()),
            ("Phase", s.phase.as_str().to_owned()),
            ("Compute", d.execution.compute_configuration.name.clone()),
        ];
        if let Some(nodes) = d.execution.compute_configuration.nodes.filter(|n| *n > 1) {
            let one = |l: &trainyard_api::LearnerStatus| {
                format!("{} {}", l.number, if l.stored { "stored" } else { l.phase.as_str() })
            };
            let each = s.learners.iter().map(one).collect::<Vec<_>>().join(", ");
            let each = if each.is_empty() { each } else { format!(": {each}") };
            rows.push(("Learners", format!("{nodes}{each}")));
        }
        if let Some(environment) = &s.environment {
            rows.push(("Environment", environment.clone()));
        }
        if let Some(why) = &s.waits_for {
            rows.push(("Waits for", why.clone()));
        }
        if s.attempt > 1 {
            rows.push(("Attempt", s.attempt.to_string()));
        }
        if let Some(at) = s.finished_at {
            rows.push(("Finished_at", at.to_string()));
        }
        let times: Vec<String> = s
            .transitions
            .windows(2)
            .map(|w| format!("{} {}", w[0].phase.as_str(), span(w[1].at.since(w[0].at))))
            .collect();
        if !times.is_empty() {
            rows.push(("Phases", times.join(", ")));
        }
        for failure in s.error.iter().flat_map(|e| &e.errors) {
            rows.push(("Reason", format!("{}: {}", failure.code, failure.message)));
            if let Some(code) = failure.exit_code {
                rows.push(("Exit code", code.to_string()));
            }
            if let Some(signal) = &failure.signal {
                rows.push(("Signal", signal.clone()));
            }
        }
        if !s.last_log_lines.is_empty() {
            rows.push(("Last log lines", s.last_log_lines.join("\n")));
        }
        two_columns(&rows)
    }

    fn value(&self) -> Value {
        let mut value = json!(self.0);
        for end in ["training_data_reference", "training_results_reference"] {
            // The client that stores models needs it; a screen does not.
            value["entity"][end]["connection"]["secret_access_key"] = json!("***");
        }
        value
    }

    fn names(&self) -> Vec<String> {
        vec![self.0.metadata.guid.to_string()]
    }
}

/// Frameworks and compute configurations, as the server gives them.
pub(crate) struct FrameworksView {
    pub(crate) value: Value,
    pub(crate) original: bool,
}

impl Shown for FrameworksView {
    fn people(&self, wide: bool) -> String {
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let list = |v: &Value| {
            v.as_array().map_or_else(String::new, |l| l.iter().map(text).collect::<Vec<_>>().join(" "))
        };
        let entries = self.value["resources"].as_array().cloned().unwrap_or_default();
        if self.original {
            let row =
                |(n, e): (usize, &Value)| vec![(n + 1).to_string(), text(&e["name"]), text(&e["version"])];
            let rows: Vec<Vec<String>> = entries.iter().enumerate().map(row).collect();
            return table(&["SI No", "Name", "Version"], &rows);
        }
        let mut header = vec!["Name", "Version", "Python"];
        if wide {
            header.push("Packages");
        }
        let row = |e: &Value| {
            let image = e["image"].as_str();
            let python = image.map_or_else(|| list(&e["runtimes"]), |_| "in an image".to_owned());
            let mut row = vec![text(&e["name"]), text(&e["version"]), python];
            if wide {
                row.push(image.map_or_else(|| list(&e["packages"]), str::to_owned));
            }
            row
        };
        let mut out = table(&header, &entries.iter().map(row).collect::<Vec<_>>());
        let computes = self.value["compute_configurations"].as_array().cloned().unwrap_or_default();
        if !computes.is_empty() {
            let gib = |v: &Value| format!("{:.0} GiB", v.as_f64().unwrap_or(0.0) / f64::from(1 << 30));
            let row = |c: &Value| {
                vec![
                    text(&c["name"]),
                    c["cpus"].to_string(),
                    gib(&c["memory"]),
                    c["gpus"].to_string(),
                    text(&c["unavailable"]),
                ]
            };
            let rows: Vec<Vec<String>> = computes.iter().map(row).collect();
            out.push('\n');
            out.push_str(&table(&["Compute", "CPUs", "Memory", "GPUs", "Not here, because"], &rows));
        }
        out
    }

    fn value(&self) -> Value {
        self.value.clone()
    }

    fn names(&self) -> Vec<String> {
        let entries = self.value["resources"].as_array().cloned().unwrap_or_default();
        let name = |e: &Value| {
            format!("{} {}", e["name"].as_str().unwrap_or(""), e["version"].as_str().unwrap_or(""))
        };
        entries.iter().map(name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_command_the_terminal() {
        let evil = "name\u{1b}]0;title\u{7}\nnext".to_owned();
        let shown = table(&["Name"], &[vec![evil.clone()]]);
        assert_eq!(shown, "Name\nname\\u{1b}]0;title\\u{7}\\nnext\n");
        assert_eq!(two_columns(&[("Name", evil)]), "Name   name\\u{1b}]0;title\\u{7}\n       next\n");
    }
}
