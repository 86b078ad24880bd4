//! The admin API's server: a unix socket for root and its group, one task a client.
//!
//! A client has limits in everything: how long a line may be, how long it may take to send it and to
//! take the answer, and how many there are at one time. Nothing is decided here: requests become events.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixStream as StdUnixStream,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use serde_json::to_value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    time,
};

use super::{
    ELSEWHERE, Request, Response,
    desk::{ask, failed, follow, heard},
    documents::Happenings,
    enclosure::compare,
    followers::{FOLLOWERS, tell},
};
use crate::control::{Event, FlowsAsked, Following, Question};

/// Octets of a request.
const LONGEST: u64 = 64 << 10;
/// How long a client may take to send a line, or to take one.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients at one time; others wait.
const CLIENTS: usize = 64;

/// A bound socket. Dropped, its file is gone.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    _file: File,
}

/// The file of a socket, which is removed with us.
#[derive(Debug)]
struct File(PathBuf);

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Refuses a socket that someone answers on, and names them.
pub fn refuse_live(path: &Path) -> Result<()> {
    let Ok(stream) = StdUnixStream::connect(path) else { return Ok(()) };
    let process = getsockopt(&stream, PeerCredentials).map(|peer| format!(" (process {})", peer.pid()));
    let process = process.unwrap_or_default();
    bail!(
        "another tidegate{process} answers on {}; stop it, or give this one its own --socket and --pin-dir",
        path.display()
    )
}

impl Socket {
    /// Binds the socket at `path`, in the place of one that nobody answers on. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self> {
        refuse_live(path)?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        if fs::symlink_metadata(path).is_ok_and(|there| !there.file_type().is_socket()) {
            bail!("{} is there and is no socket; remove it, or choose another --socket", path.display());
        }
        // Bound under another name until only root and its group may connect.
        let name = path.file_name().with_context(|| format!("{} is no path of a socket", path.display()))?;
        let early = File(parent.join(format!(".{}.{}", name.to_string_lossy(), std::process::id())));
        let _ = fs::remove_file(&early.0);
        let listener =
            UnixListener::bind(&early.0).with_context(|| format!("cannot make a socket in {}", parent.display()))?;
        fs::set_permissions(&early.0, fs::Permissions::from_mode(0o660)).context("cannot set the socket's mode")?;
        fs::rename(&early.0, path).with_context(|| format!("cannot make the socket {}", path.display()))?;
        Ok(Self { listener, _file: File(path.to_owned()) })
    }

    /// Answers clients until the loop is gone. `done` is held as long as anyone is being answered.
    pub async fn serve(self, pin_dir: PathBuf, events: mpsc::Sender<Event>, done: mpsc::Sender<()>) {
        let (room, followers) = (Arc::new(Semaphore::new(CLIENTS)), Arc::new(Semaphore::new(FOLLOWERS)));
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
            let stream = tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        log::warn!("cannot take a client of the admin socket: {error}");
                        time::sleep(Duration::from_millis(100)).await;
                        continue;
                    }
                },
                () = events.closed() => return,
            };
            let (events, pin_dir, followers, done) = (events.clone(), pin_dir.clone(), followers.clone(), done.clone());
            tokio::spawn(async move {
                if let Err(error) = converse(stream, &pin_dir, &followers, &events).await {
                    log::debug!("a client of the admin socket went away: {error}");
                }
                drop((place, done));
            });
        }
    }
}

/// One client, from its first request to its last.
async fn converse(
    stream: UnixStream,
    pin_dir: &Path,
    followers: &Arc<Semaphore>,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let mut limited = (&mut read).take(LONGEST);
        if time::timeout(PATIENCE, limited.read_until(b'\n', &mut line)).await?? == 0 {
            return Ok(());
        }
        let is_whole = line.ends_with(b"\n");
        let response = match serde_json::from_slice(&line) {
            Ok(Request::Events { limit, follow: true }) => match follow(limit, events).await {
                Ok(following) => return tell(following, followers, read, write).await,
                Err(response) => response,
            },
            Ok(Request::Diff { file, octets }) => match compare(&mut read, file, octets, events).await? {
                Ok(response) => response,
                // The rest of what it says is no request.
                Err(refusal) => return say(&mut write, &refusal).await,
            },
            Ok(request) => answer(request, pin_dir, events).await,
            Err(_) if !is_whole => failed("a request is one line of JSON, of 64 KiB at most".to_owned()),
            Err(error) => failed(format!("not a request: {error}")),
        };
        say(&mut write, &response).await?;
        if !is_whole {
            return Ok(());
        }
    }
}

async fn say(write: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let mut text = serde_json::to_vec(response)?;
    text.push(b'\n');
    time::timeout(PATIENCE, write.write_all(&text)).await?
}

async fn answer(request: Request, pin_dir: &Path, events: &mpsc::Sender<Event>) -> Response {
    match request {
        Request::Status {} => ask(Question::Status, events).await,
        Request::Services {} => ask(Question::Services, events).await,
        Request::Backends { service } => ask(Question::Backends(service), events).await,
        Request::Flows { service, client, all, limit } => {
            ask(Question::Flows(FlowsAsked { service, client, all, limit }), events).await
        }
        Request::Explain { client, vip } => ask(Question::Explain(client, vip), events).await,
        // It comes with octets, and is answered where they are read.
        Request::Diff { .. } => failed("the file is missing".to_owned()),
        Request::Events { limit, .. } => match follow(limit, events).await {
            Ok(following) => told(&following),
            Err(response) => response,
        },
        Request::Reload {} => {
            let (done, reloaded) = oneshot::channel();
            match heard(events, Event::Reload(Some(done)), reloaded).await {
                Ok(reloaded) => {
                    to_value(reloaded).map_or_else(|error| failed(error.to_string()), |ok| Response::Ok { ok })
                }
                Err(response) => response,
            }
        }
        Request::Detach { pin_dir: wanted } if !is_same(&wanted, pin_dir) => Response::Error {
            error: format!("this controller works on the pins in {}", pin_dir.display()),
            code: ELSEWHERE,
        },
        Request::Detach { .. } => {
            let (done, detached) = oneshot::channel();
            match heard(events, Event::Detach(done), detached).await {
                Ok(Ok(())) => Response::Ok { ok: serde_json::json!({"detached": true}) },
                Ok(Err(error)) => failed(error),
                Err(response) => response,
            }
        }
    }
}

/// State changes up to now, as one document.
fn told(following: &Following) -> Response {
    let past = Happenings { events: following.past.iter().map(|happening| (**happening).clone()).collect() };
    to_value(past).map_or_else(|error| failed(error.to_string()), |ok| Response::Ok { ok })
}

/// Whether two paths are one directory.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other
        || fs::canonicalize(one).ok().zip(fs::canonicalize(other).ok()).is_some_and(|(one, other)| one == other)
}

#[cfg(test)]
mod tests;
