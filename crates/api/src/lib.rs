//! The wire types of Trainyard's REST API and its errors, shared by server, runner and client.
//!
//! The shapes are those of Watson Machine Learning v3 as `docs/compatibility.md` describes them;
//! what Trainyard adds stands in fields of its own. Nothing here does I/O.

mod definition;
mod error;
mod finding;
mod identity;
mod ids;
mod metric;
mod model;
mod monitor;
mod page;
mod published;
mod reference;
mod result;
mod run;
pub mod runner;
mod secret;
mod time;

pub use definition::{Definition, DefinitionEntity, DefinitionVersion, NewDefinition};
pub use error::{Code, ErrorBody, ErrorEntry, Problem};
pub use finding::{Finding, Health};
pub use identity::{Account, Count, Instance, InstanceEntity, InstanceMetadata, Owner, Token, Usage};
pub use ids::{InvalidRunId, RunId, Uuid, random_token};
pub use metric::{Metric, MetricValue};
pub use model::{
    ContentLocation, ContentSource, ContentStatus, ModelEntity, ModelVersion, NewModel, NewModelAsset,
    StoredAsset, StoredAssetEntity, StoredModel,
};
pub use monitor::{Frame, FrameStatus};
pub use page::{Link, Page};
pub use published::{PublishedDeployments, PublishedEntity, PublishedModel, PublishedVersion};
pub use reference::{Bucket, Connection, DataReference, Location};
pub use result::{ResultObject, Results};
pub use run::{
    Author, ComputeConfiguration, Execution, Failure, Framework, LearnerStatus, Metadata, ModelDefinition,
    NewRun, PatchOp, Phase, Run, RunEntity, RunState, Runtime, Status, StatusError, Transition,
};
pub use secret::Secret;
pub use time::Time;
