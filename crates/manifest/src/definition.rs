//! The manifest of a training definition, which a model's resembles: a name and a framework, and for a
//! definition a command.

use serde::Serialize;

use crate::{
    Author, Framework, Problem, Report,
    reader::Reader,
    training::{author, read_framework},
    tree::{Node, Value, read_whole},
};

/// A definition, or a model, without its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DefinitionManifest {
    /// A name; need not be unique.
    pub name: String,
    /// A sentence about it.
    pub description: Option<String>,
    /// Who wrote it.
    pub author: Option<Author>,
    /// The framework it is written for.
    pub framework: Framework,
    /// A default command for its runs.
    pub command: Option<String>,
}

/// Keys that stand in public manifests and mean nothing for the content.
const PASSED_OVER: [&str; 7] = [
    "training_data_reference",
    "training_results_reference",
    "type",
    "label_column",
    "training_data_schema",
    "output_data_schema",
    "evaluation",
];

/// Parses and checks the manifest of a definition or a model; `name` is the file's, for messages.
pub fn parse_definition(name: &str, text: &str) -> Result<DefinitionManifest, Report> {
    read_whole(name, text, &[], read)
}

fn read(root: &Node, problems: &mut Vec<Problem>) -> DefinitionManifest {
    let Some(mut top) = Reader::new(root, "", problems) else { return DefinitionManifest::default() };
    // The manifest of a run has all of it, one level down.
    if let Some(inner) = top.child("model_definition", problems) {
        for key in PASSED_OVER {
            top.get(key);
        }
        top.finish(problems);
        return definition(inner, problems);
    }
    definition(top, problems)
}

fn definition(mut reader: Reader<'_>, problems: &mut Vec<Problem>) -> DefinitionManifest {
    let mut manifest = DefinitionManifest {
        name: reader.required_text("name", problems),
        description: reader.text("description", problems),
        author: author(&mut reader, problems),
        command: reader.text("command", problems),
        ..DefinitionManifest::default()
    };
    if let Some(framework) = reader.required_child("framework", problems) {
        manifest.framework = read_framework(framework, problems);
    }
    // In some public files the command is where the manifest of a run has it.
    if let Some(Node { value: Value::Map(_), .. }) = reader.get("execution")
        && let Some(mut execution) = reader.child("execution", problems)
    {
        let command = execution.text("command", problems);
        manifest.command = manifest.command.or(command);
        for key in ["compute_configuration", "max_run_time"] {
            execution.get(key);
        }
        execution.finish(problems);
    }
    for key in PASSED_OVER {
        reader.get(key);
    }
    reader.finish(problems);
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_form_and_the_one_of_public_files_are_read() {
        let documented = "name: mnist\ndescription: digits\nauthor: {name: someone}\nframework: {name: tensorflow, version: '1.5', runtimes: [{name: python, version: '3.5'}]}\ncommand: python3 x.py\ntraining_data_reference:\n- name: data\n  connection: {endpoint_url: https://s3.example.net}\n  source: {bucket: b, type: s3}\n";
        let public = "name: mnist\nframework: {name: tensorflow, version: 1.5}\nexecution: {command: python3 x.py, compute_configuration: {name: small}}\n";
        for text in [documented, public] {
            let manifest = parse_definition("m.yml", text).unwrap();
            assert_eq!(manifest.command.as_deref(), Some("python3 x.py"), "{text}");
            assert_eq!((manifest.name.as_str(), manifest.framework.version.as_str()), ("mnist", "1.5"));
        }
        let of_a_run = format!("model_definition:\n  {}\n", public.trim_end().replace('\n', "\n  "));
        assert_eq!(parse_definition("m.yml", &of_a_run).unwrap().name, "mnist");
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let text = "nmae: x\nframework: {name: tensorflow}\n";
        let report = parse_definition("m.yml", text).unwrap_err();
        let shown = report.render(false, 100);
        for part in ["`name` is missing", "`nmae` is not a key", "`framework.version` is missing"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
}
