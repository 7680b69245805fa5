//! The data plane: staging beside s5cmd, output beside a redirect, followers.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt, stream};
use trainyard_client::{Auth, Client, MonitorOptions};
use trainyard_transfer::{Bucket, Cache, Progress, Staged, stage_in};

use crate::rig::{Rig, Row, block_on, ms, quantile, tool};

fn s5cmd(rig: &Rig, bucket: &str, to: &std::path::Path) -> Duration {
    let begun = Instant::now();
    let done = tool("s5cmd")
        .args([
            "--log",
            "error",
            "--endpoint-url",
            &rig.store.endpoint_url,
            "cp",
            &format!("s3://{bucket}/*"),
        ])
        .arg(format!("{}/", to.display()))
        .env("AWS_ACCESS_KEY_ID", &rig.store.access_key_id)
        .env("AWS_SECRET_ACCESS_KEY", rig.store.secret_access_key.expose())
        .env("AWS_REGION", "us-east-1")
        .status()
        .unwrap();
    assert!(done.success());
    begun.elapsed()
}

fn ours(bucket: &Bucket, cache: &Cache, to: &std::path::Path) -> (Duration, Staged) {
    fs::create_dir_all(to).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let begun = Instant::now();
    let staged = runtime.block_on(stage_in(bucket, "", Some(cache), to, &Progress::default())).unwrap();
    (begun.elapsed(), staged)
}

fn sync() {
    let _ = Command::new("sync").status();
}

pub(crate) fn staging() -> Vec<Row> {
    let rig = Rig::new("");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (large, small) = (rig.bucket("large"), rig.bucket("small"));
    let file = rig.dir.path().join("512m");
    let block: Vec<u8> = (0..1u32 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    fs::write(&file, block.repeat(128)).unwrap();
    runtime.block_on(async {
        large.create().await.unwrap();
        small.create().await.unwrap();
        for n in 0..4 {
            large.put_file(&format!("part-{n}"), &file).await.unwrap();
        }
        stream::iter(0..20_000)
            .map(|n| {
                let bytes = bytes::Bytes::copy_from_slice(&block[n * 20 % 1_000_000..][..20_480]);
                let small = small.clone();
                async move { small.put(&format!("d{}/f{n}", n % 100), bytes).await.unwrap() }
            })
            .buffer_unordered(32)
            .for_each(|_| async {})
            .await;
    });
    fs::remove_file(&file).unwrap();
    let mut rows = Vec::new();
    for (name, bucket, what, warm_name) in [
        ("large", &large, "staging in, 4 x 512 MiB, cold", "the same, warm"),
        ("small", &small, "staging in, 20,000 x 20 KiB, cold", "the same, warm"),
    ] {
        let folder = |n: &str| rig.dir.path().join(format!("{name}-{n}"));
        let cache = Cache::open(&folder("cache")).unwrap();
        // Once for nothing, so that the store's files are in memory for both.
        let peer_to = folder("warm-up");
        s5cmd(&rig, name, &peer_to);
        fs::remove_dir_all(&peer_to).unwrap();
        sync();
        let (cold, staged) = ours(bucket, &cache, &folder("cold"));
        sync();
        let peer = s5cmd(&rig, name, &folder("peer"));
        fs::remove_dir_all(folder("peer")).unwrap();
        sync();
        let (warm, again) = ours(bucket, &cache, &folder("again"));
        let rate = |d: Duration| {
            format!(
                "{:.2} s ({:.0} MiB/s)",
                d.as_secs_f64(),
                staged.bytes as f64 / 1_048_576.0 / d.as_secs_f64()
            )
        };
        rows.push(Row(what, rate(cold), format!("s5cmd: {}", rate(peer)), "s5cmd's speed"));
        let share = format!(
            "{:.3} s, {:.1} % of the time, {:.1} % of the bytes",
            warm.as_secs_f64(),
            100.0 * warm.as_secs_f64() / cold.as_secs_f64(),
            100.0 * again.fetched_bytes as f64 / staged.bytes as f64
        );
        rows.push(Row(warm_name, share, String::new(), "< 5 %, < 2 %"));
        for n in ["cold", "again", "cache"] {
            let _ = fs::remove_dir_all(folder(n));
        }
    }
    rows
}

/// Prints 200 MB of lines and writes its own seconds to a file.
const PRINTER: &str = "import os, sys, time\nline = b'x' * 99 + b'\\n'\nblock = line * 80\nt = time.monotonic()\n\
    for _ in range(25000): os.write(1, block)\nopen(sys.argv[1], 'w').write(str(time.monotonic() - t))\n";

pub(crate) fn output() -> Vec<Row> {
    let rig = Rig::new("[local]\ncpus = 1\nmemory = '64GiB'\n");
    let definition = rig.definition();
    let script = rig.dir.path().join("printer.py");
    fs::write(&script, PRINTER).unwrap();
    let (mut plain, mut run) = (Vec::new(), Vec::new());
    for n in 0..5 {
        let (seconds, out) = (rig.dir.path().join(format!("plain-{n}")), rig.dir.path().join("out"));
        let done = Command::new("python3")
            .arg(&script)
            .arg(&seconds)
            .stdout(Stdio::from(fs::File::options().append(true).create(true).open(&out).unwrap()))
            .status()
            .unwrap();
        assert!(done.success());
        fs::remove_file(out).unwrap();
        plain.push(Duration::from_secs_f64(fs::read_to_string(seconds).unwrap().parse().unwrap()));
        sync();
        // Programs write to temporary folders, and to no others of the machine.
        let seconds = std::env::temp_dir().join(format!("trainyard-bench-{}-{n}", std::process::id()));
        let command = format!("python3 {} {}", script.display(), seconds.display());
        block_on(async {
            let id = rig.submit(&rig.body(&definition, &command, "cpu")).await;
            assert_eq!(rig.end(&id, Duration::from_millis(50)).await, "completed");
        });
        run.push(Duration::from_secs_f64(fs::read_to_string(&seconds).unwrap().parse().unwrap()));
        fs::remove_file(seconds).unwrap();
        sync();
    }
    let (plain, run) = (quantile(&mut plain, 0.5), quantile(&mut run, 0.5));
    let slower = format!("{} ({:+.1} %)", ms(run), 100.0 * (run.as_secs_f64() / plain.as_secs_f64() - 1.0));
    vec![Row(
        "a program that prints 200 MB",
        slower,
        format!("redirect to a file: {}", ms(plain)),
        "< 3 % slower",
    )]
}

pub(crate) fn follow() -> Vec<Row> {
    let rig = Rig::new("[local]\ncpus = 1\nmemory = '64GiB'\n");
    let definition = rig.definition();
    let script = rig.dir.path().join("clock.py");
    let text = "import time\nfor _ in range(400): print('T', time.time(), flush=True); time.sleep(0.01)\n";
    fs::write(&script, text).unwrap();
    let command = format!("python3 {}", script.display());
    let mut lags = block_on(async {
        let id = rig.submit(&rig.body(&definition, &command, "cpu")).await;
        let client =
            Client::new(&rig.url, Auth::Token(trainyard_api::Secret::new(rig.token.clone()))).unwrap();
        let mut monitor = client.monitor(&id, MonitorOptions::default()).await.unwrap();
        let mut lags = Vec::new();
        while let Some(frame) = monitor.next().await.unwrap() {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            for line in frame.status.message.lines() {
                if let Some(at) = line.strip_prefix("T ").and_then(|t| t.parse::<f64>().ok()) {
                    lags.push(now.saturating_sub(Duration::from_secs_f64(at)));
                }
            }
        }
        lags
    });
    assert_eq!(lags.len(), 400);
    let (p50, most) = (quantile(&mut lags, 0.5), quantile(&mut lags, 1.0));
    vec![Row(
        "a follower is behind, p50 / most",
        format!("{} / {}", ms(p50), ms(most)),
        String::new(),
        "<= 100 ms",
    )]
}
