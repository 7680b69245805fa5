//! The writer thread: closures in, group commits out.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::Error;

/// Changes that share one commit at most; past that the wait of the first grows without gain.
const GROUP: usize = 256;

/// Runs inside the transaction, and returns what answers the caller once the commit is known.
type Change = Box<dyn FnOnce(Result<&Connection, Error>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Result<(), Error>) + Send>;

#[derive(Clone)]
pub(crate) struct Writer {
    changes: mpsc::Sender<Change>,
}

impl Writer {
    pub(crate) fn start(connection: Connection) -> Self {
        let (changes, queue) = mpsc::channel();
        thread::Builder::new()
            .name("sqlite-writer".into())
            .spawn(move || work(&connection, &queue))
            .expect("a thread can be started at start-up");
        Self { changes }
    }

    pub(crate) async fn run<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.send(change)?.await.unwrap_or(Err(Error::Closed.into()))
    }

    /// The same for a thread that may wait.
    pub(crate) fn run_now<T, E, F>(&self, change: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        self.send(change)?.blocking_recv().unwrap_or(Err(Error::Closed.into()))
    }

    fn send<T, E, F>(&self, change: F) -> Result<oneshot::Receiver<Result<T, E>>, Error>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let change: Change = Box::new(move |connection| {
            let result = connection.map_err(E::from).and_then(|c| in_savepoint(c, change));
            Box::new(move |committed: Result<(), Error>| {
                // The caller may have given up waiting; the change stands all the same.
                let _ = reply.send(result.and_then(|value| committed.map(|()| value).map_err(E::from)));
            })
        });
        self.changes.send(change).map_err(|_| Error::Closed)?;
        Ok(answer)
    }
}

fn in_savepoint<T, E: From<Error>>(
    connection: &Connection,
    change: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let run = |sql: &str| connection.prepare_cached(sql).and_then(|mut s| s.execute([])).map_err(Error::from);
    run("SAVEPOINT change")?;
    let result = catch_unwind(AssertUnwindSafe(|| change(connection)));
    let result = result.unwrap_or_else(|_| Err(Error::Panicked.into()));
    if result.is_err() {
        run("ROLLBACK TO change")?;
    }
    run("RELEASE change")?;
    result
}

fn work(connection: &Connection, queue: &mpsc::Receiver<Change>) {
    connection.set_prepared_statement_cache_capacity(128);
    while let Ok(first) = queue.recv() {
        let begun = execute(connection, "BEGIN IMMEDIATE");
        let mut answers = Vec::new();
        let mut next = Some(first);
        while let Some(change) = next {
            // A full disk makes SQLite roll the whole transaction back by itself: what came after
            // would then be committed on its own, and be reported as failed.
            let begun = match &begun {
                Ok(()) if connection.is_autocommit() => {
                    Err(Error::Disk("the transaction was rolled back".to_owned()))
                }
                other => other.clone(),
            };
            answers.push(change(begun.map(|()| connection)));
            next = if answers.len() < GROUP { queue.try_recv().ok() } else { None };
        }
        let committed = begun.and_then(|()| execute(connection, "COMMIT"));
        if committed.is_err() && !connection.is_autocommit() {
            let _ = execute(connection, "ROLLBACK");
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

fn execute(connection: &Connection, sql: &str) -> Result<(), Error> {
    Ok(connection.prepare_cached(sql)?.execute([]).map(|_| ())?)
}

#[cfg(test)]
mod tests {
    use crate::{Database, Error, Migration};

    const SCHEMA: [Migration; 1] =
        [Migration { name: "t", sql: "CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT" }];

    async fn insert(db: &Database, n: i64) -> Result<(), Error> {
        db.write(move |c| Ok::<_, Error>(c.execute("INSERT INTO t VALUES (?1)", [n]).map(|_| ())?)).await
    }

    #[tokio::test]
    async fn a_failed_change_leaves_its_neighbours_alone() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("t.db"), &SCHEMA).unwrap();
        let (a, b, c, d) = tokio::join!(insert(&db, 1), insert(&db, 1), insert(&db, 2), async {
            db.write(|_| -> Result<(), Error> { panic!("on purpose") }).await
        });
        assert!(a.is_ok() && b.is_err() && c.is_ok());
        assert!(matches!(d, Err(Error::Panicked)));
        let n: i64 =
            db.read(|c| Ok::<_, Error>(c.query_row("SELECT count(*) FROM t", [], |r| r.get(0))?)).unwrap();
        assert_eq!(n, 2);
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let dir = tempfile::tempdir().unwrap();
        let db = Database::open(&dir.path().join("t.db"), &SCHEMA).unwrap();
        let result = db.read(|c| Ok::<_, Error>(c.execute("INSERT INTO t VALUES (1)", [])?));
        assert!(result.is_err());
    }
}
