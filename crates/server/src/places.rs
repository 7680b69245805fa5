//! Places of which there are so many: for uploads, for monitors. No user can have all of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Places, and who has how many. Clones share them.
#[derive(Clone)]
pub(crate) struct Places {
    most: usize,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

/// A place that is taken, and is free again when this is dropped.
pub(crate) struct Place {
    owner: String,
    taken: Arc<Mutex<HashMap<String, usize>>>,
}

impl Places {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, taken: Arc::default() }
    }

    /// A place for `owner`; `None`: all are taken, or all but the quarter that is for others.
    pub(crate) fn take(&self, owner: &str) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(owner).copied().unwrap_or(0);
        if taken.values().sum::<usize>() >= self.most || own >= self.most - self.most / 4 {
            return None;
        }
        taken.insert(owner.to_owned(), own + 1);
        Some(Place { owner: owner.to_owned(), taken: Arc::clone(&self.taken) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.owner) {
            Some(n) if *n > 1 => *n -= 1,
            _ => {
                taken.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_all_and_what_is_given_back_can_be_taken_again() {
        let places = Places::new(8);
        let take = |owner| places.take(owner);
        let mut held: Vec<Place> = (0..6).map(|_| take("ada").unwrap()).collect();
        assert!(take("ada").is_none());
        held.extend([take("bob").unwrap(), take("bob").unwrap()]);
        assert!(take("carl").is_none());
        held.remove(0);
        held.push(take("carl").unwrap());
        held.clear();
        assert!(places.taken.lock().unwrap().is_empty());
        assert!(Places::new(1).take("ada").is_some());
    }
}
