//! The environment of the program: what the original set, and what a program needs to run.
//!
//! An allow-list: the runner's own variables (tokens, keys, settings of the operator) stay out.

use std::path::{Path, PathBuf};

use trainyard_api::runner::{Team, WorkOrder};
use trainyard_environment::{LAYER_VARIABLE, site_packages};

use crate::team::prefix;

/// Variables of the runner that are passed on.
const PASSED: [&str; 14] = [
    "LANG",
    "LANGUAGE",
    "TZ",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_FIND_LINKS",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_DISABLE_PIP_VERSION_CHECK",
    "UV_INDEX_URL",
    "UV_DEFAULT_INDEX",
    "UV_FIND_LINKS",
];
/// Those that are about files and users of the node, which a container has its own of.
const PASSED_ON_NODE: [&str; 11] = [
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "TMPDIR",
    "PATH",
    "LD_LIBRARY_PATH",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
];

/// Folders as the program sees them.
pub(crate) struct Places {
    pub(crate) job: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) code: PathBuf,
    pub(crate) results: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) checkpoints: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) tmp: PathBuf,
    pub(crate) layer: PathBuf,
}

/// What a program has for itself, where others use the machine's.
pub(crate) struct Privacy {
    pub(crate) home: bool,
    pub(crate) tmp: bool,
    /// Not even the machine's files.
    pub(crate) container: bool,
}

/// The variables of a run, in order.
pub(crate) fn variables(
    order: &WorkOrder,
    places: &Places,
    environment: Option<&Path>,
    privacy: &Privacy,
    team: Option<&Team>,
) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    for (name, value) in std::env::vars_os() {
        let (Ok(name), Ok(value)) = (name.into_string(), value.into_string()) else { continue };
        // A proxy or an index whose address carries a password stays out.
        let plain = !value.contains('@');
        let of_node = !privacy.container && PASSED_ON_NODE.contains(&name.as_str());
        if ((PASSED.contains(&name.as_str()) || of_node) && plain) || name.starts_with("LC_") {
            all.push((name, value));
        }
    }
    let mut set = |name: &str, value: String| {
        all.retain(|(n, _)| n != name);
        all.push((name.to_owned(), value));
    };
    let text = |p: &Path| p.display().to_string();
    if let Some(folder) = environment {
        let path = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
        let bins = [&places.layer, folder].map(|f| text(&f.join("bin"))).join(":");
        set("PATH", format!("{bins}:{path}"));
        set("VIRTUAL_ENV", text(&places.layer));
        // Launchers of the environment, such as torchrun, start its own python.
        set(LAYER_VARIABLE, text(&site_packages(&places.layer, &order.environment.python)));
    }
    if privacy.home {
        if environment.is_none() && !privacy.container && nix::unistd::geteuid().is_root() {
            // Root seems to be allowed to write to the machine's python, and is not.
            set("PIP_USER", "1".to_owned());
        }
        set("HOME", text(&places.home));
    }
    if privacy.tmp {
        set("TMPDIR", text(&places.tmp));
    }
    set("DATA_DIR", text(&places.data));
    set("MODEL_DIR", text(&places.code));
    set("RESULT_DIR", text(&places.results));
    set("LOG_DIR", text(&places.logs));
    set("JOB_STATE_DIR", text(&places.job));
    set("CHECKPOINT_DIR", text(&places.checkpoints));
    set("TRAINING_ID", order.run.to_string());
    set("TRAINING_COMMAND", one_line(&order.command));
    set("TRAINING_JOB", String::new());
    set("LEARNER_ID", order.learner.to_string());
    set("NUM_LEARNERS", order.learners.to_string());
    set("LEARNER_NAME_PREFIX", prefix(&order.run));
    if let Some(Team { addresses, port }) = team {
        // As launchers of today's frameworks have them, with one process a learner.
        for rank in ["RANK", "NODE_RANK"] {
            set(rank, (order.learner - 1).to_string());
        }
        set("WORLD_SIZE", order.learners.to_string());
        set("MASTER_ADDR", addresses.first().cloned().unwrap_or_default());
        set("MASTER_PORT", port.to_string());
        set("LEARNER_ADDRESSES", addresses.join(","));
    }
    set("GPU_COUNT", format!("{:.6}", order.allotment.gpus.len() as f64));
    // Pretended GPUs must not hide the lack of real ones from a framework.
    let visible = if order.allotment.pretended { String::new() } else { order.allotment.gpus.join(",") };
    set("CUDA_VISIBLE_DEVICES", visible);
    set("PYTHONPATH", text(&places.code));
    // A program that prints is followed line by line.
    set("PYTHONUNBUFFERED", "1".to_owned());
    all
}

/// The command with its line breaks turned to spaces, as the original ran it.
pub(crate) fn one_line(command: &str) -> String {
    command.trim().replace(['\n', '\r'], " ")
}

/// What stands at the head of the log.
pub(crate) fn head(order: &WorkOrder, places: &Places) -> String {
    format!(
        "Training with training/test data at:\n  DATA_DIR: {}\n  MODEL_DIR: {}\n  TRAINING_JOB: \n  TRAINING_COMMAND: {}\n\
         Storing trained model at:\n  RESULT_DIR: {}\n",
        places.data.display(),
        places.code.display(),
        one_line(&order.command),
        places.results.display(),
    )
}
