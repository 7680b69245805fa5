//! Goes on with the upload of a runner that was lost: from its ledger what is stored already, what is in doubt,
//! and what it left open; from the store what is really there.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::PoisonError,
    time::{Duration, SystemTime},
};

use crate::{
    Error, Object, Upload,
    beneath::Beneath,
    ledger::{Copied, Past},
    put::SINGLE,
    upload::{Kept, Source, Stored, Wanted},
};

impl Upload {
    /// Takes what is in `folder` now for stored: it was fetched from there as `objects`, whose keys are whole.
    pub fn adopt<'a>(&mut self, folder: &Path, below: &str, objects: impl IntoIterator<Item = &'a Object>) {
        let etags: BTreeMap<&str, &str> = objects.into_iter().map(|o| (&*o.key, &*o.etag)).collect();
        let mut lines = Vec::new();
        for Wanted { key, source, version, .. } in self.collect(folder, below).files {
            let whole = format!("{}{key}", self.prefix);
            let Some(etag) = etags.get(whole.as_str()) else { continue };
            let stored = Stored { size: version.size, etag: (*etag).to_owned() };
            lines.push(self.note(&key, &source, version, Some(stored.clone())));
            self.stored.insert(key, Kept { version, stored, source: Some(source) });
        }
        if let Some(ledger) = self.open.ledger.as_ref().filter(|_| !lines.is_empty()) {
            ledger.copied(lines);
        }
    }

    /// Takes files in `folder` for stored that were last written before `limit`: nobody noted what was fetched.
    pub fn adopt_older(&mut self, folder: &Path, below: &str, limit: SystemTime) {
        for Wanted { key, source, version, modified, .. } in self.collect(folder, below).files {
            if modified.is_some_and(|t| t < limit) {
                let stored = Stored { size: version.size, etag: String::new() };
                self.stored.insert(key, Kept { version, stored, source: Some(source) });
            }
        }
    }

    /// Where others store under the same keys as well: nothing of theirs is replaced by what is older.
    #[must_use]
    pub fn giving_way(mut self) -> Self {
        self.gives_way.get_or_insert_default();
        self
    }

    /// Below a prefix where others have stored, of whose uploads in parts nothing may be known.
    #[must_use]
    pub fn after_others(mut self) -> Self {
        self.in_parts = true;
        self
    }

    /// Goes on where `past` ends. `root` is the folder that the ledger lies in.
    pub fn resume(&mut self, past: &Past, root: &Path) {
        let mut folders: BTreeMap<PathBuf, Option<Beneath>> = BTreeMap::new();
        let is_here = |key: &String| key.starts_with(&self.prefix);
        for copied in past.copied.values().filter(|c| is_here(&c.key)) {
            let Copied { key, folder, name, version, stored } = copied.clone();
            let folder = root.join(folder);
            // A folder that is not there says nothing of what was in it.
            let beneath = folders.entry(folder.clone()).or_insert_with(|| Beneath::new(&folder).ok()).clone();
            let source = beneath.map(|beneath| Source { beneath, folder, name });
            let below = key[self.prefix.len()..].to_owned();
            match (stored, source) {
                (Some(stored), source) => {
                    self.stored.insert(below, Kept { version, stored, source });
                }
                (None, Some(source)) => {
                    self.in_parts |= version.size > SINGLE;
                    self.doubtful.insert(below, source);
                }
                (None, None) => {}
            }
        }
        if let Some(known) = &mut self.gives_way {
            known.extend(past.etags.iter().filter(|(k, _)| is_here(k)).map(|(k, e)| (k.clone(), e.clone())));
        }
        let open: Vec<_> = past.open.iter().filter(|(key, _)| is_here(key)).cloned().collect();
        self.in_parts |= !open.is_empty();
        self.open.list.lock().unwrap_or_else(PoisonError::into_inner).extend(open);
    }

    /// Looks for what is taken for stored, and forgets what is not there as it was: it is stored again.
    pub async fn check(&mut self) -> Result<(), Error> {
        if self.stored.is_empty() {
            return Ok(());
        }
        let there: BTreeMap<String, Object> =
            self.bucket.list(&self.prefix).await?.into_iter().map(|o| (o.key.clone(), o)).collect();
        let prefix = &self.prefix;
        self.stored.retain(|key, Kept { stored, .. }| {
            there
                .get(&format!("{prefix}{key}"))
                .is_some_and(|o| o.size == stored.size && (o.etag == stored.etag || stored.etag.is_empty()))
        });
        Ok(())
    }

    /// How many bytes are stored under this key below the prefix.
    pub async fn size_of(&self, key: &str) -> Result<u64, Error> {
        Ok(self.bucket.stat(&format!("{}{key}", self.prefix)).await?.map_or(0, |there| there.size))
    }

    /// Takes note of what else is below the prefix, but for keys that are not of this upload: of a runner
    /// that left no ledger, or of somebody else. It belongs to what is there.
    pub async fn find_others(&mut self, not_ours: &(dyn Fn(&str) -> bool + Sync)) -> Result<(), Error> {
        self.others.clear();
        for Object { key, size, etag } in self.bucket.list(&self.prefix).await? {
            let below = key.strip_prefix(&self.prefix).unwrap_or_default();
            if !below.is_empty() && !self.stored.contains_key(below) && !not_ours(below) {
                self.others.insert(below.to_owned(), Stored { size, etag });
            }
        }
        Ok(())
    }

    /// Gives up uploads in parts that were begun and not completed: those that are known, and where nobody else
    /// stores below the prefix but under the keys that are not ours, all that there are; elsewhere those that
    /// may have been begun, within `since`, under keys that are in doubt, or could not be stored.
    pub async fn give_up_left(
        &mut self,
        not_ours: Option<&(dyn Fn(&str) -> bool + Sync)>,
        since: Duration,
    ) -> Result<(), Error> {
        if !self.in_parts {
            return Ok(());
        }
        let open = std::mem::take(&mut *self.open.list.lock().unwrap_or_else(PoisonError::into_inner));
        for (at, (key, id)) in open.iter().enumerate() {
            if let Err(error) = unless_refused(self.bucket.give_up(key, id).await) {
                self.open.list.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&open[at..]);
                return Err(error);
            }
        }
        unless_refused(match not_ours {
            Some(not_ours) => self.give_up_all(not_ours).await,
            None => self.give_up_doubtful(since).await,
        })?;
        self.in_parts = false;
        Ok(())
    }

    async fn give_up_all(&self, not_ours: &(dyn Fn(&str) -> bool + Sync)) -> Result<(), Error> {
        for one in self.bucket.unfinished(&self.prefix).await? {
            if !not_ours(&one.key[self.prefix.len()..]) {
                self.bucket.give_up(&one.key, &one.id).await?;
            }
        }
        Ok(())
    }

    async fn give_up_doubtful(&mut self, since: Duration) -> Result<(), Error> {
        for key in self.doubtful.keys() {
            self.bucket.give_up_unheard(&format!("{}{key}", self.prefix), since).await?;
        }
        for (key, begun) in &self.failed {
            self.bucket.give_up_unheard(&format!("{}{key}", self.prefix), begun.elapsed()).await?;
        }
        self.failed.clear();
        Ok(())
    }
}

/// Keys may store and not give up, and not every store can list uploads: what is stored is no worse for it.
fn unless_refused(given_up: Result<(), Error>) -> Result<(), Error> {
    match given_up {
        Err(error) if !error.is_transient() => {
            tracing::warn!(%error, "uploads that were begun may be left behind");
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_may_not_give_up_uploads_fail_nothing_and_a_store_that_is_away_is_asked_again() {
        let answer = |status| {
            let (what, code, message) = ("the bucket".to_owned(), String::new(), String::new());
            Err(Error::Answer { what, status, code, message })
        };
        assert!(unless_refused(answer(403)).is_ok());
        assert!(unless_refused(answer(501)).is_ok());
        assert!(unless_refused(answer(503)).is_err());
    }
}
