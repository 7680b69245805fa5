//! The HTTP clients below: one for plain connections, one with TLS, made when first needed.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Client, redirect::Policy};
use url::Url;

use crate::{Error, endpoint::is_loopback};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a connection is kept that nothing happens on. Stores and proxies close theirs after half a minute and
/// more, and a request that meets that is lost.
const IDLE: Duration = Duration::from_secs(15);

/// Shared connection pools. Clones share them.
#[derive(Clone, Default)]
pub struct Http(Arc<Pools>);

#[derive(Default)]
struct Pools {
    local: OnceLock<Client>,
    plain: OnceLock<Client>,
    secure: OnceLock<Client>,
}

impl Http {
    /// The pool for `url`. Reading the system's certificates takes milliseconds, so plain
    /// connections do without; connections to this machine never go through a proxy.
    pub fn client(&self, url: &Url) -> Result<Client, Error> {
        // No limit on silence here: it would count the time that a large body takes to go out.
        // No redirects: a store could send this machine anywhere, and the signature would go along.
        let builder = || {
            let builder = Client::builder().redirect(Policy::none()).referer(false);
            builder.connect_timeout(CONNECT).pool_idle_timeout(IDLE).tcp_nodelay(true)
        };
        let (slot, builder) = if is_loopback(url) && url.scheme() == "http" {
            (&self.0.local, builder().no_proxy().tls_certs_only([]))
        } else if url.scheme() == "http" {
            (&self.0.plain, builder().tls_certs_only([]))
        } else {
            (&self.0.secure, builder())
        };
        if let Some(client) = slot.get() {
            return Ok(client.clone());
        }
        let made = builder.build().map_err(|e| Error::Unreachable {
            endpoint: url.to_string(),
            cause: format!("no HTTP client could be made: {}", crate::error::chain(&e)),
        })?;
        Ok(slot.get_or_init(|| made).clone())
    }
}
