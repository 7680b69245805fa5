//! The control plane: start-up, submits, no-op runs, recovery, lists.

use std::{
    process::Command,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use trainyard_store::{Sealer, Store};

use crate::rig::{PROGRAM, Rig, Row, block_on, ms, quantile, tool};

fn timed(mut command: Command) -> Duration {
    let begun = Instant::now();
    assert!(command.output().unwrap().status.success());
    begun.elapsed()
}

pub(crate) fn start() -> Vec<Row> {
    let version = || {
        let mut command = Command::new(PROGRAM);
        command.arg("--version");
        timed(command)
    };
    let mut versions: Vec<Duration> = (0..200).map(|_| version()).collect();
    let mut bare: Vec<Duration> = (0..200).map(|_| timed(Command::new("/bin/true"))).collect();
    let mut rig = Rig::new("");
    let mut lists: Vec<Duration> = (0..100).map(|_| timed(rig.cli(&["list"]))).collect();
    std::thread::sleep(Duration::from_secs(2));
    let resident = rig.resident();
    let mut starts: Vec<Duration> = (0..10)
        .map(|_| {
            rig.kill();
            rig.start();
            rig.ready_in
        })
        .collect();
    let beside = format!("/bin/true: {}", ms(quantile(&mut bare, 0.5)));
    vec![
        Row("`trainyard --version`, p50", ms(quantile(&mut versions, 0.5)), beside, "< 5 ms"),
        Row("`trainyard list`, p50", ms(quantile(&mut lists, 0.5)), String::new(), "< 15 ms"),
        Row("server, exec to `/readyz`, p50", ms(quantile(&mut starts, 0.5)), String::new(), "< 150 ms"),
        Row("server, idle resident memory", format!("{resident:.1} MiB"), String::new(), "< 30 MB"),
    ]
}

pub(crate) fn submit() -> Vec<Row> {
    const COUNT: usize = 8000;
    // One run holds the only core, so that nothing but submits happens.
    let rig = Rig::new("[local]\ncpus = 1\nmemory = '64GiB'\n");
    let definition = rig.definition();
    let body = rig.body(&definition, "sleep 1000", "cpu");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        rig.submit(&body).await;
        let mut single = Vec::new();
        for _ in 0..300 {
            let begun = Instant::now();
            rig.submit(&body).await;
            single.push(begun.elapsed());
        }
        let begun = Instant::now();
        stream::iter(0..COUNT).map(|_| rig.submit(&body)).buffer_unordered(32).collect::<Vec<_>>().await;
        let rate = COUNT as f64 / begun.elapsed().as_secs_f64();
        vec![
            Row("durable submits, 32 clients", format!("{rate:.0}/s"), String::new(), ">= 3,000/s"),
            Row("durable submit, 1 client, p50", ms(quantile(&mut single, 0.5)), String::new(), "< 3 ms"),
        ]
    })
}

pub(crate) fn noop() -> Vec<Row> {
    const COUNT: usize = 1000;
    let rig = Rig::new("[local]\ncpus = 12\nmemory = '64GiB'\n");
    let definition = rig.definition();
    let body = rig.body(&definition, "true", "cpu");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (mut latencies, rate) = runtime.block_on(async {
        let mut latencies = Vec::new();
        for _ in 0..100 {
            let begun = Instant::now();
            let id = rig.submit(&body).await;
            assert_eq!(rig.end(&id, Duration::from_millis(1)).await, "completed");
            latencies.push(begun.elapsed());
        }
        let begun = Instant::now();
        let ids: Vec<String> =
            stream::iter(0..COUNT).map(|_| rig.submit(&body)).buffer_unordered(16).collect().await;
        for id in ids.iter().rev() {
            assert_eq!(rig.end(id, Duration::from_millis(20)).await, "completed");
        }
        (latencies, COUNT as f64 / begun.elapsed().as_secs_f64())
    });
    drop(rig);
    let output = tool("python")
        .args([concat!(env!("CARGO_MANIFEST_DIR"), "/../../benches/peer_tasks.py"), "2000"])
        .output()
        .unwrap();
    let peer: f64 = String::from_utf8_lossy(&output.stdout)
        .lines()
        .last()
        .and_then(|l| l.trim().parse().ok())
        .unwrap_or(f64::NAN);
    vec![
        Row(
            "no-op run, submit to completed and stored, p50",
            ms(quantile(&mut latencies, 0.5)),
            String::new(),
            "< 60 ms",
        ),
        Row(
            "no-op runs, end to end",
            format!("{rate:.0}/s"),
            format!("HyperQueue, bare /bin/true: {peer:.0}/s"),
            "half of HyperQueue's",
        ),
    ]
}

pub(crate) fn crash() -> Vec<Row> {
    let mut rig = Rig::new("[local]\ncpus = 200\nmemory = '512GiB'\n");
    let definition = rig.definition();
    let body = rig.body(&definition, "sleep 1000", "cpu");
    let ids = block_on(async {
        let mut ids = Vec::new();
        for _ in 0..100 {
            ids.push(rig.submit(&body).await);
        }
        for id in &ids {
            while rig.status(id).await["phase"] != "PROCESSING" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        ids
    });
    rig.kill();
    rig.start();
    let ready = rig.ready_in;
    let adopted = AtomicUsize::new(0);
    block_on(async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        for id in &ids {
            let status = rig.status(id).await;
            adopted
                .fetch_add(usize::from(status["phase"] == "PROCESSING" && status["attempt"] == 1), Relaxed);
        }
    });
    let measured = format!("{}, {} of 100 adopted", ms(ready), adopted.load(Relaxed));
    vec![Row(
        "server killed under 100 runs, to serving again",
        measured,
        String::new(),
        "< 1 s, nothing lost",
    )]
}

pub(crate) fn list() -> Vec<Row> {
    const COUNT: usize = 1_000_000;
    let mut rig = Rig::new("[local]\ncpus = 1\nmemory = '64GiB'\n");
    let definition = rig.definition();
    let body = rig.body(&definition, "true", "cpu");
    let id = block_on(async {
        let id = rig.submit(&body).await;
        rig.end(&id, Duration::from_millis(5)).await;
        id
    });
    rig.kill();
    let key: [u8; 32] = std::fs::read(rig.data().join("secret.key")).unwrap().try_into().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::open(&rig.data().join("trainyard.db"), Sealer::new(&key)).unwrap();
        let record = store.run(&id.parse().unwrap()).unwrap();
        let now = trainyard_api::Time::now();
        stream::iter(0..COUNT)
            .map(|_| store.submit(trainyard_api::RunId::random(), "admin", record.spec.clone(), now))
            .buffer_unordered(512)
            .for_each(|r| async move { drop(r.unwrap()) })
            .await;
    });
    let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\nrow = c.execute('select run, finished_at from runs where id = ?', (sys.argv[2],)).fetchone()\n\
        c.execute(\"update runs set run = ?, finished_at = ?, state = 'completed'\", row)\nc.commit()";
    let done = Command::new("python3")
        .args(["-c", script])
        .arg(rig.data().join("trainyard.db"))
        .arg(&id)
        .status()
        .unwrap();
    assert!(done.success());
    rig.start();
    let mut samples = block_on(async {
        let url = format!("{}/v3/models?limit=50", rig.url);
        let mut samples = Vec::new();
        for _ in 0..1000 {
            let begun = Instant::now();
            let response = rig.client.get(&url).bearer_auth(&rig.token).send().await.unwrap();
            assert_eq!(
                response.json::<serde_json::Value>().await.unwrap()["resources"].as_array().unwrap().len(),
                50
            );
            samples.push(begun.elapsed());
        }
        samples
    });
    let p99 = quantile(&mut samples, 0.99);
    vec![Row("newest 50 among 1,000,000 kept runs, p99", ms(p99), String::new(), "< 10 ms")]
}
