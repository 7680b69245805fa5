//! `generate-manifest TYPE`: a manifest to begin with.

use std::{
    io::{ErrorKind, Write},
    path::PathBuf,
};

use trainyard_api::{Code, Problem};
use trainyard_manifest::{SAMPLES, sample};

use crate::{Error, Output, nouns::not_yet};

/// Kinds that the original had, of things that are not there yet.
const LATER: [&str; 7] = [
    "experiments",
    "update-experiments",
    "libraries",
    "update-libraries",
    "runtimes",
    "update-runtimes",
    "batch",
];

/// Writes `<kind>.yml` into this folder. A file that is there is left alone.
pub(crate) fn generate_manifest(kind: &str, output: &Output) -> Result<(), Error> {
    let Some(text) = sample(kind) else {
        if LATER.contains(&kind) {
            return Err(not_yet(kind));
        }
        let problem = Problem::new(Code::Usage, format!("there is no manifest called `{kind}`"));
        return Err(problem.hint(format!("there are {}", SAMPLES.join(", "))).into());
    };
    let path = PathBuf::from(format!("{kind}.yml"));
    let file = std::fs::File::options().create_new(true).write(true).open(&path);
    let written = file.and_then(|mut f| f.write_all(text.as_bytes()));
    written.map_err(|e| match e.kind() {
        ErrorKind::AlreadyExists => {
            let problem = Problem::new(Code::LocalFile, format!("{} is there already", path.display()));
            problem.hint("it is left alone: move it away, or work in another folder").into()
        }
        _ => Error::file(&path, &e),
    })?;
    output.talk("OK");
    if output.is_for_people() {
        output.talk(&format!("A sample manifest file is generated under {}", path.display()));
        Ok(())
    } else {
        output.data(&format!("{}\n", path.display()))
    }
}
