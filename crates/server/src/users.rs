//! Users of a data folder, made and changed by whoever can write to it. A server that runs notices at once.

use std::path::Path;

use trainyard_api::{Secret, Time, random_token};
use trainyard_store::{Error, Sealer, Store, User};

use crate::{
    DataFolder,
    auth::{MOST_PASSWORD, hash_password},
};

/// Longest name, in characters.
const MOST_NAME: usize = 128;

/// Why users cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// The data folder cannot be used.
    #[error("the data folder {path}: {source}")]
    Folder {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The name cannot be one.
    #[error("`{0}` is no name for a user: write letters, digits and any of . _ - @, 128 at most")]
    Name(String),
    /// The password cannot be one.
    #[error("a password has 8 to {MOST_PASSWORD} bytes")]
    Password,
    /// There is such a user.
    #[error("there is a user `{0}` already")]
    Exists(String),
    /// There is no such user.
    #[error("there is no user `{0}`")]
    Unknown(String),
    /// The first user is made at every start.
    #[error("`{0}` is made again at every start of the server: `users revoke {0}` makes its tokens void")]
    First(String),
    /// The database cannot be used.
    #[error(transparent)]
    Store(Error),
}

/// The users of a data folder.
pub struct Users {
    store: Store,
    admin_token: std::path::PathBuf,
}

impl Users {
    /// Of the data folder at `data`, in which a server of this release has been started before.
    pub fn open(data: &Path) -> Result<Self, UsersError> {
        let failed = |source| UsersError::Folder { path: data.display().to_string(), source };
        let key = DataFolder::read_key(data).map_err(failed)?;
        let store = Store::open_as_it_is(&data.join("trainyard.db"), Sealer::new(&key));
        let store = store.map_err(UsersError::Store)?;
        Ok(Self { store, admin_token: DataFolder::admin_token_path(data) })
    }

    /// Makes a user with a password.
    pub async fn add(&self, name: &str, password: &Secret, admin: bool) -> Result<(), UsersError> {
        check_name(name)?;
        let hash = hash(password)?;
        self.store.add_user(name, admin, Some(hash)).await.map_err(|e| named(e, name))
    }

    /// Gives a user another password; who is signed in with the old one is signed out.
    pub async fn set_password(&self, name: &str, password: &Secret) -> Result<(), UsersError> {
        let hash = hash(password)?;
        self.store.set_password(name, hash).await.map_err(|e| named(e, name))
    }

    /// Makes a token for scripts, good until it is revoked. A user that is not there is made, without a
    /// password.
    pub async fn token(&self, name: &str) -> Result<Secret, UsersError> {
        check_name(name)?;
        let user = self.store.user(name).map_err(UsersError::Store)?;
        if user.is_none() {
            self.store.add_user(name, false, None).await.map_err(|e| named(e, name))?;
        }
        let admin = user.is_some_and(|u| u.admin);
        let token = random_token("ty_");
        self.store.add_token(&token, name, admin, Time::now()).await.map_err(UsersError::Store)?;
        Ok(Secret::new(token))
    }

    /// Makes all tokens of a user void; the password stays.
    pub async fn revoke(&self, name: &str) -> Result<(), UsersError> {
        self.store.revoke_user(name).await.map_err(|e| named(e, name))?;
        if name == crate::serve::ADMIN {
            // The next start makes another.
            match std::fs::remove_file(&self.admin_token) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(UsersError::Folder {
                        path: self.admin_token.display().to_string(),
                        source: e,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes a user. What it owns stays, and is a new user's of that name.
    pub async fn remove(&self, name: &str) -> Result<(), UsersError> {
        if name == crate::serve::ADMIN {
            return Err(UsersError::First(name.to_owned()));
        }
        self.store.remove_user(name).await.map_err(|e| named(e, name))
    }

    /// All users, by name.
    pub fn list(&self) -> Result<Vec<User>, UsersError> {
        self.store.users().map_err(UsersError::Store)
    }
}

/// Whether a user can be called this.
pub(crate) fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_alphanumeric() || "._-@".contains(c);
    !name.is_empty() && name.chars().take(MOST_NAME + 1).count() <= MOST_NAME && name.chars().all(legal)
}

fn check_name(name: &str) -> Result<(), UsersError> {
    if is_name(name) { Ok(()) } else { Err(UsersError::Name(name.to_owned())) }
}

fn hash(password: &Secret) -> Result<String, UsersError> {
    let password = password.expose();
    if (8..=MOST_PASSWORD).contains(&password.len()) {
        Ok(hash_password(password))
    } else {
        Err(UsersError::Password)
    }
}

fn named(error: Error, name: &str) -> UsersError {
    match error {
        Error::Exists => UsersError::Exists(name.to_owned()),
        Error::NotFound => UsersError::Unknown(name.to_owned()),
        other => UsersError::Store(other),
    }
}
