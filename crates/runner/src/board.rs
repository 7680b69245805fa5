//! How a runner comes to its ticket that an engine's own queue has started: with the pass of its job it asks
//! the server, which knows whether this is the job's first start or a later one.

use std::path::Path;

use trainyard_api::runner::{Boarded, Boarding, EngineName, Ticket};
use trainyard_transfer::Http;

use crate::{Error, attempt, link::Link};

/// Works off the attempt that this start of a job is. `ticket` lies in a file and holds the job's pass.
pub async fn run_job(ticket: &Path) -> Result<(), Error> {
    let text = std::fs::read(ticket).map_err(|e| Error::file(ticket, e))?;
    let pass: Ticket = serde_json::from_slice(&text).map_err(|e| Error::file(ticket, e.into()))?;
    let link = Link::new(pass.clone(), &Http::default())?;
    let Boarded { ticket, folder } = link.board(pass.attempt, &boarding(pass.engine)).await?;
    let folder = Path::new(&ticket.node).join("runs").join(folder);
    let made = std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
        .create(&folder);
    made.map_err(|e| Error::file(&folder, e))?;
    attempt::run(&folder, ticket).await
}

/// What the engine tells its job in variables.
fn boarding(engine: EngineName) -> Boarding {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (id, restarts, node) = match engine {
        EngineName::Slurm => {
            (variable("SLURM_JOB_ID"), variable("SLURM_RESTART_COUNT"), variable("SLURMD_NODENAME"))
        }
        EngineName::Local => Default::default(),
    };
    let gpus = variable("CUDA_VISIBLE_DEVICES");
    Boarding {
        restarts: restarts.parse().unwrap_or(0),
        id,
        node,
        gpus: gpus.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect(),
    }
}
