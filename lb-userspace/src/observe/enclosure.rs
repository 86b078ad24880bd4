//! A file that a client sends along with its question: read to its end, within limits, and understood here, so that
//! the loop gets a model and waits for nothing.
//!
//! It comes as octets and not as a path: whoever may ask need not be able to have root read any file.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::{Semaphore, mpsc},
    task, time,
};

use super::{
    BAD_CONFIG, Response,
    desk::{ask, failed},
};
use crate::{
    config::{self, MAX_FILE},
    control::{Event, Question},
};

/// How long a client may take to send a file.
const PATIENCE: Duration = Duration::from_secs(10);
/// Files that are read at one time, of [`MAX_FILE`] octets each; others wait.
static ROOM: Semaphore = Semaphore::const_new(2);

/// What the file that follows would change; or, where it is not read, why not.
pub(super) async fn compare(
    read: &mut (impl AsyncRead + Unpin),
    file: String,
    octets: usize,
    events: &mpsc::Sender<Event>,
) -> io::Result<Result<Response, Response>> {
    if octets > MAX_FILE {
        return Ok(Err(failed(format!("{file}: {octets} octets (at most {MAX_FILE})"))));
    }
    let Ok(_place) = ROOM.acquire().await else { return Ok(Err(failed("the controller is stopping".to_owned()))) };
    let mut text = vec![0; octets];
    time::timeout(PATIENCE, read.read_exact(&mut text)).await??;
    let parsed = task::spawn_blocking(move || config::parse_octets(&text, &file)).await?;
    Ok(Ok(match parsed {
        Ok((model, _)) => ask(Question::Diff(Box::new(model)), events).await,
        Err(faults) => Response::Error { error: faults.to_string(), code: BAD_CONFIG },
    }))
}
