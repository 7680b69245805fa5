//! What a run was submitted as, with everything that was resolved then.

use serde::{Deserialize, Serialize};
use trainyard_api::{
    NewRun, Secret,
    runner::{Demand, EngineName, EnvironmentSpec, JobOptions, Package},
};

use crate::{Error, Sealer};

/// A submission, resolved: nothing of it depends on what the catalogues say later.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// As it came.
    pub new_run: NewRun,
    /// The zip.
    pub definition: Package,
    /// The environment that the framework was resolved to.
    pub environment: EnvironmentSpec,
    /// What the compute configuration was resolved to.
    pub demand: Demand,
    /// Longest run time in seconds; 0: no limit.
    pub max_run_time: u64,
    /// Who places its runners.
    #[serde(default)]
    pub engine: EngineName,
    /// How a job is asked for, where the engine has jobs.
    #[serde(default)]
    pub options: JobOptions,
}

#[derive(Serialize, Deserialize)]
struct Secrets {
    data: Secret,
    results: Secret,
}

impl Spec {
    /// How many learners it has.
    pub fn learners(&self) -> u32 {
        self.new_run.model_definition.execution.compute_configuration.nodes.unwrap_or(1).max(1)
    }

    /// The spec without its secrets, and the secrets sealed.
    pub(crate) fn seal(mut self, sealer: &Sealer, context: &str) -> Result<(String, Vec<u8>), Error> {
        let take = |secret: &mut Secret| std::mem::take(secret);
        let secrets = Secrets {
            data: take(&mut self.new_run.training_data_reference.connection.secret_access_key),
            results: take(&mut self.new_run.training_results_reference.connection.secret_access_key),
        };
        let sealed = sealer.seal(context, &serde_json::to_vec(&secrets)?);
        Ok((serde_json::to_string(&self)?, sealed))
    }

    /// The spec with its secrets.
    pub(crate) fn open(text: &str, sealed: &[u8], sealer: &Sealer, context: &str) -> Result<Self, Error> {
        let mut spec: Self = serde_json::from_str(text)?;
        let secrets: Secrets = serde_json::from_slice(&sealer.open(context, sealed)?)?;
        spec.new_run.training_data_reference.connection.secret_access_key = secrets.data;
        spec.new_run.training_results_reference.connection.secret_access_key = secrets.results;
        Ok(spec)
    }
}
