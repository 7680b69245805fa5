//! What happened, and what was found: a table for people, and a line for each violation.

use std::{collections::BTreeMap, fmt};

/// Counts, and what should not have been.
#[derive(Default)]
pub struct Report {
    pub seed: u64,
    faults: BTreeMap<String, u64>,
    checks: BTreeMap<&'static str, u64>,
    ends: BTreeMap<String, u64>,
    pub violations: Vec<String>,
    /// The most bytes of memory that the server was seen to have.
    pub memory: u64,
}

impl Report {
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds what another world has seen.
    pub fn add(&mut self, other: Self) {
        fn sum<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
            for (key, n) in from {
                *to.entry(key).or_default() += n;
            }
        }
        sum(&mut self.faults, other.faults);
        sum(&mut self.checks, other.checks);
        sum(&mut self.ends, other.ends);
        self.violations.extend(other.violations);
        self.memory = self.memory.max(other.memory);
    }

    pub fn fault(&mut self, kind: &str) {
        *self.faults.entry(kind.to_owned()).or_default() += 1;
    }

    pub fn faults(&self) -> u64 {
        self.faults.values().sum()
    }

    /// How many faults there were whose kind begins like this.
    pub fn faults_of(&self, kind: &str) -> u64 {
        self.faults.iter().filter(|(k, _)| k.starts_with(kind)).map(|(_, n)| n).sum()
    }

    pub fn checked(&mut self, what: &'static str, how_many: u64) {
        *self.checks.entry(what).or_default() += how_many;
    }

    pub fn ended(&mut self, how: &str) {
        *self.ends.entry(how.to_owned()).or_default() += 1;
    }

    /// How many runs have ended in a way.
    pub fn ended_as(&self, how: &str) -> u64 {
        self.ends.get(how).copied().unwrap_or(0)
    }

    pub fn runs(&self) -> u64 {
        self.ends.values().sum()
    }

    /// Notes, and says at once, what should not have been.
    pub fn violation(&mut self, what: String) {
        println!("VIOLATION seed={} faults={}: {what}", self.seed, self.faults());
        self.violations.push(what);
    }

    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violation(what());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = |title: &str, rows: &mut dyn Iterator<Item = (&str, u64)>| {
            writeln!(f, "{title}")?;
            for (name, n) in rows {
                writeln!(f, "    {name:<40} {n:>9}")?;
            }
            Ok(())
        };
        table(
            &format!("{:<44} {:>9}", "faults", self.faults()),
            &mut self.faults.iter().map(|(k, n)| (&**k, *n)),
        )?;
        table(&format!("{:<44} {:>9}", "runs", self.runs()), &mut self.ends.iter().map(|(k, n)| (&**k, *n)))?;
        table("checked", &mut self.checks.iter().map(|(k, n)| (*k, *n)))?;
        writeln!(f, "{:<44} {:>9}", "violations", self.violations.len())?;
        writeln!(f, "{:<44} {:>6} MiB", "most memory of the server", self.memory >> 20)?;
        write!(f, "seed {}", self.seed)
    }
}
