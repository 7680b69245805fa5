//! Stand-ins for secret keys. Where the original returned the secret key of a bucket to its owner, who
//! hands it back to store a model or to run again, this server returns something that only it can turn back,
//! and only for the same user, endpoint and access key.
//!
//! For the embedded store the pair that is returned is a good one, which may read the buckets of its owner's
//! runs and nothing else: clients of the original fetch the log of a run that is over from the bucket
//! themselves. It is void with the owner's sign-ins.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use trainyard_api::{Code, Connection, DataReference, Problem, Secret};
use trainyard_s3::Keys;
use trainyard_store::{Caller, Sealer, Store};

use crate::S3Keys;

/// How every stand-in begins.
const PREFIX: &str = "tys_";
/// How access keys that may only read begin.
const READER: &str = "TYR";
/// Characters of an access key.
const ACCESS_KEY: usize = 20;

/// Makes stand-ins and turns them back.
pub(crate) struct StandIns {
    store: Store,
    sealer: Sealer,
    /// Signs the pairs that may read.
    key: hmac::Key,
    own: Option<(S3Keys, Keys)>,
}

impl StandIns {
    /// `key` is the server's; `own` are the keys of the embedded store, and where it looks for them.
    pub(crate) fn new(store: Store, sealer: Sealer, key: &[u8], own: Option<(S3Keys, Keys)>) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"pairs that may read");
        Self { store, sealer, key: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()), own }
    }

    /// The connection of a run's reference, as its owner may see it.
    pub(crate) fn give(&self, caller: &Caller, reference: &DataReference) -> Connection {
        let Caller { owner, generation, .. } = caller;
        let connection = &reference.connection;
        if let Some((keys, allowed)) = &self.own
            && is_pair(connection, &keys.access_key_id, &keys.secret_access_key)
        {
            let (access_key_id, secret_access_key) =
                self.reader(owner, *generation, &connection.endpoint_url);
            let (store, name, generation) = (self.store.clone(), owner.clone(), *generation);
            let holds = move || store.is_generation(&name, generation).unwrap_or(false);
            allowed.allow_reading(&access_key_id, secret_access_key.expose(), reference.bucket(), holds);
            return Connection { access_key_id, secret_access_key, ..connection.clone() };
        }
        let sealed =
            self.sealer.seal(&context(owner, connection), connection.secret_access_key.expose().as_bytes());
        let secret_access_key = Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(sealed)));
        Connection { secret_access_key, ..connection.clone() }
    }

    /// Turns a stand-in back; other secrets stay as they are.
    pub(crate) fn take(&self, caller: &Caller, connection: &mut Connection) -> Result<(), Problem> {
        let Caller { owner, generation, .. } = caller;
        let Some(sealed) = connection.secret_access_key.expose().strip_prefix(PREFIX) else { return Ok(()) };
        if let Some((keys, _)) = &self.own
            && let (reader, secret) = self.reader(owner, *generation, &connection.endpoint_url)
            && is_pair(connection, &reader, &secret)
        {
            connection.access_key_id.clone_from(&keys.access_key_id);
            connection.secret_access_key = keys.secret_access_key.clone();
            return Ok(());
        }
        let opened = URL_SAFE_NO_PAD.decode(sealed).ok();
        let opened = opened.and_then(|s| self.sealer.open(&context(owner, connection), &s).ok());
        let secret = opened.and_then(|o| String::from_utf8(o).ok()).ok_or_else(|| {
            Problem::new(
                Code::StoreCredentials,
                "the secret key is a stand-in that this server gave to another user, or with another endpoint \
                 or access key",
            )
            .hint("write the secret key of the bucket itself")
        })?;
        connection.secret_access_key = Secret::new(secret);
        Ok(())
    }

    /// The pair by which a user reads the embedded store.
    fn reader(&self, owner: &str, generation: u64, endpoint: &str) -> (String, Secret) {
        let tag = |what: &str| {
            let text = format!("{what}\n{owner}\n{generation}\n{endpoint}");
            hex::encode_upper(hmac::sign(&self.key, text.as_bytes()))
        };
        let id = format!("{READER}{}", &tag("id")[..ACCESS_KEY - READER.len()]);
        (id, Secret::new(format!("{PREFIX}{}", tag("secret"))))
    }
}

fn is_pair(connection: &Connection, id: &str, secret: &Secret) -> bool {
    connection.access_key_id == id && connection.secret_access_key == *secret
}

/// What a stand-in is bound to.
fn context(owner: &str, connection: &Connection) -> String {
    format!("stand-in\n{owner}\n{}\n{}", connection.endpoint_url, connection.access_key_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(secret: &str) -> DataReference {
        let connection = Connection {
            endpoint_url: "https://s3.example.net".to_owned(),
            access_key_id: "AK".to_owned(),
            secret_access_key: Secret::new(secret),
        };
        DataReference { connection, ..DataReference::default() }
    }

    async fn stand_ins(own: Option<(S3Keys, Keys)>, key: u8) -> (tempfile::TempDir, StandIns) {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::new(&[key; 32]);
        let store = Store::open(&dir.path().join("db"), sealer.clone()).unwrap();
        for name in ["ada", "bob"] {
            store.add_user(name, false, None).await.unwrap();
        }
        (dir, StandIns::new(store, sealer, b"key", own))
    }

    fn caller(by: &StandIns, name: &str) -> Caller {
        let user = by.store.user(name).unwrap().unwrap();
        Caller { owner: user.name, admin: user.admin, generation: user.generation }
    }

    fn given(by: &StandIns, name: &str, reference: &DataReference) -> Connection {
        by.give(&caller(by, name), reference)
    }

    fn taken(by: &StandIns, name: &str, given: &Connection) -> Result<Connection, Problem> {
        let mut back = given.clone();
        by.take(&caller(by, name), &mut back).map(|()| back)
    }

    #[tokio::test]
    async fn a_stand_in_is_turned_back_for_its_owner_and_its_connection_alone() {
        let (_dir, all) = stand_ins(None, 1).await;
        let real = reference("s3cret");
        let given = self::given(&all, "ada", &real);
        assert!(!given.secret_access_key.expose().contains("s3cret"));
        assert_eq!(taken(&all, "ada", &given), Ok(real.connection));
        assert!(taken(&all, "bob", &given).is_err(), "somebody else's");
        let (_dir, other) = stand_ins(None, 2).await;
        assert!(taken(&other, "ada", &given).is_err(), "another server");
        let elsewhere = Connection { endpoint_url: "https://evil.example.net".to_owned(), ..given };
        assert!(taken(&all, "ada", &elsewhere).is_err(), "another endpoint would see the secret");
        let plain = reference("plain").connection;
        assert_eq!(taken(&all, "ada", &plain), Ok(plain.clone()));
    }

    #[tokio::test]
    async fn the_embedded_stores_pair_becomes_one_that_reads() {
        let own = reference("own");
        let secret_access_key = own.connection.secret_access_key.clone();
        let keys = S3Keys { access_key_id: "AK".to_owned(), secret_access_key };
        let (_dir, all) = stand_ins(Some((keys, Keys::default())), 1).await;
        let given = self::given(&all, "ada", &own);
        assert!(given.access_key_id.starts_with(READER) && given.access_key_id.len() == ACCESS_KEY);
        assert_eq!(given, self::given(&all, "ada", &own), "it is another each time");
        assert_ne!(given.access_key_id, self::given(&all, "bob", &own).access_key_id);
        assert_eq!(taken(&all, "ada", &given), Ok(own.connection.clone()));
        assert!(taken(&all, "bob", &given).is_err());
        let elsewhere = Connection { endpoint_url: "http://evil.example.net".to_owned(), ..given.clone() };
        assert!(taken(&all, "ada", &elsewhere).is_err(), "another endpoint would get what the keys sign");
        all.store.revoke_user("ada").await.unwrap();
        assert!(taken(&all, "ada", &given).is_err(), "it outlives the owner's sign-ins");
        assert_ne!(given, self::given(&all, "ada", &own));
    }
}
