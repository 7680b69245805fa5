//! The instance, as the original described one, and the frameworks that it runs.

use axum::{Json, extract::State};
use serde::Serialize;
use trainyard_api::{
    Account, Count, Instance, InstanceEntity, InstanceMetadata, Link, Owner, Usage, runner::EngineName,
};
use utoipa::ToSchema;

use super::documented::Refused;
use crate::{auth::User, extract::Path, problem::Answer, state::App};

/// The instance. Any id names this server.
#[utoipa::path(
    get, path = "/v3/wml_instances/{id}", tag = "instance",
    params(("id" = String, Path, description = "Any")),
    responses((status = 200, description = "The instance", body = Instance), Refused),
)]
pub(crate) async fn show(
    State(app): State<App>,
    User(caller): User,
    Path(id): Path<String>,
) -> Answer<Json<Instance>> {
    let url = app.instance_url(&id);
    let (gpus, used) = app.conductor.queue(|q| (q.capacity().gpus.len(), q.gpus_in_use()));
    let link = |name: &str| Link { url: format!("{url}/{name}") };
    let entity = InstanceEntity {
        source: "trainyard".to_owned(),
        published_models: link("published_models"),
        deployments: link("deployments"),
        usage: Usage {
            gpu_count: Count { limit: Some(gpus as u64), current: used as u64 },
            model_count: Count { limit: None, current: app.store.count_models(&caller.owner)? },
            deployment_count: Count { limit: None, current: 0 },
        },
        plan_id: "own-machines".to_owned(),
        plan: "own machines".to_owned(),
        status: "Active".to_owned(),
        organization_guid: String::new(),
        space_guid: String::new(),
        region: "local".to_owned(),
        account: Account { id: caller.owner.clone(), name: caller.owner.clone(), kind: "USER".to_owned() },
        owner: Owner { user_id: caller.owner, admin: caller.admin },
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let made_at = app.folder.made_at();
    let metadata = InstanceMetadata { guid: id, url, created_at: made_at, modified_at: made_at };
    Ok(Json(Instance { metadata, entity }))
}

/// A framework that can be asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct OfferedFramework {
    name: String,
    version: String,
    /// Python versions that it runs on.
    runtimes: Vec<String>,
    /// Pinned requirements of its environment.
    packages: Vec<String>,
    /// The image that it is in, where it runs in a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<String>,
}

/// A compute configuration that can be asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct OfferedCompute {
    name: String,
    cpus: f64,
    /// Bytes.
    memory: u64,
    gpus: u32,
    /// Why it cannot be had here.
    unavailable: Option<String>,
}

/// What can be asked for.
#[derive(Serialize, ToSchema)]
pub(crate) struct Frameworks {
    resources: Vec<OfferedFramework>,
    compute_configurations: Vec<OfferedCompute>,
    /// Pythons of this machine.
    pythons: Vec<String>,
}

/// Frameworks, compute configurations and pythons.
#[utoipa::path(
    get, path = "/v3/models/frameworks", tag = "instance",
    responses((status = 200, description = "What can be asked for", body = Frameworks), Refused),
)]
pub(crate) async fn frameworks(State(app): State<App>, _: User) -> Answer<Json<Frameworks>> {
    let entry = |e: &trainyard_environment::Entry| OfferedFramework {
        name: e.name.clone(),
        version: e.version.clone(),
        runtimes: e.python.clone(),
        packages: e.packages.clone(),
        image: None,
    };
    let in_image = |e: &trainyard_environment::ImageEntry| OfferedFramework {
        name: e.name.clone(),
        version: e.version.clone(),
        runtimes: Vec::new(),
        packages: Vec::new(),
        image: Some(e.image.clone()),
    };
    let images = app.config.images(EngineName::Slurm).into_iter().flat_map(|i| &i.frameworks);
    let compute = |(name, d): (&str, trainyard_api::runner::Demand)| OfferedCompute {
        name: name.to_owned(),
        cpus: d.cpus,
        memory: d.memory,
        gpus: d.gpus,
        unavailable: match app.config.placing(name, None).0 {
            EngineName::Local => app.conductor.queue(|q| q.capacity().refusal(&d)),
            EngineName::Slurm => None,
        },
    };
    Ok(Json(Frameworks {
        resources: images.map(in_image).chain(app.catalogue.entries.iter().map(entry)).collect(),
        compute_configurations: app.computes.iter().map(compute).collect(),
        pythons: app.pythons().await.iter().map(|p| p.version.clone()).collect(),
    }))
}
