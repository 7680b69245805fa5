//! One connection through the proxy: its bytes, and what happens to them.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use crate::{Fault, Faults};

/// Bytes that are carried at once.
const CHUNK: usize = 64 * 1024;
/// An answer of more is large: its head is smaller than that, so that it is a body that is changed.
const LARGE: usize = 32 * 1024;

/// What the two directions of a connection know of each other.
#[derive(Default)]
struct Talk {
    /// Something came down since the last request began: what goes up next begins another.
    answered: bool,
    /// What is to happen to the answer that is awaited.
    fault: Option<Fault>,
    /// Bytes of that answer that have come down.
    answer: u64,
}

/// Carries bytes until one side ends, or a fault does it.
pub(crate) async fn carry(client: TcpStream, target: SocketAddr, faults: Arc<Faults>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let talk = Mutex::new(Talk { answered: true, ..Talk::default() });
    // Whichever side ends first takes the other with it.
    tokio::select! {
        _ = up(from_client, to_server, &talk, &faults) => {}
        _ = down(from_server, to_client, &talk, &faults) => {}
    }
}

async fn up(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    talk: &Mutex<Talk>,
    faults: &Faults,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    // Bytes of this request that may still go up.
    let mut left = u64::MAX;
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        if lock(talk).answered {
            left = u64::MAX;
            let fault = faults.of(&buffer[..n]);
            match fault {
                Some(Fault::CutRequest(bytes)) => left = bytes,
                Some(Fault::Delay(time)) => {
                    faults.happens();
                    tokio::time::sleep(time).await;
                }
                _ => {}
            }
            *lock(talk) = Talk { fault, ..Talk::default() };
        }
        let goes = left.min(n as u64);
        to.write_all(&buffer[..goes as usize]).await?;
        left -= goes;
        sent += goes;
        if left == 0 || faults.ends_up(sent) {
            faults.happens();
            return Ok(());
        }
    }
}

async fn down(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    talk: &Mutex<Talk>,
    faults: &Faults,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut sent = 0;
    loop {
        let n = from.read(&mut buffer).await?;
        if n == 0 {
            return Ok(());
        }
        let mut comes = n as u64;
        let mut ends = false;
        {
            let mut talk = lock(talk);
            talk.answered = true;
            match talk.fault {
                Some(Fault::LoseAnswer) => (comes, ends) = (0, true),
                Some(Fault::TruncateAnswer(bytes)) if talk.answer + comes >= bytes => {
                    (comes, ends) = (bytes.saturating_sub(talk.answer), true);
                }
                Some(Fault::Lie) if n > LARGE => {
                    buffer[n - 1] ^= 1;
                    talk.fault = None;
                    faults.happens();
                }
                _ => {}
            }
            talk.answer += comes;
        }
        to.write_all(&buffer[..comes as usize]).await?;
        sent += comes;
        if ends || faults.ends_down(sent) {
            faults.happens();
            return Ok(());
        }
    }
}

fn lock(talk: &Mutex<Talk>) -> MutexGuard<'_, Talk> {
    talk.lock().unwrap_or_else(PoisonError::into_inner)
}
