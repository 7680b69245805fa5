//! Runs on a Slurm of the bench's own, beside what `sbatch` does by itself.

use std::{
    collections::HashSet,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use serde_json::Value;

use crate::{
    rig::{Rig, Row, ms, processor_time, quantile},
    test_cluster::{Cluster, Shape},
};

/// Runs in the queue while nothing happens.
const MANY: usize = 5000;
/// Ticks of the kernel's clock per second, as `/proc` counts.
const TICKS: f64 = 100.0;
/// Prints how long ago this job's script was started, in seconds: `$1` is its process.
const AGE: &str = "read up _ < /proc/uptime; set -- $(cat /proc/$1/stat); echo age $up ${22}";

fn slurm() -> Option<(Cluster, Rig, PathBuf)> {
    let cluster = Cluster::start(Shape { nodes: 2, plain: true, ..Shape::default() })?;
    // Each command is counted on its way.
    let count = cluster.conf().with_file_name("count");
    for command in ["sbatch", "squeue", "scancel", "scontrol"] {
        cluster.disguise(command, &format!("echo {command} >> {}; exec $REAL \"$@\"", count.display()));
    }
    let shared = cluster.conf().with_file_name("shared");
    let never =
        "[compute.never]\ncpus = 1\nmemory = '256MiB'\n[compute.never.slurm]\noptions = ['--begin=now+1day']";
    let config = format!("[engine.slurm]\nshared = '{}'\n{never}\n", shared.display());
    let environment = [("SLURM_CONF", cluster.conf().display().to_string()), ("PATH", cluster.search_path())];
    let rig = Rig::within(&config, &environment);
    Some((cluster, rig, count))
}

/// A line that [`AGE`] printed, in seconds.
fn age(line: &str) -> Option<f64> {
    let mut words = line.strip_prefix("age ")?.split(' ').map(|w| w.parse::<f64>().ok());
    let (now, begun) = (words.next()??, words.next()??);
    Some(now - begun / TICKS)
}

pub(crate) fn measure() -> Vec<Row> {
    let Some((cluster, rig, count)) = slurm() else { return Vec::new() };
    let definition = rig.definition();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut rows = vec![first_line(&runtime, &cluster, &rig, &definition)];
    rows.extend(queue(&runtime, &cluster, &rig, &definition));
    rows.push(changes(&runtime, &cluster, &rig, &definition));
    rows.extend(steady(&runtime, &cluster, &rig, &definition, &count));
    rows
}

/// From the start of the job's script to the program's first line.
fn first_line(runtime: &tokio::runtime::Runtime, cluster: &Cluster, rig: &Rig, definition: &str) -> Row {
    let mut ours = Vec::new();
    let body = rig.body(definition, &format!("set -- $PPID; {AGE}"), "cpu");
    for _ in 0..20 {
        let log = runtime.block_on(async {
            let id = rig.submit(&body).await;
            assert_eq!(rig.end(&id, Duration::from_millis(50)).await, "completed");
            rig.cli(&["logs", &id]).output().unwrap().stdout
        });
        ours.extend(String::from_utf8_lossy(&log).lines().find_map(age));
    }
    let mut bare = Vec::new();
    for n in 0..20 {
        let out = cluster.conf().with_file_name(format!("bare-{n}"));
        let script = format!("set -- $$; {AGE}");
        cluster.say("sbatch", &["--wait", "-o", out.to_str().unwrap(), "--wrap", &script]);
        bare.extend(fs::read_to_string(out).unwrap_or_default().lines().find_map(age));
    }
    let median = |ages: &mut Vec<f64>| {
        ages.sort_by(f64::total_cmp);
        ages[ages.len() / 2] * 1e3
    };
    Row(
        "Slurm: from the job's start to the program's first line, p50",
        format!("{:.0} ms", median(&mut ours)),
        format!("bare sbatch: {:.0} ms", median(&mut bare)),
        "< 150 ms more",
    )
}

/// A hundred runs at once, until all are in Slurm's queue.
fn queue(runtime: &tokio::runtime::Runtime, cluster: &Cluster, rig: &Rig, definition: &str) -> Vec<Row> {
    const COUNT: usize = 100;
    let body = rig.body(definition, "sleep 1000", "cpu");
    let before = cluster.jobs().len();
    let ids: Vec<String> = runtime.block_on(async {
        stream::iter(0..COUNT).map(|_| rig.submit(&body)).buffer_unordered(16).collect().await
    });
    let begun = Instant::now();
    while cluster.jobs().len() < before + COUNT {
        std::thread::sleep(Duration::from_millis(5));
    }
    let ours = begun.elapsed();
    cancel(runtime, rig, &ids);
    let begun = Instant::now();
    for _ in 0..COUNT {
        cluster.say("sbatch", &["-o", "/dev/null", "--hold", "--wrap", "sleep 1000"]);
    }
    let bare = begun.elapsed();
    cluster.say("scancel", &["--name=wrap"]);
    vec![Row(
        "Slurm: 100 runs at once, from the last answer to all in its queue",
        ms(ours),
        format!("100 bare sbatch, one after the other: {}", ms(bare)),
        "< 2 s",
    )]
}

fn cancel(runtime: &tokio::runtime::Runtime, rig: &Rig, ids: &[String]) {
    runtime.block_on(async {
        stream::iter(ids).for_each_concurrent(16, |id| rig.cancel(id)).await;
        for id in ids {
            rig.end(id, Duration::from_millis(50)).await;
        }
    });
}

/// From a change in Slurm until `show` tells it.
fn changes(runtime: &tokio::runtime::Runtime, cluster: &Cluster, rig: &Rig, definition: &str) -> Row {
    let body = rig.body(definition, "sleep 1000", "never");
    let waits = |id: &str, text: &str| {
        runtime.block_on(async {
            while !rig.status(id).await["waits_for"].as_str().is_some_and(|w| w.contains(text)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    };
    let id = runtime.block_on(rig.submit(&body));
    waits(&id, "in Slurm's queue");
    let job = cluster.job_of(&id).unwrap().to_string();
    let mut delays = Vec::new();
    for n in 0..20 {
        cluster.say("scontrol", &[if n % 2 == 0 { "hold" } else { "release" }, &job]);
        let begun = Instant::now();
        if n % 2 == 0 {
            waits(&id, "JobHeldAdmin");
        } else {
            runtime.block_on(async {
                while rig.status(&id).await["waits_for"].as_str().is_some_and(|w| w.contains("JobHeldAdmin"))
                {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            });
        }
        delays.push(begun.elapsed());
    }
    cancel(runtime, rig, &[id]);
    let most = ms(*delays.iter().max().unwrap());
    Row(
        "Slurm: a change is seen, p50 / most",
        format!("{} / {most}", ms(quantile(&mut delays, 0.5))),
        String::new(),
        "< 1 s",
    )
}

/// Thousands of jobs in the queue, and nothing happens.
fn steady(
    runtime: &tokio::runtime::Runtime,
    cluster: &Cluster,
    rig: &Rig,
    definition: &str,
    count: &std::path::Path,
) -> Vec<Row> {
    const WATCHED: Duration = Duration::from_secs(20);
    std::thread::sleep(Duration::from_secs(2));
    let resident = rig.resident();
    let body = rig.body(definition, "sleep 1000", "never");
    let ids: HashSet<String> = runtime.block_on(async {
        stream::iter(0..MANY).map(|_| rig.submit(&body)).buffer_unordered(16).collect().await
    });
    let begun = Instant::now();
    let waiting = || cluster.jobs().iter().filter(|(_, state)| state == "PENDING").count();
    while waiting() < MANY {
        assert!(begun.elapsed() < Duration::from_mins(5), "{} of {} are in the queue", waiting(), ids.len());
        std::thread::sleep(Duration::from_millis(500));
    }
    std::thread::sleep(Duration::from_secs(5));
    let commands = || fs::read_to_string(count).unwrap_or_default().lines().count();
    let (commands_before, (own, children)) = (commands(), processor_time(rig.pid()));
    std::thread::sleep(WATCHED);
    let (own_after, children_after) = processor_time(rig.pid());
    let share = |a: Duration, b: Duration| b.saturating_sub(a).as_secs_f64() / WATCHED.as_secs_f64() * 100.0;
    let rate = (commands() - commands_before) as f64 / WATCHED.as_secs_f64();
    let more = rig.resident() - resident;
    let body = runtime.block_on(rig.status(ids.iter().next().unwrap()));
    assert_eq!(body["state"], Value::from("pending"));
    vec![
        Row(
            "Slurm: 5,000 jobs in its queue, more memory",
            format!("{more:.1} MiB"),
            String::new(),
            "< 100 MB",
        ),
        Row(
            "the same, processor time of the server",
            format!("{:.1} % of a core", share(own, own_after)),
            format!("squeue besides: {:.1} %", share(children, children_after)),
            "< 5 %",
        ),
        Row("the same, commands a second", format!("{rate:.2}"), String::new(), "<= 2"),
    ]
}
