//! The JSON Schema of manifests, which editors use for completion.

use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::{TrainingManifest, training::ENGINES};

/// The schema, as pretty JSON with a line end.
pub fn json_schema() -> String {
    let generator: SchemaGenerator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<TrainingManifest>().to_value();
    loosen(&mut schema);
    let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value can always be written");
    text.push('\n');
    text
}

/// The types say what a manifest means; this adds the other ways to write it.
fn loosen(schema: &mut Value) {
    schema["title"] = json!("Trainyard training-run manifest");
    let text_or_number = json!({ "type": ["string", "number"] });
    let defs = &mut schema["$defs"];
    let describe = |old: &Value, mut new: Value| {
        new["description"] = old["description"].clone();
        new
    };
    for (owner, field) in [("Framework", "version"), ("Runtime", "version")] {
        let old = defs[owner]["properties"][field].clone();
        defs[owner]["properties"][field] = describe(&old, text_or_number.clone());
    }
    let runtimes = defs["Framework"]["properties"]["runtimes"].clone();
    let one_or_many = json!({ "anyOf": [
        { "type": "array", "items": { "$ref": "#/$defs/Runtime" } },
        { "$ref": "#/$defs/Runtime" },
    ]});
    defs["Framework"]["properties"]["runtimes"] = describe(&runtimes, one_or_many);
    let time = defs["Execution"]["properties"]["max_run_time"].clone();
    let duration = json!({ "anyOf": [
        { "type": "integer", "minimum": 0 },
        { "type": "string", "pattern": "^[0-9]+ *(s|m|min|h|d)?$" },
    ]});
    defs["Execution"]["properties"]["max_run_time"] = describe(&time, duration);
    defs["ModelDefinition"]["properties"]["author"] = json!({ "description": "Who wrote it.", "anyOf": [{ "type": "string" }, { "$ref": "#/$defs/Author" }] });
    defs["Compute"]["properties"]["nodes"]["minimum"] = json!(1);
    defs["Compute"]["properties"]["engine"]["enum"] = json!([ENGINES[0], ENGINES[1], null]);
    for (old, new) in [("access_key_id", "aws_access_key_id"), ("secret_access_key", "aws_secret_access_key")]
    {
        let copy = defs["Connection"]["properties"][old].clone();
        defs["Connection"]["properties"][new] = copy;
    }
    let kind =
        json!({ "const": "s3", "description": "Only `s3` is there. It may stand beside the bucket too." });
    for owner in ["DataReference", "ResultsReference", "Bucket"] {
        defs[owner]["properties"]["type"] = kind.clone();
    }
    // Lists that may be left out are not required; unknown keys are mistakes everywhere.
    if let Value::Object(map) = defs {
        for def in map.values_mut() {
            def["additionalProperties"] = json!(false);
            if let Some(required) = def["required"].as_array_mut() {
                required.retain(|r| r != "runtimes");
            }
        }
    }
    schema["additionalProperties"] = json!(false);
}
