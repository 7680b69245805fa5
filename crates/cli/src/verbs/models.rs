//! Stored models: listed, shown, downloaded, uploaded, removed.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use trainyard_api::{NewModel, StoredModel, Uuid};
use trainyard_client::Client;

use super::{
    list::{only, pages},
    train,
};
use crate::{
    Error, Output,
    output::{ModelView, ModelsView, bar},
};

/// `list models`.
pub(crate) async fn list(client: &Client, limit: u32, output: &Output) -> Result<(), Error> {
    if output.is_original() {
        output.talk("Fetching the list of models ...");
    }
    let models =
        pages(limit, |n, next: Option<String>| async move { Ok(client.models(n, next.as_deref()).await?) })
            .await?;
    let found = models.len();
    output.show(&ModelsView { models })?;
    super::closing(output, found, "List all models successful");
    Ok(())
}

/// `show models ID`.
pub(crate) async fn show(client: &Client, id: &str, output: &Output) -> Result<(), Error> {
    if output.is_original() {
        output.talk(&format!("Fetching the model details with MODEL-ID '{id}' ..."));
    }
    output.show(&ModelView(find(client, id).await?))?;
    if output.is_original() {
        output.talk("OK\nShow model details successful");
    }
    Ok(())
}

/// `delete models ID`.
pub(crate) async fn delete(client: &Client, id: &str, output: &Output) -> Result<(), Error> {
    let id = find(client, id).await?.metadata.guid.to_string();
    output.talk(&format!("Deleting the model '{id}' ..."));
    client.delete_model(&id).await?;
    output.talk("OK\nDelete model successful");
    Ok(())
}

/// `models download ID [FILE]`.
pub(crate) async fn download(
    client: &Client,
    id: &str,
    to: Option<PathBuf>,
    output: &Output,
) -> Result<(), Error> {
    let model = find(client, id).await?;
    let id = model.metadata.guid.to_string();
    output.talk(&format!("Downloading the model '{id}' ..."));
    let path = to.unwrap_or_else(|| PathBuf::from(format!("{id}.tar.gz")));
    let total = model.entity.size.unwrap_or(0);
    let bar = bar(output, "downloading", total);
    let meter = bar.clone();
    client.download_model(&id, &path, Arc::new(move |n| meter.inc(n))).await?;
    bar.finish_and_clear();
    output.talk("OK");
    output.data(&format!("{}\n", path.display()))
}

/// `store MODEL.tar.gz MANIFEST`.
pub(crate) async fn store(
    client: &Client,
    archive: &Path,
    manifest: &Path,
    output: &Output,
) -> Result<(), Error> {
    let text = train::text_of(manifest)?;
    let manifest = trainyard_manifest::parse_definition(&manifest.display().to_string(), &text)?;
    let size = std::fs::metadata(archive).map_err(|e| Error::file(archive, &e))?.len();
    output.talk("Creating model ...");
    let new = NewModel {
        name: manifest.name,
        description: manifest.description,
        author: manifest.author.as_ref().map(train::author_value),
        framework: train::framework_value(&manifest.framework),
        ..NewModel::default()
    };
    let model = client.create_model(&new).await?;
    let bar = bar(output, "uploading", size);
    let meter = bar.clone();
    let url = &model.entity.model_version.content_url;
    if let Err(failed) = client.put_content(url, archive, Arc::new(move |n| meter.inc(n))).await {
        let _ = client.delete_model(&model.metadata.guid.to_string()).await;
        return Err(failed.into());
    }
    bar.finish_and_clear();
    stored(client.model(&model.metadata.guid.to_string()).await?, output)
}

/// Says that a model is stored.
pub(crate) fn stored(model: StoredModel, output: &Output) -> Result<(), Error> {
    output.talk("OK");
    if output.is_for_people() {
        output.data(&format!("Model store successful. Model-ID is '{}'.\n", model.metadata.guid))
    } else {
        output.show(&ModelView(model))
    }
}

/// A model by its id, the beginning of it, or its name.
async fn find(client: &Client, text: &str) -> Result<StoredModel, Error> {
    if text.parse::<Uuid>().is_ok() {
        return Ok(client.model(text).await?);
    }
    let all =
        pages(
            u32::MAX,
            |n, next: Option<String>| async move { Ok(client.models(n, next.as_deref()).await?) },
        )
        .await?;
    let named = |m: &StoredModel| m.metadata.guid.to_string().starts_with(text) || m.entity.name == text;
    only(all.into_iter().filter(named).collect(), "model", text)
}
