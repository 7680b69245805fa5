//! A server of its own for each test, and hands to use it with.

mod cluster;
mod dice;
mod image;
mod requests;
mod tools;
mod yard;

pub use cluster::{Cluster, Parts, Shape};
pub use dice::Dice;
pub use image::{IN_IMAGE, archive, image_root, sif};
pub use requests::Asker;
pub use tools::Tools;
pub use yard::{Said, Yard, block_on, code_folder, fork_server, programs};

use std::time::{Duration, Instant};

/// Waits for a condition; what it gave is returned. Panics past the deadline, and says for what.
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Compares what is generated now with what is committed; `UPDATE_GENERATED=1` writes it.
pub fn compare_generated(path: &str, now: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, now).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "{} is stale: UPDATE_GENERATED=1 ./test", path.display());
}

/// Ordinary patience: far more than anything here takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_mins(1);
