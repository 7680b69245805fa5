//! A proxy between a client and an HTTP/1.1 server that does what bad networks do: for tests.
//!
//! It understands no more of HTTP than where a request begins: with the first bytes that go up after some came
//! down. Clients here wait for an answer before they ask again.

mod connection;
mod faults;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread::JoinHandle,
};

use tokio::sync::oneshot;

pub use faults::{Fault, Faults};

/// A proxy that runs until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    faults: Arc<Faults>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy on a free port of loopback, before `target`. A target that does not listen is one that refuses.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let faults = Arc::<Faults>::default();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&faults);
        let thread = std::thread::Builder::new().name("chaos-proxy".into()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = serve(listener, target, shared) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, faults, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it does to them.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has nothing to say that a test could still use.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: tokio::net::TcpListener, target: SocketAddr, faults: Arc<Faults>) {
    while let Ok((client, _)) = listener.accept().await {
        if faults.refuses() {
            continue;
        }
        tokio::spawn(connection::carry(client, target, Arc::clone(&faults)));
    }
}
