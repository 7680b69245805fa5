//! `version`, as the original printed it.

use serde_json::{Value, json};

use crate::{
    Error, Output,
    output::{Shown, two_columns},
};

struct Version;

const VERSION: &str = env!("CARGO_PKG_VERSION");

impl Shown for Version {
    fn people(&self, _: bool) -> String {
        two_columns(&[("Plugin Version :", VERSION.to_owned())])
    }

    fn value(&self) -> Value {
        json!({ "version": VERSION })
    }

    fn names(&self) -> Vec<String> {
        vec![VERSION.to_owned()]
    }
}

/// `version`.
pub(crate) fn version(output: &Output) -> Result<(), Error> {
    output.show(&Version)
}
