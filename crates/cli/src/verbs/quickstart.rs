//! `quickstart`.

use std::path::PathBuf;

use crate::{Error, Output};

pub(crate) async fn quickstart(_: Option<PathBuf>, _: &Output) -> Result<(), Error> {
    Err(Error::internal("soon"))
}
