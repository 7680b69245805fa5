//! From what a manifest asks for to one entry of the catalogue.

use trainyard_api::{Framework, runner::EnvironmentSpec};

use crate::{Catalogue, Entry, Original, Python};

/// What a framework was resolved to.
pub type Resolved = EnvironmentSpec;

/// There is no such framework, version or python.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unknown {
    /// What is not there.
    pub message: String,
    /// What there is.
    pub hint: String,
}

impl Catalogue {
    /// The newest entry that fits, for the pythons of the node that will run it.
    pub fn resolve(&self, asked: &Framework, pythons: &[Python], gpu: bool) -> Result<Resolved, Unknown> {
        let wanted_python = asked.runtimes.iter().find(|r| r.name.eq_ignore_ascii_case("python"));
        let wanted_python = wanted_python.map_or("3", |r| r.version.as_str());
        let named: Vec<&Entry> =
            self.entries.iter().filter(|e| e.name.eq_ignore_ascii_case(&asked.name)).collect();
        if named.is_empty() {
            return Err(self.unknown_name(asked));
        }
        let mut fitting: Vec<&Entry> = named
            .iter()
            .copied()
            .filter(|e| e.packages.is_empty() || begins(&e.version, &asked.version))
            .collect();
        if fitting.is_empty() {
            return Err(self.unknown_version(asked, &named));
        }
        fitting.sort_by_key(|e| std::cmp::Reverse(version_key(&e.version)));
        for entry in &fitting {
            let runs_on = |p: &&Python| {
                begins(&p.version, wanted_python) && entry.python.iter().any(|v| begins(&p.version, v))
            };
            if let Some(python) = pythons.iter().find(runs_on) {
                return Ok(spec(entry, python, gpu));
            }
        }
        // A manifest of 2018 asks for python 3.5, which no machine has: any that runs will do,
        // as long as it is a 3. What was chosen is said by `show`.
        for entry in &fitting {
            let runs_on = |p: &&Python| entry.python.iter().any(|v| begins(&p.version, v));
            if wanted_python.starts_with('3')
                && is_retired(wanted_python)
                && let Some(python) = pythons.iter().find(runs_on)
            {
                return Ok(spec(entry, python, gpu));
            }
        }
        let supported: Vec<&str> = fitting.iter().flat_map(|e| &e.python).map(String::as_str).collect();
        let here: Vec<&str> = pythons.iter().map(|p| p.version.as_str()).collect();
        Err(Unknown {
            message: format!("no python {wanted_python} that {} {} runs on", asked.name, asked.version),
            hint: format!("it runs on python {}; this node has {}", list(&supported), list(&here)),
        })
    }

    fn unknown_name(&self, asked: &Framework) -> Unknown {
        if let Some(old) = self.originals.iter().find(|o| o.name.eq_ignore_ascii_case(&asked.name)) {
            let [name, version] = &old.nearest;
            return Unknown {
                message: format!(
                    "{} {} was a framework of the original service, and nothing runs it today",
                    asked.name, asked.version
                ),
                hint: format!("the nearest that can run is {name} {}", self.newest(name, version)),
            };
        }
        let mut names: Vec<&str> = self.entries.iter().map(|e| e.name.as_str()).collect();
        names.dedup();
        let scored = names.iter().map(|n| (strsim::damerau_levenshtein(n, &asked.name.to_lowercase()), *n));
        let near = scored.min().filter(|(d, _)| *d <= 3).map(|(_, n)| format!("did you mean `{n}`? "));
        Unknown {
            message: format!("there is no framework `{}`", asked.name),
            hint: format!("{}there are {}", near.unwrap_or_default(), list(&names)),
        }
    }

    fn unknown_version(&self, asked: &Framework, named: &[&Entry]) -> Unknown {
        let plain = asked.version.split('-').next().unwrap_or("");
        let old = self.originals.iter().find(|o| {
            o.name.eq_ignore_ascii_case(&asked.name)
                && o.versions.iter().any(|v| begins(plain, v) || begins(v, plain))
        });
        let versions: Vec<&str> = named.iter().map(|e| e.version.as_str()).collect();
        match old {
            Some(Original { nearest: [name, version], .. }) => Unknown {
                message: format!(
                    "{} {} was a version of the original service, and nothing runs it today",
                    asked.name, asked.version
                ),
                hint: format!("the nearest that can run is {name} {}", self.newest(name, version)),
            },
            None => Unknown {
                message: format!("there is no {} {}", asked.name, asked.version),
                hint: format!("there is {}", list(&versions)),
            },
        }
    }

    fn newest(&self, name: &str, prefix: &str) -> String {
        let fitting = self.entries.iter().filter(|e| e.name == name && begins(&e.version, prefix));
        fitting
            .max_by_key(|e| version_key(&e.version))
            .map_or_else(|| prefix.to_owned(), |e| e.version.clone())
    }
}

fn spec(entry: &Entry, python: &Python, gpu: bool) -> Resolved {
    let packages = if gpu { entry.gpu.as_ref().unwrap_or(&entry.packages) } else { &entry.packages };
    let short = python.version.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    let mut packages = packages.clone();
    packages.extend(entry.exclude.iter().map(|e| format!("!{e}")));
    let label = if packages.is_empty() {
        format!("{}, python {}", entry.name, python.version)
    } else {
        format!("{} {}, python {short}", entry.name, entry.version)
    };
    Resolved { label, python: short, packages, container: None }
}

/// Whether `version` is `prefix`, or goes on behind it with a dot.
pub(crate) fn begins(version: &str, prefix: &str) -> bool {
    version.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

pub(crate) fn version_key(version: &str) -> Vec<u64> {
    version.split('.').map(|p| p.parse().unwrap_or(0)).collect()
}

/// Versions of python that no current framework supports.
fn is_retired(python: &str) -> bool {
    python
        .strip_prefix("3.")
        .and_then(|m| m.split('.').next()?.parse::<u32>().ok())
        .is_some_and(|minor| minor < 9)
}

fn list(words: &[&str]) -> String {
    let mut sorted: Vec<&str> = words.to_vec();
    sorted.sort_by_key(|w| version_key(w));
    sorted.dedup();
    if sorted.is_empty() { "none".to_owned() } else { sorted.join(", ") }
}

#[cfg(test)]
mod tests {
    use trainyard_api::Runtime;

    use super::*;

    fn asked(name: &str, version: &str, python: Option<&str>) -> Framework {
        let runtime = |v: &str| Runtime { name: "python".into(), version: v.into() };
        Framework {
            name: name.into(),
            version: version.into(),
            runtimes: python.map(runtime).into_iter().collect(),
        }
    }

    fn here() -> Vec<Python> {
        vec![Python { version: "3.11.7".into(), path: "/usr/bin/python3.11".into() }]
    }

    fn resolve(framework: &Framework) -> Result<Resolved, Unknown> {
        Catalogue::built_in().resolve(framework, &here(), false)
    }

    #[test]
    fn a_beginning_takes_the_newest() {
        assert_eq!(resolve(&asked("tensorflow", "2", None)).unwrap().label, "tensorflow 2.21.0, python 3.11");
        assert_eq!(
            resolve(&asked("TensorFlow", "2.20", None)).unwrap().label,
            "tensorflow 2.20.0, python 3.11"
        );
        assert!(resolve(&asked("tensorflow", "2.2", None)).is_err());
    }

    #[test]
    fn the_originals_are_answered_with_the_nearest() {
        let error = resolve(&asked("tensorflow", "1.5", Some("3.5"))).unwrap_err();
        assert!(
            error.message.contains("original service") && error.hint.contains("tensorflow 2.21.0"),
            "{error:?}"
        );
        assert!(resolve(&asked("caffe", "1.0", None)).unwrap_err().hint.contains("pytorch"));
        assert!(
            resolve(&asked("tensorflow", "1.5-py3-horovod", None)).unwrap_err().message.contains("original")
        );
    }

    #[test]
    fn the_unknown_is_answered_with_what_there_is() {
        assert!(
            resolve(&asked("tensorflw", "2", None)).unwrap_err().hint.contains("did you mean `tensorflow`")
        );
        assert!(resolve(&asked("jax", "7", None)).unwrap_err().hint.contains("0.10.2"));
        let python = resolve(&asked("jax", "0", Some("3.12"))).unwrap_err();
        assert!(python.message.contains("3.12") && python.hint.contains("3.11.7"), "{python:?}");
    }

    #[test]
    fn a_retired_python_takes_what_runs() {
        assert_eq!(resolve(&asked("numpy", "2", Some("3.5"))).unwrap().python, "3.11");
    }

    #[test]
    fn custom_takes_any_version() {
        assert!(resolve(&asked("custom", "7", None)).unwrap().packages.is_empty());
    }
}
