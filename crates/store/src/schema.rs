//! The schema, as numbered migrations. What landed is never edited; a change is a new one.

use trainyard_sqlite::Migration;

pub(crate) const MIGRATIONS: &[Migration] = &[Migration {
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
}];
