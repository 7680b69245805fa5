//! What every handler can reach.

use std::sync::Arc;

use trainyard_engine::Computes;
use trainyard_environment::{Catalogue, Python};
use trainyard_store::Store;
use trainyard_transfer::Http;

use crate::{
    Config, DataFolder, access::Access, auth::Gate, conductor::Conductor, logs::Logs, places::Places,
    stand_ins::StandIns,
};

/// The parts of a running server. Clones share them.
#[derive(Clone)]
pub(crate) struct App(Arc<Parts>);

/// See [`App`].
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) folder: DataFolder,
    pub(crate) store: Store,
    pub(crate) logs: Logs,
    pub(crate) metrics: Logs,
    pub(crate) gate: Gate,
    pub(crate) stand_ins: StandIns,
    pub(crate) conductor: Conductor,
    pub(crate) computes: Computes,
    pub(crate) catalogue: Catalogue,
    /// Found out in the background: asking a dozen interpreters takes longer than starting.
    pub(crate) pythons: tokio::sync::OnceCell<Vec<Python>>,
    pub(crate) access: Access,
    pub(crate) http: Http,
    /// URL of the API, without a slash at its end.
    pub(crate) url: String,
    /// Held alone while a definition's zip is put or removed, shared while a run is journaled that
    /// needs one.
    pub(crate) definitions: tokio::sync::RwLock<()>,
    /// Told when a model has been copied.
    pub(crate) copies: tokio::sync::Notify,
    /// How many more models may be copied at once.
    pub(crate) copying: tokio::sync::Semaphore,
    /// How many more files may be on their way here.
    pub(crate) uploads: Places,
    /// How many more monitors may be open.
    pub(crate) monitors: Places,
}

impl App {
    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// URL of the instance that is called by this id: all are this server.
    pub(crate) fn instance_url(&self, id: &str) -> String {
        let id: String = url::form_urlencoded::byte_serialize(id.as_bytes()).collect();
        format!("{}/v3/wml_instances/{id}", self.url)
    }

    /// The pythons of this machine.
    pub(crate) async fn pythons(&self) -> &[Python] {
        self.pythons.get_or_init(trainyard_environment::find_pythons).await
    }
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
