//! Tokens of signed-in users: JSON Web Tokens (RFC 7519), signed with HMAC-SHA256 (RFC 7518, 3.2).
//!
//! One algorithm and no choice of it: a header that is not exactly ours is refused. The payload is written
//! so that its base64 has neither `-` nor `_`, because clients of the original decode it with the plain
//! alphabet.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Deserialize, Serialize};
use trainyard_api::Time;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Name of the user.
    pub(crate) sub: String,
    /// Generation of the user that it is good in.
    pub(crate) generation: u64,
    /// The session; it stays the same when the token is renewed.
    pub(crate) sid: String,
    /// When it was made, in seconds since 1970.
    pub(crate) iat: i64,
    /// Until when it is good, in seconds since 1970.
    pub(crate) exp: i64,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("the token cannot be decoded")]
    Malformed,
    #[error("the token was not signed by this server")]
    Signature,
    #[error("the token has expired: sign in again")]
    Expired,
}

/// Signs and verifies.
pub(crate) struct Signer(hmac::Key);

/// What every token begins with.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;
/// Longer ones are not ours.
const MOST: usize = 4096;

impl Signer {
    /// With a key that is derived from the server's.
    pub(crate) fn new(key: &[u8]) -> Self {
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"tokens of users");
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    pub(crate) fn sign(&self, claims: &Claims) -> String {
        let payload = serde_json::to_string(claims).expect("strings and numbers can be written as JSON");
        let signed = format!("{}.{}", encode(HEADER), encode(&plain(&payload)));
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&self.0, signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    pub(crate) fn verify(&self, token: &str, now: Time) -> Result<Claims, Fault> {
        if token.len() > MOST {
            return Err(Fault::Malformed);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Fault::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Fault::Malformed)?;
        if header != encode(HEADER) {
            return Err(Fault::Malformed);
        }
        hmac::verify(&self.0, signed.as_bytes(), &signature).map_err(|_| Fault::Signature)?;
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| Fault::Malformed)?;
        let claims: Claims = serde_json::from_slice(&payload).map_err(|_| Fault::Malformed)?;
        if now.0 / 1000 < claims.exp { Ok(claims) } else { Err(Fault::Expired) }
    }
}

fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// The JSON text with every character escaped whose bits could make a `-` or a `_`: what is not ASCII,
/// and of ASCII those whose last six bits are ones, but for the last.
fn plain(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && !matches!(character, '>' | '?' | '~' | '\u{7f}') {
            text.push(character);
        } else {
            let mut units = [0; 2];
            text.extend(character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims(sub: &str) -> Claims {
        Claims { sub: sub.to_owned(), generation: 3, sid: "s1".to_owned(), iat: 1000, exp: 2000 }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_and_the_payload_is_plain_base64(name in any::<String>()) {
            let signer = Signer::new(b"key");
            let token = signer.sign(&claims(&name));
            let payload = token.split('.').nth(1).unwrap();
            prop_assert!(!payload.contains(['-', '_']), "{}", payload);
            prop_assert_eq!(signer.verify(&token, Time(1_500_000)).unwrap().sub, name);
        }

        #[test]
        fn no_changed_token_is_taken(at in 0usize..200, with in "[A-Za-z0-9_.-]") {
            let signer = Signer::new(b"key");
            let token = signer.sign(&claims("ada"));
            let at = at % token.len();
            let changed = format!("{}{with}{}", &token[..at], &token[at + 1..]);
            prop_assume!(changed != token);
            prop_assert!(signer.verify(&changed, Time(1_500_000)).is_err());
        }
    }

    #[test]
    fn each_fault_is_told_apart() {
        let signer = Signer::new(b"key");
        let token = signer.sign(&claims("ada"));
        let at = |ms| Time(ms);
        assert_eq!(signer.verify(&token, at(2_000_000)), Err(Fault::Expired));
        assert_eq!(Signer::new(b"other").verify(&token, at(0)), Err(Fault::Signature));
        for bad in ["", "a.b", "a.b.c", "....", &"x".repeat(10_000)] {
            assert_eq!(signer.verify(bad, at(0)), Err(Fault::Malformed), "{bad}");
        }
        let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), token.split('.').nth(1).unwrap());
        assert_eq!(signer.verify(&unsigned, at(0)), Err(Fault::Malformed));
    }
}
