//! The table of `docs/benchmarks.md`: measured here, now, beside the peer that is named.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench stops at the first surprise, and prints"
)]

mod api;
mod cluster;
mod control;
mod data;
mod rig;

/// The cluster of the tests, which asks for what stands below.
#[allow(dead_code, unreachable_pub, clippy::print_stderr, reason = "a bench asks less of it than the tests")]
#[path = "../tests/harness/cluster.rs"]
mod test_cluster;

use std::time::{Duration, Instant};

use rig::{Row, Table};

const PATIENCE: Duration = Duration::from_mins(1);

fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Measures some rows.
type Measure = fn() -> Vec<Row>;

fn main() {
    // cargo hands a `--bench` along.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut table = Table::default();
    let groups: [(&str, Measure); 12] = [
        ("start", control::start),
        ("submit", control::submit),
        ("noop", control::noop),
        ("crash", control::crash),
        ("list", control::list),
        ("staging", data::staging),
        ("output", data::output),
        ("follow", data::follow),
        ("sign-in", api::sign_in),
        ("show", api::show),
        ("monitors", api::monitors),
        ("slurm", cluster::measure),
    ];
    for (name, measure) in groups {
        if wants(name) {
            say(&format!("measuring {name} ..."));
            let rows = measure();
            for Row(what, measured, beside, _) in &rows {
                say(&format!("  {what}: {measured}  {beside}"));
            }
            table.add(rows);
        }
    }
    println!("{table}");
}

fn say(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{text}");
}
