//! `train`: check, pack, upload, submit.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytesize::ByteSize;
use clap::ValueEnum;
use serde_json::json;
use trainyard_api::{
    Bucket, Code, ComputeConfiguration, DataReference, Execution, Framework, ModelDefinition, NewDefinition,
    NewRun, Problem, Run, Runtime, runner::EngineName,
};
use trainyard_client::Client;
use trainyard_definition::{Limits, Packed, check, pack};
use trainyard_manifest::{TrainingManifest, parse, resolve};

use super::{definitions, follow};
use crate::{
    Error, Output,
    args::TrainArguments,
    config::Connection,
    nouns::Noun,
    output::{RunView, bar, spinner},
};

/// `train CODE MANIFEST`.
pub(crate) async fn train(
    connection: &Connection,
    arguments: &TrainArguments,
    output: &Output,
) -> Result<(), Error> {
    let (code, manifest) = match arguments.words.as_slice() {
        [code, manifest] => (code, manifest),
        [noun, definition, version, manifest]
            if Noun::from_str(noun, false) == Ok(Noun::TrainingDefinitions) =>
        {
            return train_stored(connection, definition, version, manifest, arguments, output).await;
        }
        words => {
            let problem = Problem::new(Code::Usage, format!("`train {}` is not complete", words.join(" ")));
            let hint = "write `train CODE MANIFEST` or `train training-definitions ID VERSION MANIFEST`";
            return Err(problem.hint(hint).into());
        }
    };
    let manifest = read(Path::new(manifest), &arguments.set)?;
    let mut new = run_of(&manifest, connection)?;
    output.talk("Starting to train ...");
    let zip = Zip::of(Path::new(code), output)?;

    let client = &connection.client;
    let definition = client.create_definition(&definition_of(&manifest)).await?;
    let id = definition.metadata.guid.to_string();
    let bar = bar(output, "uploading", zip.size);
    let meter = bar.clone();
    let content_url = &definition.entity.training_definition_version.content_url;
    let submitted = async {
        client.put_content(content_url, zip.path(), Arc::new(move |n| meter.inc(n))).await?;
        bar.finish_and_clear();
        new.model_definition.definition_href = Some(definition.metadata.url.clone());
        client.submit(&new).await
    };
    let run = match submitted.await {
        Ok(run) => run,
        Err(failed) => {
            // Nothing refers to it; one that stays does no harm.
            let _ = client.delete_definition(&id).await;
            return Err(failed.into());
        }
    };
    submitted_run(client, run, arguments.follow, output).await
}

/// `train training-definitions ID VERSION MANIFEST`.
async fn train_stored(
    connection: &Connection,
    definition: &str,
    version: &str,
    manifest: &str,
    arguments: &TrainArguments,
    output: &Output,
) -> Result<(), Error> {
    let client = &connection.client;
    let manifest = read(Path::new(manifest), &arguments.set)?;
    let mut new = run_of(&manifest, connection)?;
    output.talk("Starting to train ...");
    let definition = definitions::find(client, definition).await?;
    new.model_definition.definition_href = Some(format!("{}/versions/{version}", definition.metadata.url));
    let run = client.submit(&new).await?;
    submitted_run(client, run, arguments.follow, output).await
}

/// Says which run it is, and follows it where that is asked for.
pub(crate) async fn submitted_run(
    client: &Client,
    run: Run,
    follow: bool,
    output: &Output,
) -> Result<(), Error> {
    let id = run.metadata.guid.to_string();
    if output.is_for_people() {
        output.talk("OK");
        output.data(&format!("Model-ID is '{id}'\n"))?;
    } else {
        output.show(&RunView(run))?;
    }
    if follow { follow::to_the_end(client, &id, output).await } else { Ok(()) }
}

/// Reads and checks a manifest.
pub(crate) fn read(path: &Path, set: &[String]) -> Result<TrainingManifest, Error> {
    Ok(parse(&path.display().to_string(), &text_of(path)?, set)?)
}

/// The text of a manifest.
pub(crate) fn text_of(path: &Path) -> Result<String, Error> {
    let text = std::fs::read(path).map_err(|e| Error::file(path, &e))?;
    let text = String::from_utf8(text).map_err(|e| {
        let line = e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
        Error::new(Code::Manifest, format!("{}: line {line} is not UTF-8 text", path.display()))
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// What is packed, checked and ready to go.
pub(crate) enum Zip {
    Given { path: PathBuf, size: u64 },
    Made { file: tempfile::NamedTempFile, size: u64 },
}

/// See [`Zip`].
pub(crate) struct Ready {
    zip: Zip,
    pub(crate) size: u64,
}

impl Ready {
    pub(crate) fn path(&self) -> &Path {
        match &self.zip {
            Zip::Given { path, .. } => path,
            Zip::Made { file, .. } => file.path(),
        }
    }
}

impl Zip {
    pub(crate) fn of(code: &Path, output: &Output) -> Result<Ready, Error> {
        let zip = if code.is_dir() { Self::made(code, output)? } else { Self::given(code)? };
        let size = match &zip {
            Self::Given { size, .. } | Self::Made { size, .. } => *size,
        };
        Ok(Ready { zip, size })
    }

    fn given(path: &Path) -> Result<Self, Error> {
        let size = std::fs::metadata(path).map_err(|e| Error::file(path, &e))?.len();
        // The server checks again, by its own limits; here a bad zip is refused before it travels.
        let limits =
            Limits { zip_bytes: u64::MAX, unpacked_bytes: u64::MAX, entries: u64::MAX, ratio: u64::MAX };
        check(path, &limits).map_err(|e| named(path, e.problem()))?;
        Ok(Self::Given { path: path.to_owned(), size })
    }

    fn made(folder: &Path, output: &Output) -> Result<Self, Error> {
        let file = tempfile::Builder::new().suffix(".zip").tempfile();
        let file = file.map_err(|e| Error::new(Code::LocalFile, format!("a temporary file: {e}")))?;
        let spinner = spinner(output, "packing");
        let packed = pack(folder, file.path()).map_err(|e| named(folder, e.problem()));
        spinner.finish_and_clear();
        let packed = packed?;
        describe(folder, &packed, output);
        Ok(Self::Made { file, size: packed.zip_bytes })
    }
}

fn named(path: &Path, problem: Problem) -> Error {
    Problem { message: format!("{}: {}", path.display(), problem.message), ..problem }.into()
}

fn describe(folder: &Path, packed: &Packed, output: &Output) {
    let size = |n| ByteSize(n).display().iec().to_string();
    output.talk(&format!(
        "Packed {}: {} files, {}, {} zipped",
        folder.display(),
        packed.files,
        size(packed.bytes),
        size(packed.zip_bytes)
    ));
    for (name, bytes) in &packed.largest {
        output.talk(&format!("  {:>10}  {name}", size(*bytes)));
    }
    for name in &packed.left_out {
        output.talk(&format!("  left out: {name}"));
    }
}

/// A framework as requests have it.
pub(crate) fn framework_value(f: &trainyard_manifest::Framework) -> Framework {
    let runtime =
        |r: &trainyard_manifest::Runtime| Runtime { name: r.name.clone(), version: r.version.clone() };
    Framework {
        name: f.name.clone(),
        version: f.version.clone(),
        runtimes: f.runtimes.iter().map(runtime).collect(),
    }
}

/// An author as requests have it.
pub(crate) fn author_value(a: &trainyard_manifest::Author) -> serde_json::Value {
    json!({ "name": a.name, "email": a.email })
}

fn definition_of(manifest: &TrainingManifest) -> NewDefinition {
    let d = &manifest.model_definition;
    NewDefinition {
        name: d.name.clone(),
        description: d.description.clone(),
        author: d.author.as_ref().map(author_value),
        framework: framework_value(&d.framework),
        command: Some(d.execution.command.clone()),
        training_data_reference: None,
    }
}

/// The request that the manifest asks for, with its references resolved.
fn run_of(manifest: &TrainingManifest, connection: &Connection) -> Result<NewRun, Error> {
    let credentials = connection.credentials()?;
    let environment = |name: &str| std::env::var(name).ok();
    let (data, results) = (&manifest.training_data_reference, &manifest.training_results_reference);
    let resolved =
        |c, place| resolve(c, place, &environment, &credentials).map_err(|e| Error::from(e.problem()));
    let d = &manifest.model_definition;
    Ok(NewRun {
        model_definition: ModelDefinition {
            name: d.name.clone(),
            description: d.description.clone(),
            author: d.author.as_ref().map(author_value),
            framework: framework_value(&d.framework),
            definition_href: None,
            execution: Execution {
                command: d.execution.command.clone(),
                compute_configuration: ComputeConfiguration {
                    name: d.execution.compute_configuration.name.clone(),
                    nodes: d.execution.compute_configuration.nodes,
                    engine: d.execution.compute_configuration.engine.as_deref().and_then(EngineName::parse),
                },
                max_run_time: d.execution.max_run_time,
            },
        },
        training_data_reference: DataReference {
            name: data.name.clone(),
            kind: Some("s3".to_owned()),
            connection: resolved(&data.connection, "training_data_reference.connection")?,
            source: Some(Bucket { bucket: data.source.bucket.clone(), kind: None }),
            ..DataReference::default()
        },
        training_results_reference: DataReference {
            name: results.name.clone(),
            kind: Some("s3".to_owned()),
            connection: resolved(&results.connection, "training_results_reference.connection")?,
            target: Some(Bucket { bucket: results.target.bucket.clone(), kind: None }),
            ..DataReference::default()
        },
    })
}
