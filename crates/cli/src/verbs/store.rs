//! `store`: the model folder of a run becomes a stored model; a definition or a model is uploaded.

use std::{path::Path, time::Duration};

use trainyard_api::{Code, NewModelAsset, Problem};
use trainyard_client::Client;

use super::{definitions, models, train};
use crate::{Error, Output, ids, nouns::Noun};

/// First and longest pause between looks.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

/// `store training-runs ID [MANIFEST]`, `store training-definitions ZIP MANIFEST`, or `store MODEL MANIFEST`.
pub(crate) async fn store(
    client: &Client,
    words: &[String],
    name: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    match (Noun::split(words), words) {
        ((Noun::TrainingDefinitions, [zip, manifest]), _) => {
            definitions::store(client, zip.as_ref(), manifest.as_ref(), output).await
        }
        // A file is no run, and neither is what looks like one.
        (_, [archive, manifest]) if Path::new(archive).is_file() || archive.contains(['/', '.']) => {
            models::store(client, archive.as_ref(), manifest.as_ref(), output).await
        }
        ((Noun::TrainingRuns, rest), _) => store_run(client, rest, name, output).await,
        ((Noun::TrainingDefinitions | Noun::Models | Noun::Frameworks, _), _) => {
            let problem = Problem::new(Code::Usage, format!("`store {}` is not complete", words.join(" ")));
            let hint =
                "write `training-runs ID`, `training-definitions ZIP MANIFEST` or `MODEL.tar.gz MANIFEST`";
            Err(problem.hint(hint).into())
        }
        ((other, _), _) => Err(other.refuse("store")),
    }
}

/// `store training-runs ID [MANIFEST]`.
async fn store_run(
    client: &Client,
    words: &[String],
    name: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    let (run, manifest) = match words {
        [run] => (run, None),
        [run, manifest] => (run, Some(manifest)),
        _ => return Err(Error::new(Code::Usage, "write `store training-runs ID`")),
    };
    // Its fields were never described: what a model has is taken.
    let manifest = manifest.map(|path| {
        let text = train::text_of(Path::new(path))?;
        Ok::<_, Error>(trainyard_manifest::parse_definition(path, &text)?)
    });
    let manifest = manifest.transpose()?;
    let id = ids::find(client, run).await?;
    let name = name.or_else(|| manifest.as_ref().map(|m| m.name.clone()));
    let name = name.unwrap_or_else(|| format!("{id} model saved from CLI"));
    let asset = NewModelAsset { name: Some(name), description: manifest.and_then(|m| m.description) };
    let stored = client.store_model(&id, &asset).await?;
    let guid = stored.entity.ml_asset_guid.to_string();
    let mut pause = FIRST;
    loop {
        let model = client.model(&guid).await?;
        let status = &model.entity.model_version.content_status;
        match status.state.as_str() {
            "persisted" => {
                return models::stored(model, output);
            }
            "persisting_failed" => {
                let why = status.message.clone().unwrap_or_default();
                return Err(Problem::new(
                    Code::StageOut,
                    format!("the model of {id} could not be stored: {why}"),
                )
                .hint("a program writes its model to $RESULT_DIR/model")
                .into());
            }
            _ => output.talk("Checking if content upload is complete ..."),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}
