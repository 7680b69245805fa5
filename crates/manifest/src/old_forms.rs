//! Keys and values of 2017, and of the engine below the service: known, and answered with what
//! to write today.

/// Old keys, and what stands in their place.
const KEYS: [(&str, &str); 20] = [
    (
        "definition_location",
        "`model_definition.definition_href` took its place; the command line sets it itself",
    ),
    ("definition_href", "the command line stores the zip and sets this itself"),
    ("resourceType", "write `compute_configuration: {name: ...}` under `execution`"),
    ("resource", "write `compute_configuration: {name: ...}` under `execution`"),
    ("resource_type", "write `compute_configuration: {name: ...}` under `execution`"),
    (
        "training_data",
        "write `training_data_reference`, a mapping with `connection`, `source` and `type: s3`",
    ),
    ("training_results", "write `training_results_reference`, with `target: {bucket: ...}`"),
    ("container", "write `bucket`"),
    ("auth_url", "write `endpoint_url`, the address of an S3 endpoint"),
    ("userId", "write `access_key_id`"),
    ("user_name", "write `access_key_id`"),
    ("password", "write `secret_access_key`"),
    (
        "data_stores",
        "this is an FfDL manifest: write `training_data_reference` and `training_results_reference`",
    ),
    ("learners", "this is an FfDL key: write `nodes` in `compute_configuration`"),
    ("gpus", "this is an FfDL key: choose a `compute_configuration`"),
    ("cpus", "this is an FfDL key: choose a `compute_configuration`"),
    ("memory", "this is an FfDL key: choose a `compute_configuration`"),
    ("evaluation_metrics", "this is an FfDL key: metrics are found without it"),
    ("image_tag", "this is an FfDL key: images cannot be chosen"),
    ("runtime", "write `runtimes: {name: python, version: ...}` under `framework`"),
];

/// What to say about the key, if it is an old one.
pub(crate) fn advice(key: &str) -> Option<&'static str> {
    KEYS.iter().find(|(old, _)| *old == key).map(|(_, new)| *new)
}

/// Old values of `type`.
pub(crate) const OLD_TYPES: [&str; 4] =
    ["softlayer_objectstore", "bluemix_objectstore", "s3_datastore", "mount_cos"];
