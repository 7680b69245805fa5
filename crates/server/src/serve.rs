//! Starts the parts in their order, serves, and stops them.

use std::{
    fs,
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use trainyard_api::{Finding, Secret, Time};
use trainyard_engine::{
    local::{Capacity, LocalEngine, Queue, detect},
    slurm::{Delivery, Sent, Settings, SlurmEngine, examine},
};
use trainyard_environment::Images;
use trainyard_s3::{EmbeddedStore, Keys, OpenError};
use trainyard_store::{Sealer, Store};
use trainyard_transfer::Http;

use crate::{
    Address, Config, ConfigError, DataFolder, SlurmConfig,
    access::Access,
    auth::Gate,
    conductor::{Conductor, Private, Site},
    config::parse_bytes,
    data_folder,
    engines::{Cluster, Engines},
    keep_models, listen,
    logs::Logs,
    members::Members,
    passes::Passes,
    places::Places,
    reconcile, recovery, retention, routes,
    stand_ins::StandIns,
    state::{App, Parts},
    watch::{watch_cluster, watch_local},
};

/// Longest wait for requests under way after the stop.
const DRAIN: Duration = Duration::from_secs(5);
/// Time between the start and the look for pythons; a submit that needs them earlier does not wait.
const PROBE_AFTER: Duration = Duration::from_millis(500);
/// The first user.
pub(crate) const ADMIN: &str = "admin";

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data folder cannot be used.
    #[error("the data folder {path}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The node's folder cannot be used.
    #[error("the folder {path}, which `[local] node` names")]
    Node {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] trainyard_store::Error),
    /// The object store cannot be opened.
    #[error("the embedded object store")]
    S3(#[from] OpenError),
    /// This program's own path is not known.
    #[error("the path of this program is not known")]
    Program(#[source] std::io::Error),
}

/// What programs need not see: the data folder, and what the command line of this user remembers.
fn private(config: &Config) -> Private {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let user = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|h| h.join(".config")));
    let user = user.map(|folder| folder.join("trainyard"));
    Private {
        isolate: config.local.isolate,
        closed: std::iter::once(config.data.clone()).chain(user.clone()).collect(),
        writable: config.local.writable.clone(),
        hide: DataFolder::private(&config.data).into_iter().chain(user).collect(),
    }
}

/// The cluster of the configuration. Its nodes reach this server under `own_url`, unless told otherwise.
fn cluster(config: &Config, program: PathBuf, id: &str, own_url: &str) -> Option<Cluster> {
    let slurm = config.engine.slurm.as_ref()?;
    let url = slurm.server_url.clone().unwrap_or_else(|| own_url.to_owned());
    let settings = cluster_settings(config, slurm, program, (id, &url));
    Some(Cluster {
        node: settings.node.clone(),
        members: match &settings.delivery {
            Delivery::Shared(_) => None,
            Delivery::Sent(sent) => Some(Members::new(id, sent.clone())),
        },
        engine: Arc::new(SlurmEngine::new(settings)),
        url: url.trim_end_matches('/').to_owned(),
        listen: slurm.rest.is_some(),
        address_file: slurm.shared.as_ref().map(|s| s.join(format!("server-{id}.json"))),
        shared: slurm.shared.clone(),
    })
}

fn cluster_settings(
    config: &Config,
    slurm: &SlurmConfig,
    program: PathBuf,
    (id, url): (&str, &str),
) -> Settings {
    Settings {
        server: id.to_owned(),
        program,
        delivery: match &slurm.shared {
            Some(folder) => Delivery::Shared(folder.clone()),
            None => Delivery::Sent(Sent {
                programs: DataFolder::programs(&config.data),
                url: url.to_owned(),
                munge_socket: slurm.munge_socket.clone(),
                as_owners: slurm.as_owners,
            }),
        },
        node: slurm.node(),
        options: slurm.job.clone(),
        requeue: slurm.requeue,
        lead: config.grace + slurm.store_seconds,
        forgotten: Duration::from_secs(slurm.lost_after),
        rest: slurm.rest.clone(),
        containers: slurm.container.as_ref().map(Images::all).unwrap_or_default(),
    }
}

/// Tries out the cluster of a configuration, whether its server runs or not. `program` is this one.
pub async fn examine_cluster(config: &Config, program: PathBuf) -> Vec<Finding> {
    let Some(slurm) = &config.engine.slurm else {
        return vec![Finding::note("the configuration names no cluster", Some("write `[engine.slurm]`"))];
    };
    let id = DataFolder::id_of(&config.data).unwrap_or_else(|_| "none".to_owned());
    let address = std::fs::read(DataFolder::address_path(&config.data)).ok();
    let address: Option<Address> = address.and_then(|text| serde_json::from_slice(&text).ok());
    let server = address.map(|a| slurm.server_url.clone().unwrap_or(a.runner_url));
    let url = server.clone().unwrap_or_default();
    examine(&cluster_settings(config, slurm, program, (&id, &url)), server).await
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn capacity(config: &Config) -> Result<Capacity, ConfigError> {
    let mut capacity = detect().await;
    if let Some(cpus) = config.local.cpus {
        capacity.cpus = cpus;
    }
    if let Some(memory) = &config.local.memory {
        capacity.memory = parse_bytes(memory)?;
    }
    if let Some(gpus) = &config.local.gpus {
        capacity.gpus.clone_from(gpus);
    }
    if let Some(n) = config.local.pretend_gpus {
        capacity.gpus = (0..n).map(|i| i.to_string()).collect();
        capacity.pretended = true;
    }
    Ok(capacity)
}

/// Serves until `stop` resolves. `ready` is called with the addresses once requests are taken.
pub async fn serve(
    config: Config,
    stop: impl Future<Output = ()>,
    ready: impl FnOnce(&Address),
) -> Result<(), StartError> {
    let failed = |source| StartError::Folder { path: config.data.display().to_string(), source };
    let (computes, catalogue) = (config.computes()?, config.catalogue()?);
    if config.engine.slurm.as_ref().is_some_and(|s| s.as_owners) && !nix::unistd::geteuid().is_root() {
        let message = "[engine.slurm] as_owners: only root submits jobs of others: start the server as root";
        return Err(ConfigError(message.to_owned()).into());
    }
    let folder = DataFolder::open(&config.data).map_err(failed)?;
    let key = folder.key().map_err(failed)?;
    let sealer = Sealer::new(&key);
    let store = Store::open(&folder.database(), sealer.clone())?;
    make_admin(&store, &folder.admin_token().map_err(failed)?).await?;
    let (listener, bound) = bind(config.listen).await?;
    // Runners of this machine reach an address that stands for all of them by loopback.
    let reached = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, bound.port())),
        _ => bound,
    };
    let own_url = format!("http://{reached}");
    let url = config.public_url.clone().unwrap_or_else(|| own_url.clone()).trim_end_matches('/').to_owned();
    let (stopped, stops) = watch::channel(false);

    let (mut s3_url, mut s3_task, mut own_store) = (None, None, None);
    if config.s3.enabled {
        let keys = folder.s3_keys().map_err(failed)?;
        let allowed = Keys::default();
        allowed.allow(&keys.access_key_id, keys.secret_access_key.expose());
        let (listener, bound) = bind(config.s3.listen).await?;
        let service = EmbeddedStore::open(&folder.s3())?.service(allowed.clone());
        own_store = Some((keys, allowed));
        s3_url = Some(format!("http://{bound}"));
        s3_task = Some(tokio::spawn(trainyard_s3::serve(listener, service, wait(stops.clone()))));
    }

    let program = std::env::current_exe().map_err(StartError::Program)?;
    let id = folder.server_id().map_err(failed)?;
    let node = config.node();
    // Elsewhere than in the data folder another server may have it, and would take its runs' folders for left ones.
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&node);
    let taken = made.and_then(|()| data_folder::take(&node.join("node.lock")));
    let _node_lock = taken.map_err(|source| StartError::Node { path: node.display().to_string(), source })?;
    let local = LocalEngine::new(program.clone(), node.clone(), id.clone());
    let ended = local.ended();
    let slurm = cluster(&config, program, &id, &own_url);
    let shared_address = slurm.as_ref().and_then(|c| c.address_file.clone());
    let (logs, metrics) = (Logs::new(folder.logs()), Logs::of_metrics(folder.logs()));
    let queue = Queue::new(capacity(&config).await?);
    let conductor = Conductor::new(
        store.clone(),
        (logs.clone(), metrics.clone()),
        (Engines { local: Arc::new(local), slurm }, queue, Passes::new(&key)),
        node,
        Site { url: own_url.clone(), id: id.clone(), address_file: DataFolder::address_path(&config.data) },
        private(&config),
    );
    let address = Address { url: url.clone(), runner_url: own_url, s3_url, pid: std::process::id() };
    let lifetime = Duration::from_hours(u64::from(config.token_hours));
    let app = App::new(Parts {
        gate: Gate::new(store.clone(), &key, lifetime),
        stand_ins: StandIns::new(store.clone(), sealer, &key, own_store),
        copies: tokio::sync::Notify::new(),
        copying: Semaphore::new(keep_models::AT_ONCE),
        uploads: Places::new(config.limits.uploads),
        monitors: Places::new(config.limits.monitors),
        config,
        folder,
        store,
        logs,
        metrics,
        conductor: conductor.clone(),
        computes,
        catalogue,
        pythons: tokio::sync::OnceCell::new(),
        access: Access::default(),
        http: Http::default(),
        url,
        definitions: tokio::sync::RwLock::new(()),
    });
    recovery::adopt(&app).await?;
    let mut background = tokio::task::JoinSet::new();
    background.spawn(watch_local(conductor.clone(), ended));
    background.spawn(watch_cluster(conductor));
    background.spawn(retention::retain(app.clone()));
    background.spawn(reconcile::reconcile(app.clone()));
    let probe = app.clone();
    background.spawn(async move {
        // A dozen interpreters are asked: not while the server is starting.
        tokio::time::sleep(PROBE_AFTER).await;
        probe.pythons().await;
    });

    let path = app.config.data.display().to_string();
    app.folder.announce(&address).map_err(|source| StartError::Folder { path, source })?;
    if let (Some(file), Some(cluster)) = (shared_address, &app.conductor.engines().slurm) {
        let here = Address { runner_url: cluster.url.clone(), ..address.clone() };
        let announced = here.announce(&file);
        announced.map_err(|source| StartError::Folder { path: file.display().to_string(), source })?;
    }
    tracing::info!(url = address.url, s3 = address.s3_url, "serving");
    ready(&address);
    let router = routes::router(app.clone(), &id, stops);
    let stop = async {
        stop.await;
        tracing::info!("stopping; runs go on without this server");
        let _ = stopped.send(true);
    };
    listen::serve(listener, router, app.url.clone(), &app.config.limits, stop, DRAIN).await;
    if let Some(task) = s3_task {
        let _ = tokio::time::timeout(DRAIN, task).await;
    }
    background.abort_all();
    app.folder.withdraw();
    Ok(())
}

/// The first user, with a token that lies in the data folder.
async fn make_admin(store: &Store, token: &Secret) -> Result<(), trainyard_store::Error> {
    if store.user(ADMIN)?.is_none() {
        store.add_user(ADMIN, true, None).await?;
    }
    if store.caller(token.expose())?.is_none() {
        store.add_token(token.expose(), ADMIN, true, Time::now()).await?;
    }
    Ok(())
}

async fn wait(mut stops: watch::Receiver<bool>) {
    let _ = stops.wait_for(|stopped| *stopped).await;
}
