//! Passwords, hashed by argon2id (RFC 9106). It is slow on purpose: one thread of low priority does it,
//! so that other requests do not wait, and what waits for that thread is bounded.

use std::{sync::OnceLock, thread};

use argon2::{
    Argon2, PasswordHash,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use tokio::sync::{mpsc, oneshot};

/// Checks that may wait.
const WAITING: usize = 64;
/// How much the thread that checks gives way to others: `nice(1)`.
const GIVES_WAY: i32 = 10;
/// Longest password, in bytes.
pub(crate) const MOST: usize = 1024;

struct Job {
    hash: Option<String>,
    password: String,
    answer: oneshot::Sender<bool>,
}

/// As many checks wait as may.
pub(crate) struct Full;

/// Checks passwords, one after the other.
pub(crate) struct Passwords {
    jobs: OnceLock<mpsc::Sender<Job>>,
}

impl Passwords {
    pub(crate) fn new() -> Self {
        Self { jobs: OnceLock::new() }
    }

    /// Whether this is the password that was hashed. Where there is no hash, it takes as long to say no.
    pub(crate) async fn check(&self, hash: Option<String>, password: String) -> Result<bool, Full> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.get_or_init(start);
        jobs.try_send(Job { hash, password, answer }).map_err(|_| Full)?;
        Ok(answered.await.unwrap_or(false))
    }
}

/// The thread ends with the last sender.
fn start() -> mpsc::Sender<Job> {
    let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING);
    let work = move || {
        let _ = rustix::process::nice(GIVES_WAY);
        let nobody = hash("nobody's");
        while let Some(Job { hash, password, answer }) = waiting.blocking_recv() {
            // Whoever hung up needs no answer.
            if !answer.is_closed() {
                let known = hash.as_deref().unwrap_or(&nobody);
                let _ = answer.send(matches(known, &password) && hash.is_some());
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("passwords".to_owned()).spawn(work) {
        // The receiver is gone with the closure: every check is answered as if too many waited.
        tracing::error!(%error, "no passwords can be checked");
    }
    jobs
}

/// The hash of a password, as a PHC string, with salt and parameters.
pub(crate) fn hash(password: &str) -> String {
    let hash = Argon2::default().hash_password(password.as_bytes());
    hash.expect("the parameters are the crate's own, and passwords are short").to_string()
}

fn matches(hash: &str, password: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_password_of_the_hash_is_good() {
        let kept = hash("tr@in");
        assert!(kept.starts_with("$argon2id$"), "{kept}");
        assert_ne!(kept, hash("tr@in"), "equal passwords have equal hashes");
        let passwords = Passwords::new();
        let check = |hash: Option<&str>, word: &str| {
            let (hash, word) = (hash.map(str::to_owned), word.to_owned());
            async { passwords.check(hash, word).await.is_ok_and(|good| good) }
        };
        assert!(check(Some(&kept), "tr@in").await);
        assert!(!check(Some(&kept), "train").await);
        assert!(!check(None, "nobody's").await);
        assert!(!check(Some("no hash"), "tr@in").await);
    }
}
