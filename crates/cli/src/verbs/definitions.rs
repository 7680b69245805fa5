//! Training definitions: stored, listed, shown, removed.

use std::{path::Path, sync::Arc};

use trainyard_api::{Definition, NewDefinition, Page, Uuid};
use trainyard_client::Client;

use super::{
    list::{only, pages},
    train::{self, Zip},
};
use crate::{
    Error, Output,
    output::{DefinitionView, DefinitionsView, bar},
};

/// `list training-definitions`.
pub(crate) async fn list(client: &Client, limit: u32, output: &Output) -> Result<(), Error> {
    if output.is_original() {
        output.talk("Fetching the list of training-definitions ...");
    }
    let definitions = pages(limit, |n, next: Option<String>| async move {
        let page: Page<Definition> = client.definitions(n, next.as_deref()).await?;
        Ok(page)
    })
    .await?;
    let found = definitions.len();
    output.show(&DefinitionsView { definitions, original: output.is_original() })?;
    super::closing(output, found, "List all training-definitions successful");
    Ok(())
}

/// `show training-definitions ID`.
pub(crate) async fn show(client: &Client, id: &str, output: &Output) -> Result<(), Error> {
    if output.is_original() {
        output.talk(&format!("Fetching the training-definition details with ID '{id}' ..."));
    }
    output.show(&DefinitionView(find(client, id).await?))?;
    if output.is_original() {
        output.talk("OK\nShow training-definition details successful");
    }
    Ok(())
}

/// `delete training-definitions ID`.
pub(crate) async fn delete(client: &Client, id: &str, output: &Output) -> Result<(), Error> {
    let id = find(client, id).await?.metadata.guid.to_string();
    output.talk(&format!("Deleting the training-definition '{id}' ..."));
    client.delete_definition(&id).await?;
    output.talk("OK\nDelete training-definition successful");
    Ok(())
}

/// `store training-definitions ZIP MANIFEST`.
pub(crate) async fn store(
    client: &Client,
    code: &Path,
    manifest: &Path,
    output: &Output,
) -> Result<(), Error> {
    let text = train::text_of(manifest)?;
    let manifest = trainyard_manifest::parse_definition(&manifest.display().to_string(), &text)?;
    output.talk("Creating training-definition ...");
    let zip = Zip::of(code, output)?;
    let new = NewDefinition {
        name: manifest.name,
        description: manifest.description,
        author: manifest.author.as_ref().map(train::author_value),
        framework: train::framework_value(&manifest.framework),
        command: manifest.command,
        training_data_reference: None,
    };
    let definition = client.create_definition(&new).await?;
    let bar = bar(output, "uploading", zip.size);
    let meter = bar.clone();
    let url = &definition.entity.training_definition_version.content_url;
    if let Err(failed) = client.put_content(url, zip.path(), Arc::new(move |n| meter.inc(n))).await {
        // Nothing refers to it; one that stays does no harm.
        let _ = client.delete_definition(&definition.metadata.guid.to_string()).await;
        return Err(failed.into());
    }
    bar.finish_and_clear();
    if output.is_for_people() {
        output.talk("OK");
        let (id, version) = (&definition.metadata.guid, &definition.entity.training_definition_version.guid);
        output.data(&format!("training-definition ID is '{id}' and version ID is '{version}'\n"))
    } else {
        output.show(&DefinitionView(definition))
    }
}

/// A definition by its id, the beginning of it, or its name.
pub(crate) async fn find(client: &Client, text: &str) -> Result<Definition, Error> {
    if text.parse::<Uuid>().is_ok() {
        return Ok(client.definition(text).await?);
    }
    let all = pages(u32::MAX, |n, next: Option<String>| async move {
        Ok(client.definitions(n, next.as_deref()).await?)
    })
    .await?;
    let named = |d: &Definition| d.metadata.guid.to_string().starts_with(text) || d.entity.name == text;
    only(all.into_iter().filter(named).collect(), "training definition", text)
}
