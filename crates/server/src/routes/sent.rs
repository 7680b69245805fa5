//! For jobs whose nodes share no folder with the server: this program, which anybody may have, and what trials
//! found, which is told and shown to whoever proves that he is the server's user.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body as HttpBody,
    extract::{FromRequestParts, State},
    http::{StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::BytesMut;
use tokio::{io::AsyncReadExt, sync::mpsc};
use trainyard_api::{Code, Finding, runner::trial_text};

use crate::{
    auth::token,
    extract::{Body, Path},
    members::Members,
    problem::{Answer, Refusal},
    state::App,
};

/// Bytes that are read at once, and the time in which a program has to be with whoever asked for it.
const PIECE: usize = 256 * 1024;
const DEADLINE: Duration = Duration::from_mins(10);

/// A trial, of whoever has proved that he is this server's user.
pub(crate) struct Trial(String);

impl FromRequestParts<App> for Trial {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Refusal> {
        let members = members(app)?;
        let unknown = || Refusal::new(Code::Unauthenticated, "no such trial, or not its user");
        let Path(name) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| unknown())?;
        let shown = token(parts).ok_or_else(unknown)?;
        let own = nix::unistd::geteuid().as_raw();
        let proved = members.proves(&shown, own, &trial_text(&members.id, &name)).await?;
        if proved { Ok(Self(name)) } else { Err(unknown()) }
    }
}

fn members(app: &App) -> Answer<&Members> {
    let cluster = app.conductor.engines().slurm.as_ref();
    let none = || Refusal::new(Code::NotFound, "nodes of this server's cluster share a folder with it");
    cluster.and_then(|c| c.members.as_ref()).ok_or_else(none)
}

/// A build of this program, which is no secret.
pub(crate) async fn program(State(app): State<App>, Path(name): Path<String>) -> Answer<Response> {
    let hash = name.strip_prefix("trainyard-").unwrap_or_default();
    if hash.len() != 16 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Refusal::new(Code::NotFound, "there is no such program"));
    }
    let members = members(&app)?;
    let Ok(place) = Arc::clone(&members.handing).try_acquire_owned() else {
        return Err(Refusal::new(Code::Busy, "many nodes fetch this program now"));
    };
    let file = tokio::fs::File::open(members.sent.programs.join(name)).await;
    let mut file = file.map_err(|_| Refusal::new(Code::NotFound, "there is no such program"))?;
    let size = file.metadata().await.map_err(Refusal::internal)?.len();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        // Who stops reading gives its place back all the same.
        let _place = place;
        let all = async {
            loop {
                let mut piece = BytesMut::with_capacity(PIECE);
                let read = file.read_buf(&mut piece).await;
                let last = !matches!(read, Ok(n) if n > 0);
                if matches!(read, Ok(0)) || sender.send(read.map(|_| piece.freeze())).await.is_err() || last {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(DEADLINE, all).await;
    });
    let pieces =
        futures::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
    ];
    Ok((headers, HttpBody::from_stream(pieces)).into_response())
}

/// Takes what a trial found.
pub(crate) async fn tell_trial(
    State(app): State<App>,
    Trial(name): Trial,
    Body(found): Body<Vec<Finding>>,
) -> Answer<StatusCode> {
    members(&app)?.keep(name, found);
    Ok(StatusCode::NO_CONTENT)
}

/// What a trial found.
pub(crate) async fn show_trial(State(app): State<App>, Trial(name): Trial) -> Answer<Json<Vec<Finding>>> {
    let found = members(&app)?.take(&name);
    found.map(Json).ok_or_else(|| Refusal::new(Code::NotFound, "it has not told yet"))
}
