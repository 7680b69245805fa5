//! Which faults there are, how many are still to come, and how many have happened.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// A fault that meets the next request that it is meant for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request is carried out, and its answer does not arrive.
    LoseAnswer,
    /// The answer breaks off after so many bytes, its head included.
    TruncateAnswer(u64),
    /// The connection breaks once so many bytes of the request have gone up.
    CutRequest(u64),
    /// The request waits for so long before it goes on.
    Delay(Duration),
    /// A byte of the answer is another one, where it is large.
    Lie,
}

/// A fault, and the requests that it is meant for: those whose first bytes hold all of these words.
#[derive(Clone, Debug)]
struct Planned {
    fault: Fault,
    words: Vec<String>,
}

/// The faults of a proxy.
#[derive(Debug, Default)]
pub struct Faults {
    planned: Mutex<Vec<Planned>>,
    refusals: AtomicU64,
    cut_down_after: AtomicU64,
    cut_up_after: AtomicU64,
    happened: AtomicU64,
}

impl Faults {
    /// Plans a fault for the next request that holds all of `words` in its first bytes, such as `POST ` and
    /// `uploadId=`. Without words, for the next request.
    pub fn plan(&self, fault: Fault, words: &[&str]) {
        let words = words.iter().map(|w| (*w).to_owned()).collect();
        self.plans().push(Planned { fault, words });
    }

    /// Forgets all that is planned, and cuts no more; returns how many faults had been planned.
    pub fn clear(&self) -> usize {
        self.refusals.store(0, Relaxed);
        self.cut_down_after(0);
        self.cut_up_after(0);
        std::mem::take(&mut *self.plans()).len()
    }

    /// Refuses so many of the next connections.
    pub fn refuse(&self, connections: u64) {
        self.refusals.store(connections, Relaxed);
    }

    /// Cuts every connection once so many bytes have come down; 0: none.
    pub fn cut_down_after(&self, bytes: u64) {
        self.cut_down_after.store(bytes, Relaxed);
    }

    /// Cuts every connection once so many bytes have gone up; 0: none.
    pub fn cut_up_after(&self, bytes: u64) {
        self.cut_up_after.store(bytes, Relaxed);
    }

    /// How many faults have happened.
    pub fn happened(&self) -> u64 {
        self.happened.load(Relaxed)
    }

    /// How many faults are planned and have not met their request.
    pub fn planned(&self) -> usize {
        self.plans().len()
    }

    fn plans(&self) -> MutexGuard<'_, Vec<Planned>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault of a request that begins like this.
    pub(crate) fn of(&self, head: &[u8]) -> Option<Fault> {
        let holds = |word: &String| head.windows(word.len().max(1)).any(|w| w == word.as_bytes());
        let mut plans = self.plans();
        let at = plans.iter().position(|p| p.words.iter().all(holds))?;
        Some(plans.remove(at).fault)
    }

    pub(crate) fn refuses(&self) -> bool {
        let refused = self.refusals.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok();
        if refused {
            self.happens();
        }
        refused
    }

    pub(crate) fn happens(&self) {
        self.happened.fetch_add(1, Relaxed);
    }

    pub(crate) fn ends_down(&self, bytes: u64) -> bool {
        ends(&self.cut_down_after, bytes)
    }

    pub(crate) fn ends_up(&self, bytes: u64) -> bool {
        ends(&self.cut_up_after, bytes)
    }
}

fn ends(limit: &AtomicU64, bytes: u64) -> bool {
    let limit = limit.load(Relaxed);
    limit > 0 && bytes > limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_meets_the_request_that_it_is_meant_for_and_no_other() {
        let faults = Faults::default();
        faults.plan(Fault::LoseAnswer, &["POST ", "uploadId="]);
        faults.plan(Fault::Lie, &[]);
        assert_eq!(faults.of(b"POST /b/k?uploads HTTP/1.1"), Some(Fault::Lie));
        assert_eq!(faults.of(b"PUT /b/k?uploadId=1 HTTP/1.1"), None);
        assert_eq!(faults.of(b"POST /b/k?uploadId=1 HTTP/1.1"), Some(Fault::LoseAnswer));
        assert_eq!(faults.planned(), 0);
    }
}
