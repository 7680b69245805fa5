//! The checkpoints that all runs of the bucket fetch and each stores one of: none may ever go back.

use std::collections::BTreeMap;

use super::{load::ANSWER, world::World};

const FOLDER: &str = "_wml_checkpoints/";

/// By key: the ETag that was seen last, and the newest content.
#[derive(Default)]
pub struct Checkpoints(BTreeMap<String, (String, (u64, u64))>);

impl World {
    /// Looks at each that has changed: number of the run, and of its line.
    pub fn look_at_checkpoints(&mut self) {
        if !self.is_served() {
            return;
        }
        let (bucket, seen) = (&self.results, &self.checkpoints.0);
        let changed = self.asker.block_on(async {
            let look = async {
                let mut changed = Vec::new();
                for object in bucket.list(FOLDER).await.ok()? {
                    let is_known = seen.get(&object.key).is_some_and(|(etag, _)| *etag == object.etag);
                    if !object.key.ends_with("-half") && !is_known {
                        let text = bucket.get_bytes(&object.key).await.ok()?;
                        changed.push((object, String::from_utf8_lossy(&text).into_owned()));
                    }
                }
                Some(changed)
            };
            tokio::time::timeout(ANSWER, look).await.ok().flatten()
        });
        for (object, text) in changed.unwrap_or_default() {
            let mut words = text.split(' ').filter_map(|w| w.parse().ok());
            let (Some(run), Some(line)) = (words.next(), words.next()) else {
                self.report.violation(format!("checkpoint {} holds {text:?}", object.key));
                continue;
            };
            self.report.checked("versions of checkpoints", 1);
            let before = self.checkpoints.0.get(&object.key).map_or((0, 0), |(_, newest)| *newest);
            self.report.expect((run, line) >= before, || {
                format!("checkpoint {} went back from {before:?} to {:?}", object.key, (run, line))
            });
            self.checkpoints.0.insert(object.key, (object.etag, before.max((run, line))));
        }
    }
}
