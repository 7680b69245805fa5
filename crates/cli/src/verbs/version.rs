//! `version`, as the original printed it.

use serde_json::{Value, json};

use crate::{
    Error, Output,
    output::{Shown, two_columns},
};

struct Version;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const COMMIT: &str = env!("TRAINYARD_COMMIT");

/// When this was built, to the second.
fn built() -> String {
    let seconds = env!("TRAINYARD_BUILT").parse().unwrap_or(0);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| "unknown".to_owned(), |t| t.to_string())
}

impl Shown for Version {
    fn people(&self, _: bool) -> String {
        two_columns(&[
            ("Git Commit Hash:", COMMIT.to_owned()),
            ("UTC Build Time :", built()),
            ("Plugin Version :", VERSION.to_owned()),
        ])
    }

    fn value(&self) -> Value {
        json!({ "commit": COMMIT, "built_at": built(), "version": VERSION })
    }

    fn names(&self) -> Vec<String> {
        vec![VERSION.to_owned()]
    }
}

/// `version`.
pub(crate) fn version(output: &Output) -> Result<(), Error> {
    output.show(&Version)
}
