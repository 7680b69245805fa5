//! Manifests to begin with, as `generate-manifest` writes them.

/// A sample of the manifest called `kind`; `None`: there is no such kind.
pub fn sample(kind: &str) -> Option<&'static str> {
    match kind {
        "training-runs" => Some(TRAINING_RUN),
        "training-definitions" => Some(DEFINITION),
        "store-training-runs" => Some(MODEL),
        _ => None,
    }
}

/// Kinds of manifests that there are samples of.
pub const SAMPLES: [&str; 3] = ["training-definitions", "training-runs", "store-training-runs"];

const TRAINING_RUN: &str = "\
model_definition:
  name: my-run
  description: what it is for
  framework:
    name: tensorflow          # `trainyard frameworks` lists what there is
    version: \"2\"
    runtimes:
      name: python
      version: \"3\"
  execution:
    command: python3 train.py --data ${DATA_DIR} --model ${RESULT_DIR}/model
    compute_configuration:
      name: cpu               # or k80, p100, v100, …
training_data_reference:
  connection:
    endpoint_url: http://127.0.0.1:8471
    access_key_id: ${env:AWS_ACCESS_KEY_ID}
    secret_access_key: ${env:AWS_SECRET_ACCESS_KEY}
  source:
    bucket: my-data
  type: s3
training_results_reference:
  connection:
    endpoint_url: http://127.0.0.1:8471
    access_key_id: ${env:AWS_ACCESS_KEY_ID}
    secret_access_key: ${env:AWS_SECRET_ACCESS_KEY}
  target:
    bucket: my-results
  type: s3
";

const DEFINITION: &str = "\
name: my-definition
description: what it is for
framework:
  name: tensorflow            # `trainyard frameworks` lists what there is
  version: \"2\"
  runtimes:
    name: python
    version: \"3\"
command: python3 train.py --data ${DATA_DIR} --model ${RESULT_DIR}/model
";

const MODEL: &str = "\
name: my-model
description: what it is for
framework:
  name: tensorflow
  version: \"2\"
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_a_good_manifest() {
        crate::parse("sample", TRAINING_RUN, &[]).unwrap();
        for kind in ["training-definitions", "store-training-runs"] {
            crate::parse_definition(kind, sample(kind).unwrap()).unwrap();
        }
        assert_eq!(sample("experiments"), None);
    }
}
