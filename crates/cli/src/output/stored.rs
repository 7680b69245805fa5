//! Definitions and models for people, in the shapes of the original.

use serde_json::{Value, json};
use trainyard_api::{Definition, StoredModel};

use super::{
    Shown,
    people::{table, two_columns},
};

/// A list of definitions.
pub(crate) struct DefinitionsView {
    pub(crate) definitions: Vec<Definition>,
    /// The original's header.
    pub(crate) original: bool,
}

impl Shown for DefinitionsView {
    fn people(&self, wide: bool) -> String {
        let mut header = vec!["Name", "guid", "framework", "created-at"];
        let wide = wide && !self.original;
        if wide {
            header.push("command");
        }
        let row = |d: &Definition| {
            let mut row = vec![
                d.entity.name.clone(),
                d.metadata.guid.to_string(),
                d.entity.framework.name.clone(),
                d.metadata.created_at.to_string(),
            ];
            if wide {
                row.push(d.entity.command.clone().unwrap_or_default());
            }
            row
        };
        table(&header, &self.definitions.iter().map(row).collect::<Vec<_>>())
    }

    fn value(&self) -> Value {
        json!({ "resources": self.definitions })
    }

    fn names(&self) -> Vec<String> {
        self.definitions.iter().map(|d| d.metadata.guid.to_string()).collect()
    }
}

/// One definition.
pub(crate) struct DefinitionView(pub(crate) Definition);

impl Shown for DefinitionView {
    fn people(&self, _: bool) -> String {
        let (metadata, entity) = (&self.0.metadata, &self.0.entity);
        let version = &entity.training_definition_version;
        let framework = format!("{} {}", entity.framework.name, entity.framework.version);
        two_columns(&[
            // The original spelt it like this.
            ("TrainingDefinitiontId", metadata.guid.to_string()),
            ("name", entity.name.clone()),
            ("framework", framework),
            ("url", metadata.url.clone()),
            ("created_at", metadata.created_at.to_string()),
            ("command", entity.command.clone().unwrap_or_default()),
            ("version", version.guid.to_string()),
            ("content", version.content_status.state.clone()),
        ])
    }

    fn value(&self) -> Value {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        vec![self.0.metadata.guid.to_string()]
    }
}

fn model_type(model: &StoredModel) -> String {
    format!("{}-{}", model.entity.framework.name, model.entity.framework.version)
}

/// A list of models.
pub(crate) struct ModelsView {
    pub(crate) models: Vec<StoredModel>,
}

impl Shown for ModelsView {
    fn people(&self, wide: bool) -> String {
        let mut header = vec!["Model Id", "Model Type", "Model Name"];
        if wide {
            header.extend(["Training run", "Content", "Bytes", "Created at"]);
        }
        let row = |m: &StoredModel| {
            let mut row = vec![m.metadata.guid.to_string(), model_type(m), m.entity.name.clone()];
            if wide {
                row.extend([
                    m.entity.training_run.as_ref().map(ToString::to_string).unwrap_or_default(),
                    m.entity.model_version.content_status.state.clone(),
                    m.entity.size.map(|s| s.to_string()).unwrap_or_default(),
                    m.metadata.created_at.to_string(),
                ]);
            }
            row
        };
        table(&header, &self.models.iter().map(row).collect::<Vec<_>>())
    }

    fn value(&self) -> Value {
        json!({ "resources": self.models })
    }

    fn names(&self) -> Vec<String> {
        self.models.iter().map(|m| m.metadata.guid.to_string()).collect()
    }
}

/// One model.
pub(crate) struct ModelView(pub(crate) StoredModel);

impl Shown for ModelView {
    fn people(&self, _: bool) -> String {
        let (metadata, entity) = (&self.0.metadata, &self.0.entity);
        let status = &entity.model_version.content_status;
        let mut rows = vec![
            ("Model Id", metadata.guid.to_string()),
            ("Model Name", entity.name.clone()),
            ("Model Type", model_type(&self.0)),
            ("url", metadata.url.clone()),
            ("Created at", metadata.created_at.to_string()),
            ("Content", status.state.clone()),
        ];
        if let Some(run) = &entity.training_run {
            rows.push(("Training run", run.to_string()));
        }
        if let Some(size) = entity.size {
            rows.push(("Bytes", size.to_string()));
        }
        if let Some(why) = &status.message {
            rows.push(("Reason", why.clone()));
        }
        two_columns(&rows)
    }

    fn value(&self) -> Value {
        json!(self.0)
    }

    fn names(&self) -> Vec<String> {
        vec![self.0.metadata.guid.to_string()]
    }
}
