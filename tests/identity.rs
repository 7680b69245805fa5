//! Users and tokens: signed in, renewed, revoked, and guessed at.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Yard, block_on};

const PASSWORD: &str = "correct horse";

fn whoami(yard: &Yard, token: &str) -> (u16, String) {
    let (status, answer) = yard.http("GET", "/v3/wml_instances/x", Some(token), None);
    (status, answer["entity"]["owner"]["user_id"].as_str().unwrap_or("").to_owned())
}

fn renew(yard: &Yard, token: &str) -> (u16, Value) {
    let body = json!({ "token": token }).to_string().into_bytes();
    yard.http("PUT", "/v3/identity/token", None, Some(body))
}

#[test]
fn a_password_buys_a_token_that_the_originals_client_can_decode() {
    let yard = Yard::start();
    yard.add_user("ada.l@example.net", PASSWORD);
    for path in ["/v3/identity/token", "/v2/identity/token"] {
        let (status, answer) = yard.basic("GET", path, "ada.l@example.net", PASSWORD);
        assert_eq!(status, 200, "{answer}");
        let token = answer["token"].as_str().unwrap().to_owned();
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        assert!(!parts[1].contains(['-', '_']), "the plain alphabet cannot read {}", parts[1]);
        let padded = format!("{}{}", parts[1], "=".repeat((4 - parts[1].len() % 4) % 4));
        let payload: Value = serde_json::from_slice(&STANDARD.decode(padded).unwrap()).unwrap();
        let ahead = payload["exp"].as_i64().unwrap() - trainyard_api::Time::now().0 / 1000;
        assert!(ahead > 31 * 60, "clients of the original renew at half an hour: {ahead} s");
        assert_eq!(whoami(&yard, &token), (200, "ada.l@example.net".to_owned()));
    }
    assert!(!yard.server_log().contains(PASSWORD));
    let database = std::fs::read(yard.data_folder().join("trainyard.db-wal")).unwrap();
    assert!(!database.windows(PASSWORD.len()).any(|w| w == PASSWORD.as_bytes()), "it is kept in clear");
}

#[test]
fn a_token_is_renewed_until_it_is_given_back_or_taken_away() {
    let yard = Yard::start();
    yard.add_user("ada", PASSWORD);
    let token = yard.sign_in("ada", PASSWORD);
    let (status, answer) = renew(&yard, &token);
    assert_eq!(status, 200, "{answer}");
    let renewed = answer["token"].as_str().unwrap().to_owned();
    let other = yard.sign_in("ada", PASSWORD);
    // Signing out ends the session, with all its tokens, and no other.
    assert_eq!(yard.http("DELETE", "/v3/identity/token", Some(&renewed), None).0, 204);
    for ended in [&token, &renewed] {
        assert_eq!(whoami(&yard, ended).0, 401);
        assert_eq!(renew(&yard, ended).0, 401);
    }
    assert_eq!(whoami(&yard, &other).0, 200);
    // Another password, and a revocation, end all.
    yard.set_password("ada", "another one");
    assert_eq!(whoami(&yard, &other).0, 401);
    assert_eq!(yard.basic("GET", "/v3/identity/token", "ada", PASSWORD).0, 401);
    let (token, script) = (yard.sign_in("ada", "another one"), yard.token_of("ada"));
    assert_eq!(yard.http("DELETE", "/v3/identity/token", Some(&script), None).0, 409);
    yard.users(&["revoke", "ada"]).run().ok();
    for void in [&token, &script] {
        assert_eq!(whoami(&yard, void).0, 401);
    }
    let token = yard.sign_in("ada", "another one");
    yard.users(&["remove", "ada"]).run().ok();
    assert_eq!(whoami(&yard, &token).0, 401);
    // Whoever gets the name next is somebody else.
    yard.add_user("ada", "another one");
    assert_eq!(whoami(&yard, &token).0, 401);
    for bad in [json!({}), json!({ "token": 5 }), json!("x")] {
        let (status, answer) =
            yard.http("PUT", "/v3/identity/token", None, Some(bad.to_string().into_bytes()));
        assert_eq!(status, 400, "{answer}");
    }
    assert_eq!(yard.http("PUT", "/v3/identity/token", None, Some(Vec::new())).0, 401);
}

#[test]
fn an_expired_token_says_so() {
    // The clock cannot be turned; a token can be signed with the server's key that is over.
    let yard = Yard::start();
    let token = yard.sign_in_with_token();
    let key = std::fs::read(yard.data_folder().join("secret.key")).unwrap();
    let old = resigned(&token, &key);
    let (status, answer) = yard.http("GET", "/v3/models", Some(&old), None);
    assert_eq!(status, 401);
    assert!(answer["errors"][0]["message"].as_str().unwrap().contains("expired"), "{answer}");
    assert_eq!(renew(&yard, &old).0, 401);
}

/// The token with an end in the past, signed as the server signs.
fn resigned(token: &str, key: &[u8]) -> String {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as URL;
    use ring::hmac::{HMAC_SHA256, Key, sign};
    let parts: Vec<&str> = token.split('.').collect();
    let mut claims: Value = serde_json::from_slice(&URL.decode(parts[1]).unwrap()).unwrap();
    claims["exp"] = json!(1000);
    let signed = format!("{}.{}", parts[0], URL.encode(claims.to_string()));
    let derived = sign(&Key::new(HMAC_SHA256, key), b"tokens of users");
    let signature = sign(&Key::new(HMAC_SHA256, derived.as_ref()), signed.as_bytes());
    format!("{signed}.{}", URL.encode(signature))
}

#[test]
fn guessing_is_slowed_and_the_owner_is_not_shut_out() {
    let yard = Yard::start();
    yard.add_user("ada", PASSWORD);
    yard.add_user("bob", PASSWORD);
    // All at once gets no further than one after the other.
    let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let guess = |n: u32| yard.basic("GET", "/v3/identity/token", "ada", &format!("guess {n}"));
        let guesses: Vec<_> = (0..40).map(|n| scope.spawn(move || guess(n))).collect();
        guesses.into_iter().map(|g| g.join().unwrap()).collect()
    });
    let (refused, wrong): (Vec<_>, Vec<_>) = answers.into_iter().partition(|(status, _)| *status == 429);
    assert!(wrong.len() < 15 && wrong.iter().all(|(s, _)| *s == 401), "{} were tried", wrong.len());
    assert!(refused.iter().all(|(_, answer)| answer["errors"][0]["code"] == "TY0206"), "{refused:?}");
    // Many who know the password at once all get in; so does who is somebody else, and who has a token.
    std::thread::scope(|scope| {
        let sign_in = || yard.basic("GET", "/v3/identity/token", "bob", PASSWORD).0;
        let all: Vec<_> = (0..12).map(|_| scope.spawn(sign_in)).collect();
        assert!(all.into_iter().all(|s| s.join().unwrap() == 200));
    });
    assert_eq!(yard.basic("GET", "/v3/identity/token", "bob", PASSWORD).0, 200);
    let token = yard.token_of("ada");
    assert_eq!(yard.basic("GET", "/v3/identity/token", "ada", &token).0, 200);
    assert_eq!(whoami(&yard, &token), (200, "ada".to_owned()));
    assert!(!yard.server_log().contains("guess 1"), "passwords are logged");
}

#[test]
fn users_are_checked_and_listed() {
    let yard = Yard::start();
    yard.add_user("ada", PASSWORD);
    let refused = |words: &[&str], password: &str| {
        let path = yard.dir.path().join("password");
        std::fs::write(&path, password).unwrap();
        yard.users(words).input(&path).run().fails(1)
    };
    assert!(refused(&["add", "ada"], PASSWORD).contains("there is a user `ada`"));
    assert!(refused(&["add", "a b"], PASSWORD).contains("is no name"));
    assert!(refused(&["add", "bob"], "short").contains("8 to"));
    assert!(refused(&["password", "nobody"], PASSWORD).contains("there is no user"));
    assert!(refused(&["revoke", "nobody"], "").contains("there is no user"));
    assert!(refused(&["remove", "admin"], "").contains("at every start"));
    let list = yard.users(&["list"]).run().ok();
    assert!(list.contains("ada") && list.contains("admin") && !list.contains("$argon2"), "{list}");
    // Administrators' tokens can be taken away too; the next start makes another.
    let old = yard.admin_token();
    yard.users(&["revoke", "admin"]).run().ok();
    assert_eq!(whoami(&yard, &old).0, 401);
    let mut yard = yard;
    yard.stop_server();
    yard.restart();
    assert_ne!(yard.admin_token(), old);
    assert_eq!(whoami(&yard, &yard.admin_token()), (200, "admin".to_owned()));
    // The command line signs in by name and password, as the original's did.
    let said = yard
        .command(&["bx", "ml", "list", "training-runs"])
        .without("TRAINYARD_SERVER")
        .env("ML_ENV", &yard.url)
        .env("ML_USERNAME", "ada")
        .env("ML_PASSWORD", PASSWORD)
        .run();
    assert!(said.ok().contains("0 records found."));
    let path = yard.dir.path().join("password");
    std::fs::write(&path, format!("{PASSWORD}\n")).unwrap();
    yard.command(&["login", &yard.url, "--user", "ada"]).input(&path).run().ok();
    let who = yard.command(&["whoami", "-q"]).without("TRAINYARD_SERVER").run().ok();
    assert_eq!(who.trim(), "ada");
}

#[test]
fn a_revocation_closes_open_monitors() {
    let yard = Yard::start();
    let id = yard.train("watched", "touch $HOME/on; while [ -e $HOME/on ]; do sleep 0.05; done");
    let auth = trainyard_client::Auth::Token(trainyard_api::Secret::new(yard.admin_token()));
    let client = trainyard_client::Client::new(&yard.url, auth).unwrap();
    block_on(async {
        let mut monitor = client.monitor(&id, trainyard_client::MonitorOptions::default()).await.unwrap();
        yard.users(&["revoke", "admin"]).run().ok();
        let refused = async {
            loop {
                if let Err(failed) = monitor.next().await {
                    return failed;
                }
            }
        };
        let failed = tokio::time::timeout(PATIENCE, refused).await.expect("the monitor stays open");
        assert_eq!(failed.code(), trainyard_api::Code::Unauthenticated, "{failed}");
    });
}
