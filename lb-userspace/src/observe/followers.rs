//! Those who follow the state changes over the admin socket, each until it goes or is too slow.
//!
//! A follower costs a task and what its socket's buffer holds. The loop never waits for one: what it cannot take in
//! time it misses, and one that takes nothing at all is left.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{Semaphore, broadcast::error::RecvError},
    time,
};

use super::{Response, desk::failed, documents::Happening};
use crate::{control::Following, time::Now, time::rfc3339};

/// Followers at one time: fewer than clients, so that others find room.
pub(super) const FOLLOWERS: usize = 16;
/// How long a follower may take to take one state change.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells what happens from now on, until either side goes.
pub(super) async fn tell(
    mut following: Following,
    room: &Arc<Semaphore>,
    mut read: impl AsyncRead + Unpin,
    mut write: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let Ok(_place) = Arc::clone(room).try_acquire_owned() else {
        let refusal =
            failed(format!("{FOLLOWERS} follow the events already; end one of them, or ask without --follow"));
        return send(&mut write, &refusal).await;
    };
    for happening in following.past {
        send(&mut write, &said(&happening)?).await?;
    }
    let mut word = [0];
    loop {
        let happening = tokio::select! {
            // It has nothing to say any more: this is its end.
            _ = read.read(&mut word) => return Ok(()),
            next = following.next.recv() => match next {
                Ok(happening) => said(&happening)?,
                Err(RecvError::Lagged(missed)) => said(&gap(missed))?,
                Err(RecvError::Closed) => return Ok(()),
            },
        };
        send(&mut write, &happening).await?;
    }
}

fn said(happening: &Happening) -> io::Result<Response> {
    Ok(Response::Ok { ok: serde_json::to_value(happening)? })
}

/// In the place of state changes that came faster than they were taken.
fn gap(missed: u64) -> Happening {
    Happening {
        time: rfc3339(Now::read().wall),
        kind: "missed".to_owned(),
        service: None,
        backend: None,
        from: None,
        to: None,
        reason: format!("{missed} state changes came faster than you took them"),
    }
}

async fn send(write: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let mut text = serde_json::to_vec(response)?;
    text.push(b'\n');
    time::timeout(PATIENCE, write.write_all(&text)).await?
}
