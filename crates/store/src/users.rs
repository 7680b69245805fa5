//! Users: names, and hashes of their passwords. What signs a user in is worth something as long as the
//! user's generation is the one that it was made in.

use trainyard_api::Time;
use trainyard_sqlite::rusqlite::{OptionalExtension, Row, params};

use crate::{Caller, Error, Store};

/// A user as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// May do what administrators may.
    pub admin: bool,
    /// Hash of the password as a PHC string; absent: the user has tokens only.
    pub password: Option<String>,
    /// Changes with what makes earlier sign-ins void: a new password, a revocation, another user of that
    /// name.
    pub generation: u64,
    /// When it was made.
    pub created_at: Time,
}

const SELECT: &str = "SELECT name, admin, password, generation, created_at FROM users";

fn user(row: &Row<'_>) -> Result<User, trainyard_sqlite::rusqlite::Error> {
    Ok(User {
        name: row.get(0)?,
        admin: row.get(1)?,
        password: row.get(2)?,
        generation: row.get(3)?,
        created_at: Time(row.get(4)?),
    })
}

impl Store {
    /// Keeps a new user; [`Error::Exists`] where there is one of that name.
    pub async fn add_user(&self, name: &str, admin: bool, password: Option<String>) -> Result<(), Error> {
        let name = name.to_owned();
        self.db
            .write(move |c| {
                c.execute(
                    // Not zero: what an earlier user of that name was given must not be good again.
                    "INSERT INTO users VALUES (?1, ?2, ?3, ?4, ?4)",
                    params![name, admin, password, Time::now().0],
                )?;
                Ok(())
            })
            .await
    }

    /// One user.
    pub fn user(&self, name: &str) -> Result<Option<User>, Error> {
        self.db.read(|c| {
            let mut query = c.prepare_cached(&format!("{SELECT} WHERE name = ?1"))?;
            Ok(query.query_row([name], user).optional()?)
        })
    }

    /// All users, by name.
    pub fn users(&self) -> Result<Vec<User>, Error> {
        self.db.read(|c| {
            let mut query = c.prepare(&format!("{SELECT} ORDER BY name"))?;
            let rows = query.query_map([], user)?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Gives a user another password. Who signed in with the old one has to do so again.
    pub async fn set_password(&self, name: &str, password: String) -> Result<(), Error> {
        let name = name.to_owned();
        self.db
            .write(move |c| {
                let sql = "UPDATE users SET password = ?2, generation = generation + 1 WHERE name = ?1";
                found(c.execute(sql, params![name, password])?)
            })
            .await
    }

    /// Makes everything void that signs a user in, but for the password.
    pub async fn revoke_user(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.db
            .write(move |c| {
                c.execute("DELETE FROM tokens WHERE owner = ?1", [&name])?;
                found(c.execute("UPDATE users SET generation = generation + 1 WHERE name = ?1", [&name])?)
            })
            .await
    }

    /// Removes a user and its tokens. Its runs, definitions and models stay.
    pub async fn remove_user(&self, name: &str) -> Result<(), Error> {
        let name = name.to_owned();
        self.db
            .write(move |c| {
                c.execute("DELETE FROM tokens WHERE owner = ?1", [&name])?;
                found(c.execute("DELETE FROM users WHERE name = ?1", [&name])?)
            })
            .await
    }

    /// Whether what signed a user in, in this generation, is still worth something.
    pub fn is_generation(&self, name: &str, generation: u64) -> Result<bool, Error> {
        self.db.read(|c| {
            let mut query = c.prepare_cached("SELECT 1 FROM users WHERE name = ?1 AND generation = ?2")?;
            Ok(query.exists(params![name, generation])?)
        })
    }

    /// Who is signed in by a session of this generation, which has not been ended.
    pub fn session(&self, name: &str, generation: u64, session: &str) -> Result<Option<Caller>, Error> {
        self.db.read(|c| {
            let mut query = c.prepare_cached(
                "SELECT admin FROM users WHERE name = ?1 AND generation = ?2
                   AND NOT EXISTS (SELECT 1 FROM ended_sessions WHERE id = ?3)",
            )?;
            let caller = |r: &Row<'_>| Ok(Caller { owner: name.to_owned(), admin: r.get(0)?, generation });
            Ok(query.query_row(params![name, generation, session], caller).optional()?)
        })
    }

    /// Ends a session. It is remembered until `until`, when no token of it is good any more.
    pub async fn end_session(&self, session: &str, until: Time) -> Result<(), Error> {
        let session = session.to_owned();
        self.db
            .write(move |c| {
                c.execute("DELETE FROM ended_sessions WHERE until < ?1", [Time::now().0])?;
                c.execute(
                    "INSERT OR REPLACE INTO ended_sessions VALUES (?1, ?2)",
                    params![session, until.0],
                )?;
                Ok(())
            })
            .await
    }
}

fn found(rows: usize) -> Result<(), Error> {
    if rows == 1 { Ok(()) } else { Err(Error::NotFound) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sealer;

    #[tokio::test]
    async fn a_session_ends_with_its_generation_its_user_or_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("db"), Sealer::new(&[7; 32])).unwrap();
        store.add_user("ada", false, Some("hash".to_owned())).await.unwrap();
        assert!(matches!(store.add_user("ada", true, None).await, Err(Error::Exists)));
        let first = store.user("ada").unwrap().unwrap().generation;
        let holds = |n: u64| store.session("ada", first + n, "s").unwrap().is_some();
        assert!(holds(0) && !holds(1));
        assert!(store.is_generation("ada", first).unwrap() && !store.is_generation("bob", first).unwrap());
        store.set_password("ada", "other".to_owned()).await.unwrap();
        assert!(!store.is_generation("ada", first).unwrap());
        assert!(!holds(0) && holds(1));
        store.revoke_user("ada").await.unwrap();
        assert!(!holds(1) && holds(2));
        store.end_session("s", Time(Time::now().0 + 1000)).await.unwrap();
        assert!(!holds(2));
        assert!(store.session("ada", first + 2, "another").unwrap().is_some());
        store.remove_user("ada").await.unwrap();
        assert!(store.session("ada", first + 2, "another").unwrap().is_none());
        assert!(matches!(store.remove_user("ada").await, Err(Error::NotFound)));
        // A user who gets the name later is somebody else.
        let clock = Time::now();
        while Time::now() == clock {}
        store.add_user("ada", false, None).await.unwrap();
        assert!(!(0..3).any(holds));
    }
}
