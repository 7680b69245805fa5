//! What this machine has.

use std::{fs, process::Stdio, time::Duration};

use tokio::process::Command;
use trainyard_api::runner::Demand;

/// Cores, memory and GPUs that runs may share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Capacity {
    /// CPU cores.
    pub cpus: f64,
    /// Bytes of memory.
    pub memory: u64,
    /// Ids of GPUs, as `CUDA_VISIBLE_DEVICES` takes them.
    pub gpus: Vec<String>,
    /// The GPUs are declared by the operator, and not there.
    pub pretended: bool,
}

impl Capacity {
    /// Why a demand can never be met here; `None` when it can.
    pub fn refusal(&self, demand: &Demand) -> Option<String> {
        if demand.gpus as usize > self.gpus.len() {
            return Some(match self.gpus.len() {
                0 => {
                    format!("it needs {} GPU{}, and this machine has none", demand.gpus, plural(demand.gpus))
                }
                n => format!("it needs {} GPUs, and this machine has {n}", demand.gpus),
            });
        }
        if demand.cpus > self.cpus {
            return Some(format!("it needs {} CPU cores, and this machine has {}", demand.cpus, self.cpus));
        }
        if demand.memory > self.memory {
            let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            return Some(format!(
                "it needs {:.0} GiB of memory, and this machine has {:.1} GiB",
                gib(demand.memory),
                gib(self.memory)
            ));
        }
        None
    }
}

fn plural(n: u32) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// Longest wait for `nvidia-smi`: a sick driver makes it hang.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Looks at this machine.
pub async fn detect() -> Capacity {
    let cpus = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    Capacity { cpus, memory: memory(), gpus: gpus().await, pretended: false }
}

/// Total memory from `/proc/meminfo`, in bytes.
fn memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
        .map_or(1 << 30, |kib| kib * 1024)
}

/// UUIDs of NVIDIA GPUs; none where there is no driver.
async fn gpus() -> Vec<String> {
    let mut command = Command::new("nvidia-smi");
    command.args(["--query-gpu=uuid", "--format=csv,noheader"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(TIMEOUT, command.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().map(str::trim).filter(|l| l.starts_with("GPU-")).map(str::to_owned).collect()
        }
        Ok(_) => Vec::new(),
        Err(_) => {
            tracing::warn!("nvidia-smi did not answer: GPUs are not used");
            Vec::new()
        }
    }
}
