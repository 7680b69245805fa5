//! Users of this machine and of the cluster, as whom jobs may run: the one that a run's owner is called after, unless
//! it is root.

use nix::unistd::User;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its number, and its group's.
    pub uid: u32,
    /// The same of its group.
    pub gid: u32,
    /// Its home.
    pub home: String,
}

/// The user of this name; otherwise why there is none, in words. Asks the machine's name services, which may take a
/// while.
pub fn account(name: &str) -> Result<Account, String> {
    match User::from_name(name) {
        Ok(Some(user)) if user.uid.is_root() => {
            Err("jobs run as the owners of their runs here, and not as root".to_owned())
        }
        Ok(Some(user)) => Ok(Account {
            name: user.name,
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            home: user.dir.display().to_string(),
        }),
        Ok(None) => Err(format!(
            "jobs run as the owners of their runs here, and this machine has no user `{name}`: sign in as one that it has"
        )),
        Err(error) => Err(format!("whether this machine has a user `{name}` cannot be told: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_the_machine_are_found_and_root_is_none() {
        assert_eq!(account("nobody").map(|a| a.name), Ok("nobody".to_owned()));
        assert!(account("root").unwrap_err().contains("not as root"));
        assert!(account("no such user").unwrap_err().contains("has no user `no such user`"));
    }
}
