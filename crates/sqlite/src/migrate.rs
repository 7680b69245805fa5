//! Numbered, forward-only schema changes with checksums.

use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::Error;

/// One schema change. Its number is its place in the list, from 1; what landed is never edited.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// What it does, in a few words.
    pub name: &'static str,
    /// The statements.
    pub sql: &'static str,
}

/// Applies what is missing, each in a transaction of its own.
pub(crate) fn run(connection: &mut Connection, migrations: &[Migration]) -> Result<(), Error> {
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS migrations (
             number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL) STRICT",
    )?;
    let found: u32 =
        connection.query_row("SELECT coalesce(max(number), 0) FROM migrations", [], |r| r.get(0))?;
    let known = u32::try_from(migrations.len()).expect("fewer than four billion migrations");
    if found > known {
        return Err(Error::Newer { found, known });
    }
    for (number, migration) in (1u32..).zip(migrations) {
        let checksum = hex::encode(Sha256::digest(migration.sql));
        let applied: Option<String> = connection
            .query_row("SELECT checksum FROM migrations WHERE number = ?1", [number], |r| r.get(0))
            .optional()?;
        match applied {
            Some(applied) if applied == checksum => {}
            Some(_) => return Err(Error::Changed { number }),
            None => {
                let transaction = connection.transaction()?;
                transaction.execute_batch(migration.sql)?;
                transaction.execute(
                    "INSERT INTO migrations VALUES (?1, ?2, ?3)",
                    params![number, migration.name, checksum],
                )?;
                transaction.commit()?;
            }
        }
    }
    Ok(())
}

/// Refuses a database that misses some, or has more.
pub(crate) fn check(connection: &Connection, migrations: &[Migration]) -> Result<(), Error> {
    let found: u32 =
        connection.query_row("SELECT coalesce(max(number), 0) FROM migrations", [], |r| r.get(0))?;
    let known = u32::try_from(migrations.len()).expect("fewer than four billion migrations");
    match found {
        n if n == known => Ok(()),
        n if n > known => Err(Error::Newer { found, known }),
        _ => Err(Error::Older { found, known }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Migration = Migration { name: "one", sql: "CREATE TABLE a (x INTEGER) STRICT" };
    const TWO: Migration = Migration { name: "two", sql: "ALTER TABLE a ADD COLUMN y TEXT" };

    #[test]
    fn goes_forward_once_and_refuses_newer_and_changed() {
        let mut c = Connection::open_in_memory().unwrap();
        run(&mut c, &[ONE]).unwrap();
        run(&mut c, &[ONE, TWO]).unwrap();
        run(&mut c, &[ONE, TWO]).unwrap();
        c.execute("INSERT INTO a VALUES (1, 'x')", []).unwrap();
        assert!(matches!(run(&mut c, &[ONE]), Err(Error::Newer { found: 2, known: 1 })));
        check(&c, &[ONE, TWO]).unwrap();
        assert!(matches!(check(&c, &[ONE]), Err(Error::Newer { .. })));
        assert!(matches!(check(&c, &[ONE, TWO, ONE]), Err(Error::Older { found: 2, known: 3 })));
        let edited = Migration { sql: "CREATE TABLE a (x TEXT) STRICT", ..ONE };
        assert!(matches!(run(&mut c, &[edited, TWO]), Err(Error::Changed { number: 1 })));
    }
}
