//! How a runner comes to its ticket that an engine's own queue has started: with the pass of its job it asks
//! the server, which knows whether this is the job's first start or a later one.

use std::path::{Path, PathBuf};

use trainyard_api::{
    Secret,
    runner::{Boarded, Boarding, EngineName, Ticket, boarding_text},
};
use trainyard_transfer::Http;

use crate::{Error, attempt, link::Link, others::Others};

/// Works off the attempt that this start of a job is. The first learner of several has the runners of the `Others`
/// started, with a command that the engine gave.
pub async fn run_job(job: Job, role: Role) -> Result<(), Error> {
    let (pass, proof) = match job {
        Job::Shared(path) => {
            let text = std::fs::read(&path).map_err(|e| Error::file(&path, e))?;
            let pass: Ticket = serde_json::from_slice(&text).map_err(|e| Error::file(&path, e.into()))?;
            (pass, None)
        }
        Job::Sent(pass, munge) => (*pass, Some(munge)),
    };
    let link = Link::new(pass.clone(), &Http::default())?;
    let boarding = boarding(pass.engine, &role);
    let Boarded { ticket, folder, learners } = match proof {
        None => link.board(pass.attempt, &boarding, async || Ok(pass.token.clone())).await?,
        Some(Munge { socket, reader }) => {
            let text = boarding_text(&pass.server_id, &pass.run, pass.attempt);
            // Each is taken once.
            let prove =
                async || trainyard_munge::encode(socket.as_deref(), reader, &text).await.map(Secret::new);
            link.board(pass.attempt, &boarding, prove).await?
        }
    };
    let folder = Path::new(&ticket.node).join("runs").join(folder);
    let made = std::os::unix::fs::DirBuilderExt::mode(std::fs::DirBuilder::new().recursive(true), 0o700)
        .create(&folder);
    made.map_err(|e| Error::file(&folder, e))?;
    let others = match &role {
        Role::First(command) if learners > 1 => Others::start(command)?,
        _ => Others::none(),
    };
    let result = attempt::run_with(&folder, ticket, others.clone(), None).await;
    if matches!(result, Ok(()) | Err(Error::Fenced(_))) {
        // The job is over with this process, and they may still be storing: also where this learner had nothing
        // to do. With any other error it has told nobody, and all begin again.
        others.left().await;
    }
    result
}

/// What a job brings.
#[derive(Clone, Debug)]
pub enum Job {
    /// A file with its ticket, which holds its pass.
    Shared(PathBuf),
    /// A ticket without one.
    Sent(Box<Ticket>, Munge),
}

/// How it is proved whose a job is.
#[derive(Clone, Debug)]
pub struct Munge {
    /// munge's socket, where it is not the usual one.
    pub socket: Option<PathBuf>,
    /// The number of the server's user, who reads credentials.
    pub reader: u32,
}

/// Which learner a runner is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The first one, or the only one; with the command, if there is one, that starts the runners of the others.
    First(Vec<String>),
    /// One of the others: which, the engine says.
    Other,
}

/// What the engine tells its job in variables.
fn boarding(engine: EngineName, role: &Role) -> Boarding {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let (id, restarts, node) = match engine {
        EngineName::Slurm => {
            // All of a job, as Slurm lists them: where its files are, if they are on its nodes.
            let nodes = match role {
                Role::First(_) => variable("SLURM_JOB_NODELIST"),
                Role::Other => variable("SLURMD_NODENAME"),
            };
            (variable("SLURM_JOB_ID"), variable("SLURM_RESTART_COUNT"), nodes)
        }
        EngineName::Local => Default::default(),
    };
    let learner = match role {
        Role::First(_) => 1,
        // Those of a step are counted from 0, and the first learner is not among them.
        Role::Other => variable("SLURM_PROCID").parse::<u32>().unwrap_or(0).saturating_add(2),
    };
    let gpus = variable("CUDA_VISIBLE_DEVICES");
    Boarding {
        learner,
        restarts: restarts.parse().unwrap_or(0),
        id,
        node,
        gpus: gpus.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect(),
    }
}
