//! Who calls: a token in the header that clients of the original send, or a name and a password, which
//! buy one.

mod guesses;
mod jwt;
mod passwords;

use std::{
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::sync::Notify;
use trainyard_api::{Code, Problem, Secret, Time, random_token};
use trainyard_store::{Caller, Store};

use self::{
    guesses::{Guesses, Outcome, Verdict},
    jwt::Signer,
    passwords::Passwords,
};
use crate::{
    problem::{Answer, Refusal},
    state::App,
};

pub(crate) use self::{
    jwt::Claims,
    passwords::{MOST as MOST_PASSWORD, hash as hash_password},
};

/// Longest time that a sign-in waits for its turn.
const TURN: Duration = Duration::from_secs(10);

/// The caller of a request, who has shown a token.
pub(crate) struct User(pub(crate) Caller);

/// Signs users in and tells who they are.
pub(crate) struct Gate {
    store: Store,
    signer: Signer,
    passwords: Passwords,
    guesses: Mutex<Guesses>,
    /// Told when a password has been looked at.
    decided: Notify,
    /// How long a token is good.
    lifetime: Duration,
}

/// A try that was let go. How it came out is told when this is dropped: also when the client hangs up in the
/// middle, or its place would be taken for ever.
struct Turn<'a> {
    gate: &'a Gate,
    address: IpAddr,
    name: &'a str,
    outcome: Outcome,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.gate.guesses().came_out(self.address, self.name, self.outcome, Instant::now());
        self.gate.decided.notify_waiters();
    }
}

/// What an `Authorization` header holds.
enum Shown {
    Token(String),
    Password { name: String, password: String },
}

fn shown(parts: &Parts) -> Option<Shown> {
    let value = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(Shown::Token(rest.to_owned())).filter(|_| !rest.is_empty());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        let (name, password) = decoded.split_once(':').filter(|(_, p)| !p.is_empty())?;
        return Some(Shown::Password { name: name.to_owned(), password: password.to_owned() });
    }
    None
}

/// The token of an `Authorization` header: `Bearer TOKEN`, in any case, or `Basic` with the token as the
/// password, for what can send nothing else.
pub(crate) fn token(parts: &Parts) -> Option<String> {
    match shown(parts)? {
        Shown::Token(token) => Some(token),
        Shown::Password { password, .. } => Some(password),
    }
}

fn unauthenticated(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::Unauthenticated, message)
}

impl Gate {
    pub(crate) fn new(store: Store, key: &[u8], lifetime: Duration) -> Self {
        let (signer, passwords) = (Signer::new(key), Passwords::new());
        Self { store, signer, passwords, guesses: Mutex::default(), decided: Notify::new(), lifetime }
    }

    /// Whose token this is.
    pub(crate) fn caller(&self, token: &str) -> Answer<Caller> {
        if token.contains('.') {
            return Ok(self.claims(token)?.1);
        }
        self.store.caller(token)?.ok_or_else(|| unauthenticated("the token is not known"))
    }

    /// What a token of a session says, and whose it is.
    fn claims(&self, token: &str) -> Answer<(Claims, Caller)> {
        let claims = self.signer.verify(token, Time::now()).map_err(|f| unauthenticated(f.to_string()))?;
        let caller = self.store.session(&claims.sub, claims.generation, &claims.sid)?;
        let caller = caller.ok_or_else(|| unauthenticated("the token was revoked: sign in again"))?;
        Ok((claims, caller))
    }

    /// Signs in with what the header shows, from this address: a name and its password, or a token for
    /// scripts in place of the password, which says itself whose it is. Returns a token.
    pub(crate) async fn sign_in(&self, parts: &Parts, address: IpAddr) -> Answer<Secret> {
        let Some(Shown::Password { name, password }) = shown(parts) else {
            return Err(unauthenticated("this needs a name and a password, in `Authorization: Basic …`"));
        };
        // A token is 256 random bits: nobody guesses it, and looking it up costs nothing.
        if let Some(caller) = self.store.caller(&password)? {
            return Ok(self.token(caller.owner, caller.generation, random_token("")));
        }
        // What no user can be called is not remembered, and not logged.
        if !crate::users::is_name(&name) {
            return Err(unauthenticated("the name or the password is wrong"));
        }
        let mut turn = self.wait_for_turn(address, &name).await?;
        let user = self.store.user(&name);
        let hash = user.as_ref().ok().and_then(|u| u.as_ref()?.password.clone());
        let checked = if password.len() <= MOST_PASSWORD {
            self.passwords.check(hash, password).await
        } else {
            Ok(false)
        };
        turn.outcome = match (&user, &checked) {
            (Ok(Some(_)), Ok(true)) => Outcome::Right,
            (Ok(_), Ok(_)) => Outcome::Wrong,
            _ => Outcome::Untried,
        };
        checked.map_err(|_| {
            Refusal::new(Code::Busy, "too many sign in at once: try again in a moment").retry_after(1)
        })?;
        match user? {
            Some(user) if turn.outcome == Outcome::Right => {
                Ok(self.token(user.name, user.generation, random_token("")))
            }
            _ => {
                tracing::warn!(user = ?name, %address, "a sign-in was refused");
                Err(unauthenticated("the name or the password is wrong"))
            }
        }
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a password of this name from this address may be looked at.
    async fn wait_for_turn<'a>(&'a self, address: IpAddr, name: &'a str) -> Answer<Turn<'a>> {
        let deadline = Instant::now() + TURN;
        loop {
            let decided = self.decided.notified();
            tokio::pin!(decided);
            decided.as_mut().enable();
            let verdict = self.guesses().may_try(address, name, Instant::now());
            let left = deadline.saturating_duration_since(Instant::now());
            let seconds = match verdict {
                Verdict::Go => return Ok(Turn { gate: self, address, name, outcome: Outcome::Untried }),
                Verdict::Wait(wait) if wait < left => {
                    tokio::time::sleep(wait).await;
                    continue;
                }
                Verdict::Others if !left.is_zero() => {
                    let _ = tokio::time::timeout(left, decided).await;
                    continue;
                }
                Verdict::Wait(wait) | Verdict::Refused(wait) => wait.as_secs() + 1,
                Verdict::Others => 1,
            };
            let message = format!("too many wrong passwords from this address: try again in {seconds} s");
            return Err(Refusal::new(Code::Guessing, message).retry_after(seconds));
        }
    }

    /// Renews a token that is still good.
    pub(crate) fn renew(&self, token: &str) -> Answer<Secret> {
        let (claims, caller) = self.claims(token)?;
        Ok(self.token(caller.owner, claims.generation, claims.sid))
    }

    /// Ends the session of a token: it and what it was renewed to are worth nothing from now on.
    pub(crate) async fn sign_out(&self, token: &str) -> Answer<()> {
        if !token.contains('.') {
            self.caller(token)?;
            let message = "this is a token for scripts, which no sign-in has made";
            let hint = "whoever has the data folder makes it void: `trainyard users revoke NAME`";
            return Err(Problem::new(Code::Conflict, message).hint(hint).into());
        }
        let (claims, _) = self.claims(token)?;
        // No token of the session that exists now is good for longer than a fresh one; or than this one
        // was, if the lifetime has been made shorter since.
        let lifetime = (self.lifetime.as_secs() as i64).max(claims.exp - claims.iat);
        let until = Time::now().0 + lifetime * 1000;
        Ok(self.store.end_session(&claims.sid, Time(until)).await?)
    }

    fn token(&self, sub: String, generation: u64, sid: String) -> Secret {
        let now = Time::now().0 / 1000;
        let exp = now + self.lifetime.as_secs() as i64;
        Secret::new(self.signer.sign(&Claims { sub, generation, sid, iat: now, exp }))
    }
}

/// The problem of a request without a token.
pub(crate) fn no_token() -> Problem {
    Problem::new(Code::Unauthenticated, "this needs a token, in `Authorization: Bearer TOKEN`")
        .hint("`GET /v3/identity/token` with a name and a password answers with one")
}

impl FromRequestParts<App> for User {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let token = token(parts).ok_or_else(no_token)?;
        app.gate.caller(&token).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use futures::FutureExt;
    use trainyard_store::Sealer;

    use super::*;

    fn parts(name: &str, password: &str) -> Parts {
        let value = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
        Request::builder().header(AUTHORIZATION, value).body(()).unwrap().into_parts().0
    }

    #[tokio::test]
    async fn who_hangs_up_takes_no_turn_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Sealer::new(&[7; 32])).unwrap();
        store.add_user("ada", false, Some(hash_password("right"))).await.unwrap();
        let gate = Gate::new(store, b"key", Duration::from_hours(1));
        let address = IpAddr::from([127, 0, 0, 1]);
        for _ in 0..50 {
            let hung_up = gate.sign_in(&parts("ada", "wrong"), address).now_or_never();
            assert!(hung_up.is_none(), "the password was looked at before the client could hang up");
        }
        assert!(gate.sign_in(&parts("ada", "right"), address).await.is_ok());
    }
}
