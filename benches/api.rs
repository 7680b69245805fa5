//! The API under load: sign-ins beside other requests, one run asked for again and again, many monitors.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::{Duration, Instant},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{PROGRAM, Rig, Row, block_on, ms, quantile};

/// How long each load lasts.
const LOAD: Duration = Duration::from_secs(8);
const PASSWORD: &str = "a bench's password";

fn add_user(rig: &Rig) {
    let typed = rig.dir.path().join("typed");
    fs::write(&typed, PASSWORD).unwrap();
    let mut command = Command::new(PROGRAM);
    command.args(["users", "add", "bench", "--data"]).arg(rig.data()).stdin(fs::File::open(&typed).unwrap());
    assert!(command.output().unwrap().status.success());
}

/// Latencies of a cheap route, asked for a hundred times a second, while `others` go on.
async fn latencies(rig: &Rig, over: &AtomicBool) -> Vec<Duration> {
    let url = format!("{}/v3/models?limit=1", rig.url);
    let mut samples = Vec::new();
    while !over.load(Relaxed) {
        let begun = Instant::now();
        let response = rig.client.get(&url).bearer_auth(&rig.token).send().await.unwrap();
        assert!(response.bytes().await.unwrap().len() > 10);
        samples.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    samples
}

pub(crate) fn sign_in() -> Vec<Row> {
    let rig = Rig::new("");
    add_user(&rig);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let measure = |sign_in: bool| {
        let (over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
        let (rig, over, count) = (&rig, &over, &count);
        let mut samples = runtime.block_on(async {
            let begun = Instant::now();
            let load = async {
                while begun.elapsed() < LOAD {
                    if sign_in {
                        // A connection, a salt, a session of its own each time.
                        let client =
                            reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
                        let request = client.get(format!("{}/v3/identity/token", rig.url));
                        let response = request.basic_auth("bench", Some(PASSWORD)).send().await.unwrap();
                        assert!(response.status().is_success());
                        count.fetch_add(1, Relaxed);
                    } else {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
                over.store(true, Relaxed);
            };
            let second = async {
                while sign_in && begun.elapsed() < LOAD {
                    let request = rig.client.get(format!("{}/v3/identity/token", rig.url));
                    let response = request.basic_auth("bench", Some(PASSWORD)).send().await.unwrap();
                    assert!(response.status().is_success());
                    count.fetch_add(1, Relaxed);
                }
            };
            tokio::join!(load, second, latencies(rig, over)).2
        });
        (count.load(Relaxed) as f64 / LOAD.as_secs_f64(), quantile(&mut samples, 0.99))
    };
    let (_, quiet) = measure(false);
    let (rate, loaded) = measure(true);
    vec![
        Row("sign-ins by password, 2 clients", format!("{rate:.0}/s"), String::new(), ">= 20/s"),
        Row(
            "a list beside them, p99",
            ms(loaded),
            format!("without sign-ins: {}", ms(quiet)),
            "< 10 ms more",
        ),
    ]
}

/// Requests per second, and the latency that 99 of 100 stay below, as wrk prints them.
fn wrk(url: &str, token: Option<&str>) -> (f64, String) {
    let mut command = Command::new("wrk");
    let seconds = format!("{}s", LOAD.as_secs());
    command.args(["-t1", "-c64", "--latency", "-d", &seconds]);
    if let Some(token) = token {
        command.args(["-H", &format!("Authorization: Bearer {token}")]);
    }
    let output = command.arg(url).output().expect("wrk is installed (apt-get install wrk)");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && !said.contains("Non-2xx"), "{said}");
    let word = |after: &str| {
        let line =
            said.lines().find_map(|l| l.trim().strip_prefix(after)).unwrap_or_else(|| panic!("{said}"));
        line.trim().to_owned()
    };
    (word("Requests/sec:").parse().unwrap(), word("99%"))
}

/// nginx with a file of so many bytes.
struct Nginx {
    child: Child,
    url: String,
}

impl Nginx {
    fn start(folder: &Path, bytes: &[u8]) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (root, config) = (folder.join("html"), folder.join("nginx.conf"));
        fs::create_dir(&root).unwrap();
        fs::write(root.join("run.json"), bytes).unwrap();
        let text = format!(
            "user root; worker_processes 2; daemon off; pid {0}/pid; error_log {0}/error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{ access_log off; sendfile on; tcp_nopush on; keepalive_requests 100000000;\n\
             server {{ listen 127.0.0.1:{port}; root {1}; }} }}\n",
            folder.display(),
            root.display()
        );
        fs::write(&config, text).unwrap();
        let child = Command::new("nginx")
            .args(["-c", config.to_str().unwrap(), "-p", folder.to_str().unwrap()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed (apt-get install nginx-light)");
        let url = format!("http://127.0.0.1:{port}/run.json");
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, url }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

pub(crate) fn show() -> Vec<Row> {
    let rig = Rig::new("");
    let definition = rig.definition();
    let body = rig.body(&definition, "true", "cpu");
    let id = block_on(async {
        let id = rig.submit(&body).await;
        rig.end(&id, Duration::from_millis(5)).await;
        id
    });
    let url = format!("{}/v3/models/{id}", rig.url);
    let answer = block_on(async {
        rig.client.get(&url).bearer_auth(&rig.token).send().await.unwrap().bytes().await.unwrap()
    });
    let (rate, p99) = wrk(&url, Some(&rig.token));
    let nginx = Nginx::start(rig.dir.path(), &answer);
    let (peer, peer_p99) = wrk(&nginx.url, None);
    let size = answer.len();
    vec![Row(
        "`GET /v3/models/{id}`, 64 connections",
        format!("{rate:.0}/s, p99 {p99}"),
        format!("nginx, a file of {size} bytes: {peer:.0}/s, p99 {peer_p99}"),
        ">= 15,000/s, p99 < 15 ms",
    )]
}

/// Ticks (hundredths of a second) that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

pub(crate) fn monitors() -> Vec<Row> {
    const COUNT: usize = 2000;
    const RUNS: usize = 20;
    let rig = Rig::new("[local]\ncpus = 100\nmemory = '256GiB'\n");
    let definition = rig.definition();
    let body = rig.body(&definition, "echo begun; sleep 1000", "cpu");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (more, share) = runtime.block_on(async {
        let mut ids = Vec::new();
        for _ in 0..RUNS {
            let id = rig.submit(&body).await;
            while rig.status(&id).await["phase"] != "PROCESSING" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            ids.push(id);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = rig.resident();
        let address = rig.url.trim_start_matches("http://").to_owned();
        let mut open = Vec::new();
        for n in 0..COUNT {
            let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            let id = &ids[n % RUNS];
            let request = format!(
                "GET /v3/models/{id}/monitor HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                 Authorization: Bearer {}\r\n\r\n",
                rig.token
            );
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await.unwrap();
            assert!(bytes[..read].starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&bytes[..read]));
            open.push(stream);
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let pid = rig.child.as_ref().unwrap().id();
        let (begun, used) = (Instant::now(), ticks(pid));
        tokio::time::sleep(Duration::from_secs(20)).await;
        let share = (ticks(pid) - used) as f64 / begun.elapsed().as_secs_f64();
        (rig.resident() - before, share)
    });
    vec![
        Row("2,000 open monitors, more memory", format!("{more:.1} MiB"), String::new(), "< 60 MB"),
        Row("the same, processor time", format!("{share:.1} % of a core"), String::new(), "< 5 %"),
    ]
}
