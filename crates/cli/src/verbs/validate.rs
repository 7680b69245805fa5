//! `validate`: checks a manifest without a server.

use std::path::Path;

use super::train;
use crate::{Error, Output};

/// `validate MANIFEST`.
pub(crate) fn validate(path: &Path, set: &[String], output: &Output) -> Result<(), Error> {
    train::read(path, set)?;
    output.talk(&format!("{}: OK", path.display()));
    Ok(())
}
