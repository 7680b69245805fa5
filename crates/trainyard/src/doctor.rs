//! What `trainyard doctor --config FILE` looks at besides: the cluster of a server.

use std::path::Path;

use trainyard_api::Finding;
use trainyard_server::examine_cluster;

use crate::server::configuration;

/// What is found of the cluster that this configuration names.
pub(crate) fn examine(file: &Path, data: Option<&Path>) -> Vec<Finding> {
    let config = match configuration(Some(file), data) {
        Ok(config) => config,
        Err(error) => return vec![Finding::bad(format!("{error:#}"), None)],
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            return vec![Finding::bad(format!("the path of this program is not known: {error}"), None)];
        }
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(examine_cluster(&config, program)),
        Err(error) => vec![Finding::bad(format!("the runtime cannot start: {error}"), None)],
    }
}
