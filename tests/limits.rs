//! Held under load and abuse: what is too much gets a clear answer, and who is slow holds up nobody.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::harness::{PATIENCE, Yard, block_on, wait_for};

const SMALL: &str = "[local]\ncpus = 2\nmemory = '64GiB'\n[limits]\nconnections = 12\nmonitors = 2\nuploads = 1\nmodel_bytes = 1000\nheader_seconds = 1\n";

fn connect(yard: &Yard) -> TcpStream {
    let stream = TcpStream::connect(yard.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// What comes until the server closes.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn who_sends_no_request_is_closed_and_who_comes_too_many_is_told() {
    let yard = Yard::with(SMALL);
    // Open, and silent, or in the middle of a head.
    let silent: Vec<TcpStream> = (0..12).map(|_| connect(&yard)).collect();
    (&silent[0]).write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ").unwrap();
    let told = wait_for("somebody is turned away", PATIENCE, || {
        let mut stream = connect(&yard);
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = rest(&stream);
        answer.contains(" 503 ").then_some(answer)
    });
    assert!(told.contains("TY0205") && told.to_lowercase().contains("retry-after: 1"), "{told}");
    // The head of a request has a second: then there is room again.
    for stream in &silent {
        let said = rest(stream);
        assert!(said.is_empty() || said.contains(" 408 "), "{said}");
    }
    wait_for("there is room again", PATIENCE, || {
        (yard.http("GET", "/healthz", None, None).0 == 200).then_some(())
    });
}

#[test]
fn heads_and_bodies_have_their_limits() {
    let yard = Yard::with(SMALL);
    let mut stream = connect(&yard);
    let long = "x".repeat(1 << 20);
    let _ =
        stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n").as_bytes());
    let answer = rest(&stream);
    assert!(answer.is_empty() || answer.contains(" 431 "), "{}", &answer[..answer.len().min(200)]);
    let token = yard.admin_token();
    let (status, answer) = yard.http("POST", "/v3/models", Some(&token), Some(vec![b' '; 3 << 20]));
    assert_eq!((status, answer["errors"][0]["code"].as_str()), (413, Some("TY0204")), "{answer}");
    let deep = "[".repeat(100_000);
    assert_eq!(yard.http("POST", "/v3/models", Some(&token), Some(deep.into_bytes())).0, 400);
    let body = br#"{"name":"m","framework":{"name":"custom","version":"1"}}"#.to_vec();
    let (_, model) = yard.http("POST", "/v3/ml_assets/models", Some(&token), Some(body));
    let content = model["entity"]["model_version"]["content_url"].as_str().unwrap();
    let content = content.strip_prefix(&yard.url).unwrap();
    let (status, answer) = yard.http("PUT", content, Some(&token), Some(vec![1; 1001]));
    assert_eq!((status, answer["errors"][0]["code"].as_str()), (413, Some("TY0204")), "{answer}");
    assert_eq!(yard.http("PUT", content, Some(&token), Some(vec![1; 1000])).0, 200);
    for (path, status) in
        [("/v3/models?limit=x", 400), ("/v3/models?limit=1&limit=2", 400), ("/v3/models/%FF", 400)]
    {
        let (found, answer) = yard.http("GET", path, Some(&token), None);
        assert_eq!(
            (found, answer["errors"][0]["code"].as_str()),
            (status, Some("TY0105")),
            "{path}: {answer}"
        );
    }
}

#[test]
fn one_upload_too_many_is_told_and_a_stalled_one_holds_up_no_other_request() {
    let yard = Yard::with(SMALL);
    let token = yard.admin_token();
    let body = br#"{"name":"m","framework":{"name":"custom","version":"1"}}"#.to_vec();
    let (_, model) = yard.http("POST", "/v3/ml_assets/models", Some(&token), Some(body));
    let content = model["entity"]["model_version"]["content_url"].as_str().unwrap();
    let content = content.strip_prefix(&yard.url).unwrap();
    let mut stalled = connect(&yard);
    let head = format!(
        "PUT {content} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: 100\r\n\r\nsome"
    );
    stalled.write_all(head.as_bytes()).unwrap();
    let (_, answer) = wait_for("the second upload is refused", PATIENCE, || {
        // Until the first one has begun, this one is let in, and refused because it is empty.
        let (status, answer) = yard.http("PUT", content, Some(&token), Some(Vec::new()));
        (status == 503).then_some((status, answer))
    });
    assert_eq!(answer["errors"][0]["code"], "TY0205", "{answer}");
    assert_eq!(yard.http("GET", "/v3/models", Some(&token), None).0, 200);
    drop(stalled);
    wait_for("the next upload is taken", PATIENCE, || {
        (yard.http("PUT", content, Some(&token), Some(b"x".to_vec())).0 == 200).then_some(())
    });
}

#[test]
fn one_monitor_too_many_is_told_and_all_others_see_everything() {
    let yard = Yard::with(SMALL);
    let hold = yard.dir.path().join("hold");
    std::fs::write(&hold, "").unwrap();
    let id = yard.train(
        "monitors",
        "echo begun; while [ -e $HOME/on ] || ! [ -e $HOME/off ]; do sleep 0.05; done; echo over",
    );
    yard.wait_log(&id, "begun\n");
    let client = trainyard_client::Client::new(
        &yard.url,
        trainyard_client::Auth::Token(trainyard_api::Secret::new(yard.admin_token())),
    )
    .unwrap();
    block_on(async {
        let open = || client.monitor(&id, trainyard_client::MonitorOptions::default());
        let (mut first, mut second) = (open().await.unwrap(), open().await.unwrap());
        let refused = open().await.err().expect("a third monitor was opened");
        assert_eq!(refused.code(), trainyard_api::Code::Busy, "{refused}");
        let home = yard.run_folder(&id).join("job/home");
        std::fs::write(home.join("off"), "").unwrap();
        for monitor in [&mut first, &mut second] {
            let mut log = String::new();
            let all = async {
                while let Some(frame) = monitor.next().await.unwrap() {
                    if frame.status.log {
                        log.push_str(&frame.status.message);
                    }
                }
            };
            tokio::time::timeout(PATIENCE, all).await.unwrap();
            assert!(log.contains("begun\n") && log.contains("over\n"), "{log}");
        }
    });
    // Their places are free again.
    wait_for("another monitor", PATIENCE, || {
        block_on(client.monitor(&id, trainyard_client::MonitorOptions::default())).ok().map(|_| ())
    });
}
