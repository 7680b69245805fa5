//! `store training-runs ID`: the model folder becomes a stored model.

use std::time::Duration;

use serde_json::{Value, json};
use trainyard_api::{Code, NewModelAsset, Problem, StoredModel};
use trainyard_client::Client;

use crate::{Error, Output, ids, output::Shown};

/// First and longest pause between looks.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(2);

struct ModelView(StoredModel);

impl Shown for ModelView {
    fn people(&self, _: bool) -> String {
        format!("Model store successful. Model-ID is '{}'.\n", self.0.metadata.guid)
    }

    fn value(&self) -> Value {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        vec![self.0.metadata.guid.to_string()]
    }
}

/// `store training-runs ID [MANIFEST]`.
pub(crate) async fn store(
    client: &Client,
    words: &[String],
    name: Option<String>,
    output: &Output,
) -> Result<(), Error> {
    let (run, manifest) = match ids::after_noun(words) {
        [run] => (run, None),
        [run, manifest] => (run, Some(manifest)),
        _ => return Err(Error::new(Code::Usage, "write `store training-runs ID`")),
    };
    if let Some(manifest) = manifest {
        let path = std::path::Path::new(manifest);
        std::fs::metadata(path).map_err(|e| Error::file(path, &e))?;
        output.talk("the manifest's fields were never described; it is not used");
    }
    let id = ids::find(client, run).await?;
    let name = name.unwrap_or_else(|| format!("{id} model saved from CLI"));
    let asset = NewModelAsset { name: Some(name), description: None };
    let stored = client.store_model(&id, &asset).await?;
    let guid = stored.entity.ml_asset_guid.to_string();
    let mut pause = FIRST;
    loop {
        let model = client.model(&guid).await?;
        let status = &model.entity.model_version.content_status;
        match status.state.as_str() {
            "persisted" => {
                output.talk("OK");
                return output.show(&ModelView(model));
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
