//! Slows guessing down: after a few wrong passwords from one address for one name, each further try has to
//! wait longer. Others are not slowed, nor is the same user elsewhere. No I/O; the caller keeps the clock.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

/// Wrong passwords that cost nothing: people mistype.
const FREE: u32 = 3;
/// The first wait after them, which doubles with each.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait between two tries.
const LONGEST: Duration = Duration::from_secs(30);
/// A try that would have to wait longer is refused at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this time without a try all is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(15);
/// Pairs that are remembered.
const MOST: usize = 20_000;

type Key = (IpAddr, String);

struct Entry {
    wrong: u32,
    /// When the next try may be made.
    next: Instant,
    last: Instant,
}

/// What has been tried of late.
#[derive(Default)]
pub(crate) struct Guesses(HashMap<Key, Entry>);

impl Guesses {
    /// How long a try has to wait before it is made; `Err`: it is refused, for that long. The try is
    /// counted as wrong until [`Guesses::right`] says otherwise, so that many at once get no further.
    pub(crate) fn wait(&mut self, address: IpAddr, name: &str, now: Instant) -> Result<Duration, Duration> {
        if self.0.len() >= MOST {
            self.0.retain(|_, e| now.duration_since(e.last) < FORGOTTEN);
        }
        if self.0.len() >= MOST {
            // Somebody makes up names by the thousand: all of them wait for the oldest to be forgotten.
            return Err(PATIENCE);
        }
        let fresh = || Entry { wrong: 0, next: now, last: now };
        let entry = self.0.entry((address, name.to_owned())).or_insert_with(fresh);
        if now.duration_since(entry.last) >= FORGOTTEN {
            *entry = fresh();
        }
        let wait = entry.next.saturating_duration_since(now);
        if wait > PATIENCE {
            return Err(wait);
        }
        entry.wrong = entry.wrong.saturating_add(1);
        entry.last = now;
        if entry.wrong >= FREE {
            let doubled = FIRST * 2u32.saturating_pow((entry.wrong - FREE).min(16));
            entry.next = entry.next.max(now) + doubled.min(LONGEST);
        }
        Ok(wait)
    }

    /// The password was right: what was tried before it is forgotten.
    pub(crate) fn right(&mut self, address: IpAddr, name: &str) {
        self.0.remove(&(address, name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn a_guesser_gets_slower_and_nobody_else_does() {
        let mut guesses = Guesses::default();
        let mut now = Instant::now();
        let mut made = 0;
        let end = now + Duration::from_mins(10);
        while now < end {
            match guesses.wait(HERE, "ada", now) {
                Ok(wait) => {
                    made += 1;
                    now += wait;
                }
                Err(wait) => now += wait,
            }
        }
        assert!((10..40).contains(&made), "{made} guesses in ten minutes");
        assert_eq!(guesses.wait(HERE, "bob", now), Ok(Duration::ZERO));
        let elsewhere = IpAddr::V6(std::net::Ipv6Addr::LOCALHOST);
        assert_eq!(guesses.wait(elsewhere, "ada", now), Ok(Duration::ZERO));
    }

    #[test]
    fn who_tries_all_at_once_gets_no_further() {
        let mut guesses = Guesses::default();
        let now = Instant::now();
        let made = (0..1000).filter(|_| guesses.wait(HERE, "ada", now).is_ok()).count();
        assert!(made < 12, "{made} guesses at once");
    }

    #[test]
    fn the_right_password_and_time_make_it_forget() {
        let mut guesses = Guesses::default();
        let now = Instant::now();
        for _ in 0..20 {
            let _ = guesses.wait(HERE, "ada", now);
        }
        assert!(guesses.wait(HERE, "ada", now).is_err());
        assert_eq!(guesses.wait(HERE, "ada", now + FORGOTTEN), Ok(Duration::ZERO));
        guesses.right(HERE, "ada");
        assert_eq!(guesses.wait(HERE, "ada", now), Ok(Duration::ZERO));
    }
}
