//! Slows guessing down: after a few wrong passwords from one address for one name, each further try has to
//! wait longer; and who tries many names from one address waits, too. No I/O; the caller keeps the clock.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Tries of one pair under way at once. More wait until one is decided, so that many at once get no
/// further, and many with the right password all get in.
const AT_ONCE: u32 = 3;
/// Wrong passwords of a pair that cost nothing: people mistype.
const FREE: u32 = 3;
/// The first wait after them, which doubles with each.
const FIRST: Duration = Duration::from_millis(250);
/// The longest wait between two tries of a pair.
const LONGEST: Duration = Duration::from_secs(30);
/// Wrong passwords of an address, whatever the names, that cost nothing; and the wait between two tries
/// after them.
const FREE_OF_ADDRESS: u32 = 30;
const PACE_OF_ADDRESS: Duration = Duration::from_secs(1);
/// A try that would have to wait longer is refused at once.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this time without a try all is forgotten.
const FORGOTTEN: Duration = Duration::from_mins(15);
/// Entries that are remembered.
const MOST: usize = 20_000;

/// What has been tried of late.
#[derive(Default)]
pub(crate) struct Guesses {
    pairs: HashMap<(IpAddr, String), Entry>,
    addresses: HashMap<IpAddr, Entry>,
}

struct Entry {
    wrong: u32,
    under_way: u32,
    /// When the next try may be made.
    next: Instant,
    last: Instant,
}

/// Whether a try may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Now; the caller tells how it came out.
    Go,
    /// Ask again after this time.
    Wait(Duration),
    /// Ask again when another try of the same pair has come out.
    Others,
    /// Not before this time.
    Refused(Duration),
}

/// How a try came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The password was right.
    Right,
    /// It was wrong, or there is no such name.
    Wrong,
    /// It was not looked at.
    Untried,
}

/// Networks, not addresses, are handed out with version 6: the first half counts.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// The entry of `key`; where there is no room for a new one, a quarter goes, those used longest ago first.
fn entry<K: std::hash::Hash + Eq>(map: &mut HashMap<K, Entry>, key: K, now: Instant) -> &mut Entry {
    if map.len() >= MOST && !map.contains_key(&key) {
        let mut times: Vec<Instant> = map.values().map(|e| e.last).collect();
        let (_, limit, _) = times.select_nth_unstable(MOST / 4);
        let limit = *limit;
        map.retain(|_, e| e.under_way > 0 || e.last > limit);
    }
    let entry = map.entry(key).or_insert_with(|| Entry::new(now));
    if entry.under_way == 0 && now.duration_since(entry.last) >= FORGOTTEN {
        *entry = Entry::new(now);
    }
    entry
}

impl Entry {
    fn new(now: Instant) -> Self {
        Self { wrong: 0, under_way: 0, next: now, last: now }
    }
}

impl Guesses {
    /// Whether a try may be made; after [`Verdict::Go`] comes [`Guesses::came_out`].
    pub(crate) fn may_try(&mut self, address: IpAddr, name: &str, now: Instant) -> Verdict {
        let address = network(address);
        let of_address = entry(&mut self.addresses, address, now);
        let paced = if of_address.wrong >= FREE_OF_ADDRESS { of_address.next } else { now };
        let pair = entry(&mut self.pairs, (address, name.to_owned()), now);
        if pair.under_way >= AT_ONCE {
            return Verdict::Others;
        }
        let wait = pair.next.max(paced).saturating_duration_since(now);
        if wait > PATIENCE {
            return Verdict::Refused(wait);
        }
        if !wait.is_zero() {
            return Verdict::Wait(wait);
        }
        pair.under_way += 1;
        pair.last = now;
        if pair.wrong >= FREE {
            // Its result is waited for: only one at a time from here on.
            pair.next = now + doubled(pair.wrong + 1);
        }
        of_address.last = now;
        if of_address.wrong >= FREE_OF_ADDRESS {
            of_address.next = now + PACE_OF_ADDRESS;
        }
        Verdict::Go
    }

    /// How a try came out that was let go.
    pub(crate) fn came_out(&mut self, address: IpAddr, name: &str, outcome: Outcome, now: Instant) {
        let address = network(address);
        let of_address = entry(&mut self.addresses, address, now);
        let pair = entry(&mut self.pairs, (address, name.to_owned()), now);
        pair.under_way = pair.under_way.saturating_sub(1);
        match outcome {
            Outcome::Right => {
                (pair.wrong, pair.next) = (0, now);
                of_address.wrong = of_address.wrong.saturating_sub(1);
            }
            Outcome::Wrong => {
                pair.wrong = pair.wrong.saturating_add(1);
                of_address.wrong = of_address.wrong.saturating_add(1);
                if pair.wrong >= FREE {
                    pair.next = now + doubled(pair.wrong);
                }
            }
            Outcome::Untried => {}
        }
    }
}

/// The wait after so many wrong passwords.
fn doubled(wrong: u32) -> Duration {
    (FIRST * 2u32.saturating_pow(wrong.saturating_sub(FREE).min(16))).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// Tries wrong passwords for `span`, as often as it may; returns how often that was.
    fn guess(
        guesses: &mut Guesses,
        span: Duration,
        mut now: Instant,
        mut name: impl FnMut(u32) -> String,
    ) -> u32 {
        let (end, mut made) = (now + span, 0);
        while now < end {
            let name = name(made);
            match guesses.may_try(HERE, &name, now) {
                Verdict::Go => {
                    guesses.came_out(HERE, &name, Outcome::Wrong, now);
                    made += 1;
                }
                Verdict::Wait(wait) | Verdict::Refused(wait) => now += wait,
                Verdict::Others => unreachable!("nothing else is under way"),
            }
        }
        made
    }

    #[test]
    fn a_guesser_gets_slower_and_nobody_elsewhere_does() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let made = guess(&mut guesses, Duration::from_mins(10), now, |_| "ada".to_owned());
        assert!((10..40).contains(&made), "{made} guesses in ten minutes");
        let elsewhere = "2001:db8::1".parse().unwrap();
        assert_eq!(guesses.may_try(elsewhere, "ada", now), Verdict::Go);
    }

    #[test]
    fn one_password_for_many_names_is_slowed_too() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let made = guess(&mut guesses, Duration::from_mins(5), now, |n| format!("user {n}"));
        assert!((300..350).contains(&made), "{made} guesses in five minutes");
    }

    #[test]
    fn a_flood_of_names_shuts_nobody_out() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        for n in 0..2 * MOST {
            let address = IpAddr::from([10, 0, (n / 250 % 250) as u8, (n % 250) as u8]);
            let (name, then) = (format!("made up {n}"), now + Duration::from_micros(n as u64));
            if guesses.may_try(address, &name, then) == Verdict::Go {
                guesses.came_out(address, &name, Outcome::Wrong, then);
            }
        }
        assert!(guesses.pairs.len() <= MOST && guesses.addresses.len() <= MOST);
        assert_eq!(guesses.may_try(HERE, "bob", now), Verdict::Go);
    }

    #[test]
    fn many_at_once_wait_for_each_other_and_all_who_are_right_get_in() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let verdicts: Vec<Verdict> = (0..10).map(|_| guesses.may_try(HERE, "ada", now)).collect();
        assert_eq!(verdicts.iter().filter(|v| **v == Verdict::Go).count(), 3);
        assert!(verdicts[3..].iter().all(|v| *v == Verdict::Others));
        for _ in 0..10 {
            guesses.came_out(HERE, "ada", Outcome::Right, now);
            assert_eq!(guesses.may_try(HERE, "ada", now), Verdict::Go);
        }
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        let address = |n: u16| IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n));
        for n in 0..3 {
            assert_eq!(guesses.may_try(address(n), "ada", now), Verdict::Go);
            guesses.came_out(address(n), "ada", Outcome::Wrong, now);
        }
        assert!(matches!(guesses.may_try(address(9), "ada", now), Verdict::Wait(_)));
    }

    #[test]
    fn time_makes_it_forget_and_what_was_not_looked_at_does_not_count() {
        let (mut guesses, now) = (Guesses::default(), Instant::now());
        guess(&mut guesses, Duration::from_secs(20), now, |_| "ada".to_owned());
        let later = now + Duration::from_secs(20);
        assert_ne!(guesses.may_try(HERE, "ada", later), Verdict::Go);
        assert_eq!(guesses.may_try(HERE, "ada", later + FORGOTTEN), Verdict::Go);
        for _ in 0..50 {
            assert_eq!(guesses.may_try(HERE, "bob", now), Verdict::Go);
            guesses.came_out(HERE, "bob", Outcome::Untried, now);
        }
    }
}
