//! Staging over a network that breaks, lies and stalls: a proxy between the client and the embedded
//! store does that to the bytes.
#![expect(clippy::unwrap_used, reason = "tests stop at the first surprise")]

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use md5::Digest;
use tokio::net::TcpListener;
use trainyard_api::{Connection, Secret};
use trainyard_chaos::{Fault, Proxy};
use trainyard_s3::{EmbeddedStore, Keys};
use trainyard_transfer::{
    Bucket, Cache, Error, Http, Ledger, Past, Progress, StageIn, Staged, Upload, stage_in,
};

/// A store, a bucket behind the proxy, and the same bucket without.
struct Scene {
    dir: tempfile::TempDir,
    proxy: Proxy,
    bad: Bucket,
    good: Bucket,
}

async fn scene() -> Scene {
    // As the binary does; every test but the first of a process finds it done.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let dir = tempfile::tempdir().unwrap();
    let keys = Keys::default();
    keys.allow("ACCESS", "SECRET");
    let service = EmbeddedStore::open(&dir.path().join("s3")).unwrap().service(keys);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let store = listener.local_addr().unwrap();
    tokio::spawn(trainyard_s3::serve(listener, service, std::future::pending()));
    let proxy = Proxy::start(store).unwrap();
    let bucket = |address: SocketAddr| {
        let connection = Connection {
            endpoint_url: format!("http://{address}"),
            access_key_id: "ACCESS".to_owned(),
            secret_access_key: Secret::new("SECRET"),
        };
        Bucket::new(&Http::default(), &connection, "data").unwrap()
    };
    let (bad, good) = (bucket(proxy.address()), bucket(store));
    good.create().await.unwrap();
    Scene { dir, proxy, bad, good }
}

impl Scene {
    /// A folder below the scene's.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    /// Puts a large object, past the proxy.
    async fn put_large(&self, key: &str, bytes: &[u8]) {
        let path = self.dir.path().join("large");
        std::fs::write(&path, bytes).unwrap();
        self.good.put_file(key, &path).await.unwrap();
    }

    /// What the store holds, by key.
    async fn keys(&self) -> Vec<String> {
        self.good.list("").await.unwrap().into_iter().map(|o| o.key).collect()
    }

    async fn assert_nothing_unfinished(&self) {
        assert_eq!(self.good.unfinished("").await.unwrap(), [], "uploads are left in the store");
    }
}

/// Bytes that no two stretches share.
fn pattern(size: u32) -> Vec<u8> {
    (0..size / 4).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

async fn stage(scene: &Scene) -> Result<Staged, Error> {
    let folder = scene.folder("data");
    let cache = Cache::open(&scene.dir.path().join("cache"))?;
    stage_in(&scene.bad, "", Some(&cache), &folder, &Progress::default()).await
}

fn staged_bytes(scene: &Scene, name: &str) -> Vec<u8> {
    std::fs::read(scene.dir.path().join("data").join(name)).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_is_taken_up_where_it_broke_off() {
    let scene = scene().await;
    scene.proxy.faults().cut_down_after(3 << 20);
    let bytes = pattern(40 << 20);
    scene.put_large("large", &bytes).await;
    scene.good.put("small", Bytes::from_static(b"small")).await.unwrap();
    let staged = stage(&scene).await.unwrap();
    assert!(staged.resumed >= 10, "40 MiB came in pieces of 3: {staged:?}");
    assert_eq!(staged.fetched_bytes, bytes.len() as u64 + 5, "bytes came twice");
    assert!(staged_bytes(&scene, "large") == bytes, "what came is not what is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_were_changed_on_the_way_are_fetched_again() {
    for size in [1 << 20, 40 << 20] {
        let scene = scene().await;
        scene.proxy.faults().plan(Fault::Lie, &["GET /data/object"]);
        let bytes = pattern(size);
        scene.put_large("object", &bytes).await;
        stage(&scene).await.unwrap();
        assert_eq!(scene.proxy.faults().happened(), 1, "nothing was changed: this shows nothing");
        assert!(staged_bytes(&scene, "object") == bytes, "what came is not what is there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_always_lies_is_an_error_and_leaves_nothing_in_the_cache() {
    let scene = scene().await;
    (0..100).for_each(|_| scene.proxy.faults().plan(Fault::Lie, &["GET /data/object"]));
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
    let scene = scene().await;
    scene.proxy.faults().refuse(3);
    scene.good.put("small", Bytes::from_static(b"small")).await.unwrap();
    stage(&scene).await.unwrap();
    assert_eq!(staged_bytes(&scene, "small"), b"small");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn results_arrive_over_connections_that_break() {
    // A part of 16 MiB gets through, and hardly another behind it.
    let scene = scene().await;
    scene.proxy.faults().cut_up_after(20 << 20);
    let results = scene.folder("results");
    let bytes = pattern(70 << 20);
    std::fs::write(results.join("large"), &bytes).unwrap();
    std::fs::write(results.join("small"), "small").unwrap();
    let mut upload = Upload::new(scene.bad.clone(), "run/".to_owned());
    let limit = Duration::from_mins(2);
    tokio::time::timeout(limit, upload.sync(&results, "")).await.expect("it goes on for ever").unwrap();
    upload.verify().await.unwrap();
    assert!(scene.proxy.faults().happened() > 0, "nothing was cut: this shows nothing");
    assert!(scene.good.get_bytes("run/large").await.unwrap() == bytes, "what arrived is not what was sent");
    assert_eq!(scene.good.get_bytes("run/small").await.unwrap(), "small");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changes_or_goes_while_it_is_fetched_is_fetched_as_it_is_then() {
    for cached in [true, false] {
        let scene = scene().await;
        let folder = scene.folder("data");
        let cache = Cache::open(&scene.dir.path().join("cache")).unwrap();
        for key in ["deep/gone", "deep/stays", "kept", "restless"] {
            scene.good.put(key, Bytes::from(key.to_owned())).await.unwrap();
        }
        scene.put_large("large", &pattern(40 << 20)).await;
        // Everything waits at the door until the bucket is another one than was listed.
        for key in ["deep/gone", "restless", "large"] {
            scene.proxy.faults().plan(Fault::Delay(Duration::from_millis(300)), &["GET ", key]);
        }
        // And what is to stay comes when what lay beside it is known to be gone.
        scene.proxy.faults().plan(Fault::Delay(Duration::from_secs(1)), &["GET ", "deep/stays"]);
        let writer = async {
            while scene.proxy.faults().planned() > 0 {
                tokio::task::yield_now().await;
            }
            scene.good.delete("deep/gone").await.unwrap();
            scene.good.put("restless", Bytes::from("another")).await.unwrap();
            scene.good.put("new", Bytes::from("new")).await.unwrap();
            scene.put_large("large", &pattern(36 << 20)).await;
        };
        let mut stage = StageIn::new(&scene.bad, "", cached.then_some(&cache), &folder);
        let progress = Progress::default();
        let (moved, ()) = tokio::join!(stage.round(&progress), writer);
        assert!(moved.unwrap().is_some(), "nothing moved: this shows nothing");
        while stage.round(&progress).await.unwrap().is_some() {}
        let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!([text("kept"), text("restless"), text("new")], ["kept", "another", "new"]);
        assert_eq!(text("deep/stays"), "deep/stays");
        assert!(std::fs::read(folder.join("large")).unwrap() == pattern(36 << 20));
        assert!(!folder.join("deep/gone").exists(), "what is gone from the bucket is still here");
        let mut keys: Vec<String> = stage.objects().map(|o| o.key.clone()).collect();
        keys.sort();
        assert_eq!(keys, scene.keys().await);
        assert_eq!(stage.staged().files, 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_that_is_written_all_the_time_keeps_nobody_waiting() {
    let scene = scene().await;
    for n in 0..50 {
        scene.good.put(&format!("checkpoint-{n}"), Bytes::from(n.to_string())).await.unwrap();
    }
    let folder = scene.folder("data");
    let (good, stop) = (scene.good.clone(), Arc::new(tokio::sync::Notify::new()));
    let stopped = Arc::clone(&stop);
    let writer = tokio::spawn(async move {
        let mut n = 0u64;
        loop {
            n += 1;
            let bytes = Bytes::from(format!("version {n} of the one that is restless"));
            tokio::select! {
                written = good.put("checkpoint-7", bytes) => written.unwrap(),
                () = stopped.notified() => return n,
            };
        }
    });
    for _ in 0..20 {
        stage_in(&scene.bad, "", None, &folder, &Progress::default()).await.unwrap();
        assert!(std::fs::read_to_string(folder.join("checkpoint-7")).is_ok_and(|t| !t.is_empty()));
        std::fs::remove_dir_all(&folder).unwrap();
        std::fs::create_dir(&folder).unwrap();
    }
    stop.notify_one();
    assert!(writer.await.unwrap() > 40, "it was hardly written: this shows nothing");
}

/// Stores a large file over answers that are lost at every step, each alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_lost_costs_nothing_but_time() {
    const BEGIN: &[&str] = &["POST ", "uploads="];
    const COMPLETE: &[&str] = &["POST ", "uploadId="];
    // In the head of an answer, and in the body of those that have one.
    const HEAD: Fault = Fault::TruncateAnswer(20);
    const BODY: Fault = Fault::TruncateAnswer(300);
    for (step, faults) in [
        (BEGIN, vec![Fault::LoseAnswer, HEAD, BODY]),
        (&["PUT ", "partNumber=2"], vec![Fault::LoseAnswer, HEAD]),
        (COMPLETE, vec![Fault::LoseAnswer, HEAD, BODY]),
        (&["PUT /data/run/small"], vec![Fault::LoseAnswer, HEAD]),
    ] {
        for fault in faults {
            let scene = scene().await;
            let results = scene.folder("results");
            let bytes = pattern(36 << 20);
            std::fs::write(results.join("large"), &bytes).unwrap();
            std::fs::write(results.join("small"), "small").unwrap();
            // An older object of the same size and kind, which is not to be taken for the new one.
            scene.put_large("run/large", &vec![1; bytes.len()]).await;
            scene.proxy.faults().plan(fault.clone(), step);
            let mut upload = Upload::new(scene.bad.clone(), "run/".to_owned());
            upload.sync(&results, "").await.unwrap_or_else(|e| panic!("{fault:?} {step:?}: {e}"));
            assert_eq!(scene.proxy.faults().happened(), 1, "{fault:?} {step:?} met nothing");
            assert!(scene.good.get_bytes("run/large").await.unwrap() == bytes, "{fault:?} {step:?}");
            upload.verify().await.unwrap();
            scene.assert_nothing_unfinished().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_store_forgot_is_begun_anew() {
    let scene = scene().await;
    let results = scene.folder("results");
    let bytes = pattern(36 << 20);
    std::fs::write(results.join("large"), &bytes).unwrap();
    let aborter = async {
        loop {
            if let Some(one) = scene.good.unfinished("run/").await.unwrap().pop() {
                return scene.good.give_up(&one.key, &one.id).await.unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let mut upload = Upload::new(scene.bad.clone(), "run/".to_owned());
    let (stored, ()) = tokio::join!(upload.sync(&results, ""), aborter);
    stored.unwrap();
    assert!(scene.good.get_bytes("run/large").await.unwrap() == bytes);
    scene.assert_nothing_unfinished().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_whether_keys_may_write_leaves_nothing_whatever_is_lost() {
    let scene = scene().await;
    scene.bad.check_write().await.unwrap();
    scene.proxy.faults().plan(Fault::LoseAnswer, &["PUT "]);
    scene.bad.check_write().await.unwrap_err();
    scene.assert_nothing_unfinished().await;
    assert_eq!(scene.keys().await, [""; 0]);
}

/// A runner that stored some files and is lost; what the program did since; and the one that comes after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_comes_after_stores_what_is_new_and_takes_away_what_is_gone() {
    let scene = scene().await;
    let root = scene.folder("run-folder");
    let results = root.join("results");
    std::fs::create_dir(&results).unwrap();
    let path = root.join("ledger.jsonl");
    let ledger = Arc::new(Ledger::create(&path).unwrap());
    let mut lost = Upload::new(scene.good.clone(), "run/".to_owned()).noted_in(ledger);
    for name in ["kept", "rotated", "changed"] {
        std::fs::write(results.join(name), name).unwrap();
    }
    lost.sync(&results, "").await.unwrap();
    // In doubt when it is killed: one that arrived all the same, and an upload in parts.
    scene.good.put("run/doubtful", Bytes::from("arrived")).await.unwrap();
    let line = r#"{"storing":{"key":"run/doubtful","folder":"results","name":"doubtful","version":{"size":7,"modified":[1,2],"inode":3}}}"#;
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str(line);
    std::fs::write(&path, text + "\n").unwrap();
    scene.good.put("run/of-nobody", Bytes::from("?")).await.unwrap();
    drop(lost);
    std::fs::remove_file(results.join("rotated")).unwrap();
    std::fs::write(results.join("changed"), "another").unwrap();
    std::fs::write(results.join("new"), "new").unwrap();
    let before = scene.good.list("run/kept").await.unwrap();

    let mut next = Upload::new(scene.good.clone(), "run/".to_owned());
    next = next.noted_in(Arc::new(Ledger::go_on(&path).unwrap()));
    next.resume(&Past::read(&path).unwrap().unwrap(), &root);
    next.check().await.unwrap();
    next.sync(&results, "").await.unwrap();
    next.prune().await.unwrap();
    next.find_others(&|_| false).await.unwrap();
    assert_eq!(scene.good.list("run/kept").await.unwrap(), before);
    let there = scene.good.list("run/").await.unwrap();
    let keys: Vec<&str> = there.iter().map(|o| &o.key["run/".len()..]).collect();
    assert_eq!(keys, ["changed", "kept", "new", "of-nobody"]);
    assert_eq!(scene.good.get_bytes("run/changed").await.unwrap(), "another");
    let inventory = next.inventory();
    let listed: Vec<(&str, u64)> = inventory.iter().map(|(k, s)| (&**k, s.size)).collect();
    let expected: Vec<(&str, u64)> = there.iter().map(|o| (&o.key["run/".len()..], o.size)).collect();
    assert_eq!(listed, expected, "the inventory is not what is there");
    // And whoever comes after that one finds all done.
    let past = Past::read(&path).unwrap().unwrap();
    let mut last = Upload::new(scene.good.clone(), "run/".to_owned());
    last.resume(&past, &root);
    assert_eq!(last.inventory().len(), 3);
}

/// Checkpoints lie where all runs of a bucket store theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_fetched_or_stored_goes_back_over_nothing_that_another_stored_since() {
    let scene = scene().await;
    let root = scene.folder("run-folder");
    let folder = root.join("checkpoints");
    std::fs::create_dir(&folder).unwrap();
    for key in ["fetched", "touched", "written-over", "own"] {
        scene.good.put(&format!("shared/{key}"), Bytes::from(format!("{key} 1"))).await.unwrap();
    }
    let mut stage = StageIn::new(&scene.good, "shared/", None, &folder);
    assert_eq!(stage.round(&Progress::default()).await.unwrap(), None);
    let path = root.join("ledger.jsonl");
    let ledger = Arc::new(Ledger::create(&path).unwrap());
    let mut lost = Upload::new(scene.good.clone(), "shared/".to_owned()).noted_in(ledger);
    lost.adopt(&folder, "", stage.objects());
    // The program writes two, and its runner stores them.
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("written-over", "mine 2");
    write("own", "mine 2");
    lost.sync(&folder, "").await.unwrap();
    drop(lost);
    // It goes on alone, and touches one of another's.
    write("own", "mine 3");
    set_modified(&folder.join("touched"), std::time::SystemTime::now());
    write("late", "written before another run stored one of its name");
    // Its runner was killed while it stored a version that the program has replaced since.
    let md5 = |text: &str| hex::encode(md5::Md5::digest(text));
    let mut text = std::fs::read_to_string(&path).unwrap();
    let noted = format!(r#","etag":"{}"}}}}"#, md5("mine 2"));
    assert!(text.contains(&noted), "what an object is to be is not noted: {text}");
    text.push_str(r#"{"storing":{"key":"shared/on-its-way","folder":"checkpoints","name":"on-its-way","version":{"size":6,"modified":[1,2],"inode":3}"#);
    std::fs::write(&path, text + &noted + "\n").unwrap();
    write("on-its-way", "mine 3");
    // Dates of HTTP are whole seconds: the others come later than that.
    wait_for_another_second().await;
    for key in ["fetched", "touched", "written-over", "late"] {
        scene.good.put(&format!("shared/{key}"), Bytes::from("another run's")).await.unwrap();
    }
    scene.good.put("shared/on-its-way", Bytes::from("mine 2")).await.unwrap();
    scene.good.put("shared/backdated", Bytes::from("another run's")).await.unwrap();
    wait_for_another_second().await;
    write("newest", "mine");
    // As `cp -p` leaves what it copies.
    write("backdated", "mine");
    set_modified(&folder.join("backdated"), std::time::SystemTime::UNIX_EPOCH);

    let mut next = Upload::new(scene.good.clone(), "shared/".to_owned()).giving_way();
    next.resume(&Past::read(&path).unwrap().unwrap(), &root);
    next.sync(&folder, "").await.unwrap();
    for (key, expected) in [
        ("fetched", "another run's"),
        ("touched", "another run's"),
        ("written-over", "another run's"),
        ("late", "another run's"),
        ("own", "mine 3"),
        ("newest", "mine"),
        ("on-its-way", "mine 3"),
        ("backdated", "mine"),
    ] {
        assert_eq!(scene.good.get_bytes(&format!("shared/{key}")).await.unwrap(), expected, "{key}");
    }
    let mut named: Vec<&str> = next.skipped.keys().map(String::as_str).collect();
    named.sort_unstable();
    assert_eq!(named, ["late", "touched"], "what is left out is not named");
}

fn set_modified(path: &Path, time: std::time::SystemTime) {
    std::fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

/// Until the clock shows another second, and so every date that a store gives from here on.
async fn wait_for_another_second() {
    let second = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let now = second();
    while second() <= now + 1 {
        tokio::task::yield_now().await;
    }
}
