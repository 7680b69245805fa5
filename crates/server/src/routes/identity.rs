//! Tokens: bought with a name and a password, renewed, given back.

use std::net::SocketAddr;

use axum::{
    Json,
    extract::{ConnectInfo, Request, State},
    http::{StatusCode, request::Parts},
};
use trainyard_api::Token;

use super::documented::{Bounded, Conflicts, Refused};
use crate::{
    auth::{no_token, token},
    extract::{parse, tiny},
    problem::Answer,
    state::App,
};

/// Bytes of a body that renews a token, at most.
const MOST_BODY: usize = 8 * 1024;

/// Sign in: a token for a name and a password.
///
/// A token for scripts will do in place of the password; it says itself whose it is. After a few wrong
/// passwords each try has to wait.
#[utoipa::path(
    get, path = "/v3/identity/token", tag = "identity", security(("password" = [])),
    responses(
        (status = 200, description = "A token", body = Token),
        (status = 429, description = "Too many wrong passwords", body = trainyard_api::ErrorBody),
        Refused,
    ),
)]
pub(crate) async fn sign_in(
    State(app): State<App>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    parts: Parts,
) -> Answer<Json<Token>> {
    let address = app.config.client_address(&parts.headers, peer.ip());
    let token = app.gate.sign_in(&parts, address).await?;
    Ok(Json(Token { token }))
}

/// The same, where the repository part of the original's client looks for it.
#[utoipa::path(
    get, path = "/v2/identity/token", tag = "identity", security(("password" = [])),
    responses(
        (status = 200, description = "A token", body = Token),
        (status = 429, description = "Too many wrong passwords", body = trainyard_api::ErrorBody),
        Refused,
    ),
)]
pub(crate) async fn sign_in_v2(
    app: State<App>,
    peer: ConnectInfo<SocketAddr>,
    parts: Parts,
) -> Answer<Json<Token>> {
    sign_in(app, peer, parts).await
}

/// Renew a token that is still good. The token stands in the body, and nothing in the header.
#[utoipa::path(
    put, path = "/v3/identity/token", tag = "identity", request_body = Token, security(()),
    responses((status = 200, description = "A fresh token", body = Token), Refused, Bounded),
)]
pub(crate) async fn renew(State(app): State<App>, request: Request) -> Answer<Json<Token>> {
    let body = tiny(request, MOST_BODY).await?;
    if body.trim_ascii().is_empty() {
        return Err(no_token().into());
    }
    let old: Token = parse(&body)?;
    let token = app.gate.renew(old.token.expose())?;
    Ok(Json(Token { token }))
}

/// Sign out. Trainyard's own: the token, and whatever it was renewed to, is worth nothing from now on.
#[utoipa::path(
    delete, path = "/v3/identity/token", tag = "identity",
    responses((status = 204, description = "Signed out"), Refused, Conflicts),
)]
pub(crate) async fn sign_out(State(app): State<App>, parts: Parts) -> Answer<StatusCode> {
    app.gate.sign_out(&token(&parts).ok_or_else(no_token)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
