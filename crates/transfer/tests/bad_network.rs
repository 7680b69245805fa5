//! Staging over a network that breaks, lies and stalls: a proxy between the client and the embedded
//! store does that to the bytes.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use trainyard_api::{Connection, Secret};
use trainyard_s3::{EmbeddedStore, Keys};
use trainyard_transfer::{Bucket, Cache, Error, Http, Progress, Staged, Upload, stage_in};

/// What the proxy does, per connection unless it says otherwise.
#[derive(Default)]
struct Faults {
    /// Cuts a connection once so many bytes have come down; 0: never.
    cut_down_after: u64,
    /// Cuts a connection once so many bytes have gone up; 0: never.
    cut_up_after: u64,
    /// Turns a byte over in so many of the next large answers, over all connections.
    lies: AtomicU64,
    /// Refuses so many of the next connections.
    refusals: AtomicU64,
    /// Connections that were cut.
    cuts: AtomicU64,
}

fn one_less(counter: &AtomicU64) -> bool {
    counter.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok()
}

async fn proxy(store: SocketAddr, faults: Arc<Faults>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            if one_less(&faults.refusals) {
                continue;
            }
            tokio::spawn(connection(client, store, Arc::clone(&faults)));
        }
    });
    address
}

async fn connection(client: TcpStream, store: SocketAddr, faults: Arc<Faults>) {
    let server = TcpStream::connect(store).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let limits = Arc::clone(&faults);
    let up = async move {
        let (mut buffer, mut sent) = (vec![0; 64 * 1024], 0);
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            sent += n as u64;
            if to_server.write_all(&buffer[..n]).await.is_err() {
                return;
            }
            if limits.cut_up_after > 0 && sent > limits.cut_up_after {
                limits.cuts.fetch_add(1, Relaxed);
                return;
            }
        }
    };
    let down = async move {
        let (mut buffer, mut sent) = (vec![0; 64 * 1024], 0);
        while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
            sent += n as u64;
            // A head of an answer is smaller than this: it is a body that is changed.
            if n > 32 * 1024 && one_less(&faults.lies) {
                buffer[n - 1] ^= 1;
            }
            if to_client.write_all(&buffer[..n]).await.is_err() {
                return;
            }
            if faults.cut_down_after > 0 && sent > faults.cut_down_after {
                faults.cuts.fetch_add(1, Relaxed);
                return;
            }
        }
    };
    // Whichever side ends first takes the other with it.
    tokio::select! { () = up => {}, () = down => {} }
}

/// A store, a bucket behind the proxy, and the same bucket without.
struct Scene {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
    bad: Bucket,
    good: Bucket,
}

async fn scene(faults: Faults) -> Scene {
    // As the binary does; every test but the first of a process finds it done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::default();
    keys.allow("ACCESS", "SECRET");
    let service = EmbeddedStore::open(&dir.path().join("s3")).unwrap().service(keys);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = listener.local_addr().unwrap();
    tokio::spawn(trainyard_s3::serve(listener, service, std::future::pending()));
    let faults = Arc::new(faults);
    let proxied = proxy(store, Arc::clone(&faults)).await;
    let bucket = |address: SocketAddr| {
        let connection = Connection {
            endpoint_url: format!("http://{address}"),
            access_key_id: "ACCESS".to_owned(),
            secret_access_key: Secret::new("SECRET"),
        };
        Bucket::new(&Http::default(), &connection, "data").unwrap()
    };
    let (bad, good) = (bucket(proxied), bucket(store));
    good.create().await.unwrap();
    Scene { dir, faults, bad, good }
}

/// Bytes that no two stretches share.
fn pattern(size: u32) -> Vec<u8> {
    (0..size / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

async fn stage(scene: &Scene) -> Result<Staged, Error> {
    let folder = scene.dir.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    let cache = Cache::open(&scene.dir.path().join("cache"))?;
    stage_in(&scene.bad, "", Some(&cache), &folder, &Progress::default()).await
}

fn staged_bytes(scene: &Scene, name: &str) -> Vec<u8> {
    std::fs::read(scene.dir.path().join("data").join(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_is_taken_up_where_it_broke_off() {
    let scene = scene(Faults { cut_down_after: 3 << 20, ..Faults::default() }).await;
    let bytes = pattern(40 << 20);
    let path = scene.dir.path().join("large");
    std::fs::write(&path, &bytes).unwrap();
    scene.good.put_file("large", &path).await.unwrap();
    scene.good.put("small", Bytes::from_static(b"small")).await.unwrap();
    let staged = stage(&scene).await.unwrap();
    assert!(staged.resumed >= 10, "40 MiB came in pieces of 3: {staged:?}");
    assert_eq!(staged.fetched_bytes, bytes.len() as u64 + 5, "bytes came twice");
    assert!(staged_bytes(&scene, "large") == bytes, "what came is not what is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_were_changed_on_the_way_are_fetched_again() {
    for size in [1 << 20, 40 << 20] {
        let scene = scene(Faults { lies: AtomicU64::new(1), ..Faults::default() }).await;
        let bytes = pattern(size);
        let path = scene.dir.path().join("object");
        std::fs::write(&path, &bytes).unwrap();
        scene.good.put_file("object", &path).await.unwrap();
        stage(&scene).await.unwrap();
        assert_eq!(scene.faults.lies.load(Relaxed), 0, "nothing was changed: this shows nothing");
        assert!(staged_bytes(&scene, "object") == bytes, "what came is not what is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_always_lies_is_an_error_and_leaves_nothing_in_the_cache() {
    let scene = scene(Faults { lies: AtomicU64::new(u64::MAX), ..Faults::default() }).await;
    scene.good.put("object", Bytes::from(pattern(1 << 20))).await.unwrap();
    let error = stage(&scene).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
    let mut open = vec![scene.dir.path().join("cache")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            assert!(entry.path().is_dir(), "{} is left", entry.path().display());
            open.push(entry.path());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_refused_for_a_while_are_tried_again() {
    let scene = scene(Faults { refusals: AtomicU64::new(3), ..Faults::default() }).await;
    scene.good.put("small", Bytes::from_static(b"small")).await.unwrap();
    stage(&scene).await.unwrap();
    assert_eq!(staged_bytes(&scene, "small"), b"small");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_arrive_over_connections_that_break() {
    // A part of 16 MiB gets through, and hardly another behind it.
    let scene = scene(Faults { cut_up_after: 20 << 20, ..Faults::default() }).await;
    let results = scene.dir.path().join("results");
    std::fs::create_dir(&results).unwrap();
    let bytes = pattern(70 << 20);
    std::fs::write(results.join("large"), &bytes).unwrap();
    std::fs::write(results.join("small"), "small").unwrap();
    let mut upload = Upload::new(scene.bad.clone(), "run/".to_owned());
    let limit = Duration::from_mins(2);
    tokio::time::timeout(limit, upload.sync(&results, "")).await.expect("it goes on for ever").unwrap();
    upload.verify().await.unwrap();
    assert!(scene.faults.cuts.load(Relaxed) > 0, "nothing was cut: this shows nothing");
    assert!(scene.good.get_bytes("run/large").await.unwrap() == bytes, "what arrived is not what was sent");
    assert_eq!(scene.good.get_bytes("run/small").await.unwrap(), "small");
}
