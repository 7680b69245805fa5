//! Runs and their journals. A change of a run and the event that caused it are one transaction.

use std::collections::HashSet;

use trainyard_api::{RunId, RunState, Time, runner::EngineName};
use trainyard_breakpoints::break_point;
use trainyard_lifecycle::{Action, Event, Run, Stamped, apply, fold};
use trainyard_sqlite::rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{AttemptToken, Error, Spec, Store, attempts};

/// A run as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its id.
    pub id: RunId,
    /// Counts submissions; the order of the queue and of lists.
    pub number: i64,
    /// Who submitted it.
    pub owner: String,
    /// What was submitted.
    pub spec: Spec,
    /// How it stands.
    pub run: Run,
}

/// What applying events did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The run now.
    pub run: Run,
    /// Whether anything changed.
    pub changed: bool,
    /// What is to be done.
    pub actions: Vec<Action>,
}

/// A run that is over and is to be removed: what has to be known to clean up behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToRemove {
    /// Its place in the order in which runs were submitted.
    pub number: i64,
    /// Its id.
    pub id: RunId,
    /// Who placed its runners.
    pub engine: EngineName,
    /// How many learners it had.
    pub learners: u32,
    /// How many attempts it had.
    pub attempts: u32,
    /// What it wrote was not stored, and is on its node.
    pub abandoned: bool,
}

/// Which runs of an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Which {
    /// All.
    #[default]
    All,
    /// Those whose id begins like this.
    IdBegins(String),
    /// Those of this name.
    Named(String),
}

impl Which {
    /// The query, of the owner `?1`, numbers below `?2`, at most `?3` rows, and what `?4` and `?5` are.
    /// A plus keeps SQLite from walking through all runs, or all of the owner, where an id leads straight
    /// to a few.
    fn query(&self) -> (String, Option<String>, Option<String>) {
        let (condition, low, high) = match self {
            Self::All => ("owner = ?1 AND number < ?2 AND ?4 IS NULL AND ?5 IS NULL", None, None),
            Self::IdBegins(prefix) => (
                "+owner = ?1 AND +number < ?2 AND id >= ?4 AND id < ?5",
                Some(prefix.clone()),
                // Ids are ASCII: a tilde is behind everything that they can go on with.
                Some(format!("{prefix}~")),
            ),
            Self::Named(name) => {
                ("owner = ?1 AND name = ?4 AND number < ?2 AND ?5 IS NULL", Some(name.clone()), None)
            }
        };
        let sql = format!("SELECT {COLUMNS} FROM runs WHERE {condition} ORDER BY number DESC LIMIT ?3");
        (sql, low, high)
    }
}

/// A row before its secrets are opened.
struct Raw {
    id: String,
    number: i64,
    owner: String,
    run: String,
    spec: String,
    secrets: Vec<u8>,
}

const COLUMNS: &str = "id, number, owner, run, spec, secrets";

fn raw(row: &Row<'_>) -> Result<Raw, trainyard_sqlite::rusqlite::Error> {
    Ok(Raw {
        id: row.get(0)?,
        number: row.get(1)?,
        owner: row.get(2)?,
        run: row.get(3)?,
        spec: row.get(4)?,
        secrets: row.get(5)?,
    })
}

impl Store {
    fn record_of(&self, raw: Raw) -> Result<Record, Error> {
        let id: RunId = raw.id.parse().map_err(|e| Error::Record(format!("{e}")))?;
        let spec = Spec::open(&raw.spec, &raw.secrets, &self.sealer, id.as_str())?;
        Ok(Record { spec, run: serde_json::from_str(&raw.run)?, id, number: raw.number, owner: raw.owner })
    }

    /// Accepts a run: its record and the first event of its journal, on disk when this returns.
    pub async fn submit(&self, id: RunId, owner: &str, spec: Spec, at: Time) -> Result<Record, Error> {
        let name = spec.new_run.model_definition.name.clone();
        let run = Run::submitted(at);
        let mut record = Record { id, number: 0, owner: owner.to_owned(), spec, run };
        let (spec, secrets) = record.spec.clone().seal(&self.sealer, record.id.as_str())?;
        let (id, owner, run) = (record.id.clone(), record.owner.clone(), serde_json::to_string(&record.run)?);
        record.number = self
            .db
            .write(move |c| {
                c.prepare_cached(
                    "INSERT INTO runs (id, owner, name, state, run, spec, secrets)
                     VALUES (?1, ?2, ?3, 'pending', ?4, ?5, ?6)",
                )?
                .execute(params![id.as_str(), owner, name, run, spec, secrets])?;
                let number = c.last_insert_rowid();
                journal(c, &id, 0, &Stamped { at, seq: None, learner: 1, event: Event::Submitted })?;
                Ok::<_, Error>(number)
            })
            .await?;
        break_point("store:submitted");
        Ok(record)
    }

    /// One run.
    pub fn run(&self, id: &RunId) -> Result<Record, Error> {
        let raw = self.db.read(|c| {
            let mut query = c.prepare_cached(&format!("SELECT {COLUMNS} FROM runs WHERE id = ?1"))?;
            Ok::<_, Error>(query.query_row([id.as_str()], raw)?)
        })?;
        self.record_of(raw)
    }

    /// Runs of `owner` that are asked for, newest first: at most `limit`, submitted before number
    /// `before`.
    pub async fn runs(
        &self,
        owner: &str,
        which: Which,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        let owner = owner.to_owned();
        let rows: Vec<Raw> = self
            .db
            .read_long(move |c| {
                let (sql, low, high) = which.query();
                let mut query = c.prepare_cached(&sql)?;
                let before = before.unwrap_or(i64::MAX);
                let rows = query.query_map(params![owner, before, limit, low, high], raw)?;
                Ok::<_, Error>(rows.collect::<Result<_, _>>()?)
            })
            .await?;
        rows.into_iter().map(|r| self.record_of(r)).collect()
    }

    /// All runs that have not ended, oldest first; and the ids of those whose record cannot be read.
    pub async fn live(&self) -> Result<(Vec<Record>, Vec<String>), Error> {
        let rows: Vec<Raw> = self
            .db
            .read_long(|c| {
                let mut query = c.prepare(&format!(
                    "SELECT {COLUMNS} FROM runs WHERE finished_at IS NULL ORDER BY number"
                ))?;
                let rows = query.query_map([], raw)?;
                Ok::<_, Error>(rows.collect::<Result<_, _>>()?)
            })
            .await?;
        let (mut records, mut unread) = (Vec::new(), Vec::new());
        for raw in rows {
            let id = raw.id.clone();
            match self.record_of(raw) {
                Ok(record) => records.push(record),
                // Another key is a reason to stop: then none can be read.
                Err(Error::Sealed) => return Err(Error::Sealed),
                Err(_) => unread.push(id),
            }
        }
        Ok((records, unread))
    }

    /// Applies events to a run, in order, each journaled when it changes something. `token` is
    /// kept with a `placed` event that was taken.
    pub async fn apply(
        &self,
        id: &RunId,
        events: Vec<Stamped>,
        token: Option<AttemptToken>,
    ) -> Result<Applied, Error> {
        let id = id.clone();
        let applied = self
            .db
            .write(move |c| {
                let mut find = c.prepare_cached("SELECT run FROM runs WHERE id = ?1")?;
                let text: Option<String> = find.query_row([id.as_str()], |r| r.get(0)).optional()?;
                let mut run: Run = serde_json::from_str(&text.ok_or(Error::NotFound)?)?;
                let before = run.clone();
                let mut actions = Vec::new();
                let mut next: Option<i64> = None;
                for stamped in &events {
                    let last = run.clone();
                    actions.extend(apply(&mut run, stamped));
                    if run != last {
                        let n = match next {
                            Some(n) => n,
                            None => c
                                .prepare_cached("SELECT coalesce(max(n), -1) + 1 FROM events WHERE run = ?1")?
                                .query_row([id.as_str()], |r| r.get(0))?,
                        };
                        journal(c, &id, n, stamped)?;
                        next = Some(n + 1);
                    }
                }
                let changed = run != before;
                let last = events.last().filter(|_| changed).map(|e| point(&e.event));
                if changed {
                    let sql = "UPDATE runs SET run = ?2, state = ?3, finished_at = ?4, to_remove = ?5 WHERE id = ?1";
                    c.prepare_cached(sql)?.execute(params![
                        id.as_str(),
                        serde_json::to_string(&run)?,
                        run.api_state().as_str(),
                        run.finished_at.map(|t| t.0),
                        run.is_ended() && run.delete_asked
                    ])?;
                    if let Some(token) = token.filter(|t| t.attempt == run.attempt) {
                        attempts::keep(c, &id, &token)?;
                    }
                }
                Ok::<_, Error>((Applied { run, changed, actions }, last.flatten()))
            })
            .await;
        let (applied, point) = applied?;
        if let Some(point) = point {
            break_point(point);
        }
        Ok(applied)
    }

    /// The journal of a run.
    pub fn journal(&self, id: &RunId) -> Result<Vec<Stamped>, Error> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT body FROM events WHERE run = ?1 ORDER BY n")?;
            let mut rows = query.query([id.as_str()])?;
            let mut events = Vec::new();
            while let Some(row) = rows.next()? {
                events.push(serde_json::from_str(&row.get::<_, String>(0)?)?);
            }
            Ok(events)
        })
    }

    /// Whether the kept state of a run is the fold of its journal.
    pub fn is_consistent(&self, id: &RunId) -> Result<bool, Error> {
        Ok(fold(&self.journal(id)?) == Some(self.run(id)?.run))
    }

    /// Removes a run's record and journal.
    pub async fn remove_run(&self, id: &RunId) -> Result<(), Error> {
        let id = id.clone();
        self.db
            .write(move |c| {
                c.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([id.as_str()])?;
                Ok(())
            })
            .await
    }

    /// Runs that are over and that nobody wants any more, oldest first, at most `most` behind the number `after`: their
    /// records are still here, because something of them is. A record that cannot be read is one of them.
    pub async fn runs_to_remove(&self, after: i64, most: u32) -> Result<Vec<ToRemove>, Error> {
        self.db
            .read_long(move |c| {
                let mut query = c.prepare_cached(
                    "SELECT id, run, spec, number FROM runs WHERE to_remove = 1 AND number > ?1
                     ORDER BY number LIMIT ?2",
                )?;
                let mut rows = query.query((after, most))?;
                let mut found = Vec::new();
                while let Some(row) = rows.next()? {
                    let id: String = row.get(0)?;
                    let id = id.parse().map_err(|e| Error::Record(format!("{e}")))?;
                    let run = serde_json::from_str::<Run>(&row.get::<_, String>(1)?);
                    // Without its secrets: nobody needs them for this.
                    let spec = serde_json::from_str::<Spec>(&row.get::<_, String>(2)?);
                    found.push(ToRemove {
                        number: row.get(3)?,
                        id,
                        engine: spec.as_ref().map_or(EngineName::Local, |s| s.engine),
                        learners: spec.as_ref().map_or(1, Spec::learners),
                        attempts: run.as_ref().map_or(0, |r| r.attempt),
                        abandoned: run.is_ok_and(|r| r.is_abandoned()),
                    });
                }
                Ok(found)
            })
            .await
    }

    /// Which of these runs have a record.
    pub async fn known(&self, ids: Vec<RunId>) -> Result<HashSet<RunId>, Error> {
        self.db
            .read_long(move |c| {
                let mut query = c.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?;
                let mut known = HashSet::new();
                for id in ids {
                    if query.exists([id.as_str()])? {
                        known.insert(id);
                    }
                }
                Ok(known)
            })
            .await
    }

    /// Ids of runs that ended before `limit`, oldest end first.
    pub fn ended_before(&self, limit: Time, most: u32) -> Result<Vec<RunId>, Error> {
        self.db.read(|c| {
            let mut query = c.prepare_cached(
                "SELECT id FROM runs WHERE finished_at < ?1 AND to_remove = 0 ORDER BY finished_at LIMIT ?2",
            )?;
            let rows = query.query_map(params![limit.0, most], |r| r.get::<_, String>(0))?;
            let ids: Vec<String> = rows.collect::<Result<_, _>>()?;
            ids.iter().map(|id| id.parse().map_err(|e| Error::Record(format!("{e}")))).collect()
        })
    }

    /// How many runs are in each state.
    pub fn count(&self) -> Result<Vec<(RunState, u64)>, Error> {
        self.db.read(|c| {
            let states = [
                RunState::Pending,
                RunState::Running,
                RunState::Completed,
                RunState::Error,
                RunState::Canceled,
            ];
            let mut query = c.prepare_cached("SELECT count(*) FROM runs WHERE state = ?1")?;
            states.into_iter().map(|s| Ok((s, query.query_row([s.as_str()], |r| r.get(0))?))).collect()
        })
    }
}

/// The break point behind the journal's commit of an event.
fn point(event: &Event) -> Option<&'static str> {
    match event {
        Event::Placed { .. } => Some("journal:placed"),
        Event::Claimed { .. } => Some("journal:claimed"),
        Event::Started { .. } => Some("journal:started"),
        Event::Exited { .. } => Some("journal:exited"),
        Event::Finished { .. } => Some("journal:finished"),
        Event::Lost { .. } => Some("journal:lost"),
        Event::CancelAsked => Some("journal:cancel"),
        Event::DeleteAsked => Some("journal:delete"),
        _ => None,
    }
}

fn journal(c: &Connection, id: &RunId, n: i64, stamped: &Stamped) -> Result<(), Error> {
    c.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        id.as_str(),
        n,
        stamped.at.0,
        serde_json::to_string(stamped)?
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::MIGRATIONS;

    #[test]
    fn every_question_about_runs_is_answered_by_its_index() {
        let c = Connection::open_in_memory().unwrap();
        for migration in MIGRATIONS {
            c.execute_batch(migration.sql).unwrap();
        }
        let beginning = "training-00000000";
        for (which, expected) in [
            (Which::All, "runs_by_owner (owner=? AND number<?)"),
            (Which::Named("n".to_owned()), "runs_by_name (owner=? AND name=? AND number<?)"),
            (Which::IdBegins(beginning.to_owned()), "(id>? AND id<?)"),
        ] {
            let (sql, low, high) = which.query();
            let mut query = c.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let plan = query.query_map(params!["o", i64::MAX, 50, low, high], |r| r.get(3)).unwrap();
            let plan: Vec<String> = plan.collect::<Result<_, _>>().unwrap();
            assert!(plan[0].contains(expected), "{which:?}: {plan:?}");
        }
    }
}
