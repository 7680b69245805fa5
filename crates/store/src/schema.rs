//! The schema, as numbered migrations. What landed is never edited; a change is a new one.

use trainyard_sqlite::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[FIRST, RUNS_BY_NAME, USERS_AND_VERSIONS, RUNS_TO_REMOVE];

const FIRST: Migration = Migration {
    name: "runs, journal, definitions, models, tokens",
    sql: "
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'running', 'completed', 'error', 'canceled')),
        finished_at INTEGER,
        run TEXT NOT NULL,
        spec TEXT NOT NULL,
        secrets BLOB NOT NULL) STRICT;
    CREATE INDEX runs_by_owner ON runs (owner, number);
    CREATE INDEX runs_live ON runs (number) WHERE finished_at IS NULL;
    CREATE INDEX runs_ended ON runs (finished_at) WHERE finished_at IS NOT NULL;
    CREATE TABLE events (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        n INTEGER NOT NULL,
        at INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (run, n)) STRICT, WITHOUT ROWID;
    CREATE TABLE attempts (
        run TEXT NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
        attempt INTEGER NOT NULL,
        token_hash TEXT NOT NULL,
        PRIMARY KEY (run, attempt)) STRICT, WITHOUT ROWID;
    CREATE TABLE definitions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        version TEXT NOT NULL,
        owner TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        modified_at INTEGER NOT NULL,
        body TEXT NOT NULL,
        sha256 TEXT,
        size INTEGER) STRICT;
    CREATE INDEX definitions_by_owner ON definitions (owner, number);
    CREATE INDEX definitions_by_content ON definitions (sha256);
    CREATE TABLE models (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        version TEXT NOT NULL,
        owner TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        modified_at INTEGER NOT NULL,
        run TEXT,
        body TEXT NOT NULL,
        state TEXT NOT NULL,
        message TEXT,
        size INTEGER) STRICT;
    CREATE INDEX models_by_owner ON models (owner, number);
    CREATE TABLE tokens (
        hash TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        admin INTEGER NOT NULL,
        created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    ",
};

const RUNS_BY_NAME: Migration =
    Migration { name: "runs by name", sql: "CREATE INDEX runs_by_name ON runs (owner, name, number)" };

const USERS_AND_VERSIONS: Migration = Migration {
    name: "users; versions of definitions and models",
    sql: "
    CREATE TABLE users (
        name TEXT PRIMARY KEY,
        admin INTEGER NOT NULL,
        password TEXT,
        generation INTEGER NOT NULL,
        created_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
    INSERT INTO users SELECT owner, max(admin), NULL, 0, min(created_at) FROM tokens GROUP BY owner;
    CREATE TABLE ended_sessions (id TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;

    CREATE TABLE definition_versions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        definition TEXT NOT NULL REFERENCES definitions (id) ON DELETE CASCADE,
        created_at INTEGER NOT NULL,
        body TEXT NOT NULL,
        sha256 TEXT,
        size INTEGER) STRICT;
    INSERT INTO definition_versions (id, definition, created_at, body, sha256, size)
        SELECT version, id, created_at, body, sha256, size FROM definitions ORDER BY number;
    CREATE INDEX definition_versions_of ON definition_versions (definition, number);
    CREATE INDEX definition_versions_by_content ON definition_versions (sha256);
    DROP INDEX definitions_by_content;
    ALTER TABLE definitions DROP COLUMN version;
    ALTER TABLE definitions DROP COLUMN body;
    ALTER TABLE definitions DROP COLUMN sha256;
    ALTER TABLE definitions DROP COLUMN size;

    CREATE TABLE model_versions (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        model TEXT NOT NULL REFERENCES models (id) ON DELETE CASCADE,
        created_at INTEGER NOT NULL,
        run TEXT,
        state TEXT NOT NULL,
        message TEXT,
        size INTEGER,
        file TEXT NOT NULL) STRICT;
    INSERT INTO model_versions (id, model, created_at, run, state, message, size, file)
        SELECT version, id, created_at, run, state, message, size, id FROM models ORDER BY number;
    CREATE INDEX model_versions_of ON model_versions (model, number);
    CREATE INDEX model_versions_by_file ON model_versions (file);
    ALTER TABLE models DROP COLUMN version;
    ALTER TABLE models DROP COLUMN run;
    ALTER TABLE models DROP COLUMN state;
    ALTER TABLE models DROP COLUMN message;
    ALTER TABLE models DROP COLUMN size;
    ",
};

/// Runs whose owner deleted them and that are over: their record is what tells that they are to be removed, and goes
/// last. Before, nobody looked for those whose removal was cut short.
const RUNS_TO_REMOVE: Migration = Migration {
    name: "runs to be removed",
    sql: "
    ALTER TABLE runs ADD COLUMN to_remove INTEGER NOT NULL DEFAULT 0;
    UPDATE runs SET to_remove = 1
        WHERE finished_at IS NOT NULL
            AND coalesce(CASE WHEN json_valid(run) THEN json_extract(run, '$.delete_asked') END, 0);
    CREATE INDEX runs_to_remove ON runs (number) WHERE to_remove = 1;
    ",
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use trainyard_api::Time;
    use trainyard_sqlite::{Database, rusqlite::Connection};

    use super::*;
    use crate::{Archive, Sealer, Store, Which};

    /// What each version that landed wrote, as SQL text: of a run that ended, one that waits, a
    /// definition, a model and a token.
    const LANDED: [&str; 3] = [
        include_str!("../fixtures/1.sql"),
        include_str!("../fixtures/2.sql"),
        // And one whose owner deleted it, when the server was killed before it was removed.
        include_str!("../fixtures/3.sql"),
    ];

    fn schema(path: &Path) -> Vec<String> {
        let c = Connection::open(path).unwrap();
        let mut query =
            c.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name").unwrap();
        let rows = query.query_map([], |r| r.get(0)).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    #[tokio::test]
    async fn every_version_that_landed_is_read_and_becomes_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let fresh = dir.path().join("fresh.db");
        drop(Database::open(&fresh, MIGRATIONS).unwrap());
        for (n, dump) in LANDED.iter().enumerate() {
            let path = dir.path().join(format!("{n}.db"));
            Connection::open(&path).unwrap().execute_batch(dump).unwrap();
            let store = Store::open(&path, Sealer::new(&[7; 32])).unwrap();
            let ended = store.run(&"training-000000001".parse().unwrap()).unwrap();
            assert_eq!(ended.run.finished_at, Some(Time(5000)));
            let results = &ended.spec.new_run.training_results_reference;
            assert_eq!(results.connection.secret_access_key.expose(), "the results' secret");
            assert!(store.is_consistent(&ended.id).unwrap());
            assert_eq!(store.live().await.unwrap().0.len(), 1);
            let removed = store.runs_to_remove(0, 10).await.unwrap();
            assert_eq!(removed.len(), usize::from(n == 2), "the record of a deleted run is forgotten");
            let named = store.runs("someone", Which::Named("old".to_owned()), None, 10).await.unwrap();
            assert_eq!(named.len(), 2 + removed.len());
            let by_id = Which::IdBegins("training-00000000".to_owned());
            assert_eq!(store.runs("someone", by_id, None, 10).await.unwrap().len(), 2 + removed.len());
            assert_eq!(store.caller("ty_a-token").unwrap().unwrap().owner, "someone");
            let user = store.user("someone").unwrap().unwrap();
            assert_eq!((user.admin, user.password, user.generation), (true, None, 0));
            let definition = store.definitions("someone", None, 10).await.unwrap().remove(0);
            assert_eq!(definition.content.unwrap().size, 9);
            let model = store.models("someone", None, 10).await.unwrap().remove(0);
            assert_eq!(model.archive, Archive::Kept { size: 11 });
            assert_eq!(model.file, model.id, "the archive is not found where it was");
            drop(store);
            assert_eq!(schema(&path), schema(&fresh), "a migrated database differs from a fresh one");
        }
    }
}
