//! Compute configurations: names, and what each asks of a node.

use std::collections::BTreeMap;

use trainyard_api::runner::Demand;

/// One gibibyte.
const GIB: u64 = 1 << 30;

/// The original's names with the sizes of its engine's converter, and sizes without a GPU.
const BUILT_IN: [(&str, f64, u64, u32); 14] = [
    ("cpu", 1.0, 1, 0),
    ("cpux2", 2.0, 4, 0),
    ("cpux4", 4.0, 8, 0),
    ("cpux8", 8.0, 16, 0),
    ("small", 6.0, 12, 1),
    ("medium", 12.0, 24, 2),
    ("large", 24.0, 48, 4),
    ("k80", 4.0, 24, 1),
    ("k80x2", 8.0, 48, 2),
    ("k80x4", 16.0, 96, 4),
    ("p100", 8.0, 24, 1),
    ("p100x2", 16.0, 48, 2),
    ("v100", 26.0, 24, 1),
    ("v100x2", 52.0, 48, 2),
];

/// The catalogue of compute configurations.
#[derive(Clone, Debug, PartialEq)]
pub struct Computes(BTreeMap<String, Demand>);

/// There is no compute configuration of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no compute configuration `{name}`; there are {known}")]
pub struct UnknownCompute {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: String,
}

impl Default for Computes {
    fn default() -> Self {
        let entry = |(name, cpus, gib, gpus): (&str, f64, u64, u32)| {
            (name.to_owned(), Demand { cpus, memory: gib * GIB, gpus })
        };
        Self(BUILT_IN.into_iter().map(entry).collect())
    }
}

impl Computes {
    /// Adds a configuration, or changes one.
    pub fn set(&mut self, name: &str, demand: Demand) {
        self.0.insert(name.to_lowercase(), demand);
    }

    /// What `name` asks for; upper and lower case are one.
    pub fn find(&self, name: &str) -> Result<Demand, UnknownCompute> {
        self.0.get(&name.to_lowercase()).copied().ok_or_else(|| UnknownCompute {
            name: name.to_owned(),
            known: self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Demand)> {
        self.0.iter().map(|(n, d)| (n.as_str(), *d))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_without_regard_to_case() {
        assert_eq!(Computes::default().find("P100").unwrap().gpus, 1);
        assert!(Computes::default().find("tpu").unwrap_err().to_string().contains("k80x4"));
    }
}
