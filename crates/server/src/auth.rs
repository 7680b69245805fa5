//! Who calls: a token, in the header that clients of the original send.

use axum::{
    extract::FromRequestParts,
    http::{header::AUTHORIZATION, request::Parts},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use trainyard_api::Code;
use trainyard_store::Caller;

use crate::{problem::Refusal, state::App};

/// The caller of a request, who has shown a token.
pub(crate) struct User(pub(crate) Caller);

/// The token of an `Authorization` header: `Bearer TOKEN`, in any case, or `Basic` with the token
/// as the password, which is how the original's command line signs in.
pub(crate) fn token(parts: &Parts) -> Option<String> {
    let value = parts.headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned()).filter(|t| !t.is_empty());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        return decoded.split_once(':').map(|(_, password)| password.to_owned()).filter(|p| !p.is_empty());
    }
    None
}

impl FromRequestParts<App> for User {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let token = token(parts).ok_or_else(|| {
            Refusal::new(Code::Unauthenticated, "this needs a token, in `Authorization: Bearer TOKEN`")
        })?;
        match app.store.caller(&token)? {
            Some(caller) => Ok(Self(caller)),
            None => Err(Refusal::new(Code::Unauthenticated, "the token is not known")),
        }
    }
}
