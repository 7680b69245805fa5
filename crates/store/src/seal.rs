//! Secrets at rest: ChaCha20-Poly1305 (RFC 8439) with a random nonce before the ciphertext.

use std::sync::Arc;

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand::{SecureRandom, SystemRandom},
};

use crate::Error;

/// Seals and opens. Clones share the key.
#[derive(Clone)]
pub struct Sealer(Arc<LessSafeKey>);

impl Sealer {
    /// Bytes of a key.
    pub const KEY_SIZE: usize = 32;

    /// With this key.
    pub fn new(key: &[u8; Self::KEY_SIZE]) -> Self {
        let key =
            UnboundKey::new(&CHACHA20_POLY1305, key).expect("the key has the size that the cipher takes");
        Self(Arc::new(LessSafeKey::new(key)))
    }

    /// A new random key.
    pub fn random_key() -> [u8; Self::KEY_SIZE] {
        let mut key = [0; Self::KEY_SIZE];
        SystemRandom::new().fill(&mut key).expect("the system's random numbers are always there on Linux");
        key
    }

    /// Seals `plain`; it can be opened only as a part of `context`.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).expect("the system's random numbers are always there on Linux");
        let mut body = plain.to_vec();
        let aad = Aad::from(context.as_bytes());
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut body)
            .expect("a few hundred bytes can always be sealed");
        [nonce.as_slice(), &body].concat()
    }

    /// Opens what [`Sealer::seal`] made.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(Error::Sealed)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Sealed)?;
        let mut body = body.to_vec();
        let plain = self.0.open_in_place(nonce, Aad::from(context.as_bytes()), &mut body);
        plain.map(|p| p.to_vec()).map_err(|_| Error::Sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_only_with_its_key_and_its_context() {
        let (one, two) = (Sealer::new(&[1; 32]), Sealer::new(&[2; 32]));
        let sealed = one.seal("run-a", b"secret");
        assert!(!sealed.windows(6).any(|w| w == b"secret"));
        assert_eq!(one.open("run-a", &sealed).unwrap(), b"secret");
        assert!(one.open("run-b", &sealed).is_err());
        assert!(two.open("run-a", &sealed).is_err());
    }
}
