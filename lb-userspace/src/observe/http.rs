//! HTTP for scrapers, load balancers in front and whoever likes `curl`: read-only, one task a connection.
//!
//! A client has limits in everything, as on the admin socket: how many there are at one time, how long one may take
//! to ask or stay silent, and how long a connection lives, however slowly its answer is taken. A default address that
//! is taken by somebody else is no reason to balance nothing: it is said loudly and tried again.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time,
};

use super::pages::answer;
use crate::control::Event;

/// Where HTTP is spoken when neither a flag nor the file says so.
pub const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9191);
/// Connections at one time; others wait.
const CONNECTIONS: usize = 64;
/// How long a client may take to send a request's head, and how long it may say nothing between two.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may live. Then its last request is answered, for as long again.
const LIFE: Duration = Duration::from_secs(30);
/// Octets of a request's head.
const LONGEST: usize = 16 << 10;
/// How often an address that is taken is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// The address to speak at, and the listener there, unless somebody else has it.
#[derive(Debug)]
pub struct Door {
    address: SocketAddr,
    listener: Result<TcpListener, String>,
}

impl Door {
    /// Listens at an address, or says what to do where that cannot be.
    pub async fn open(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.map_err(|error| refused(address, &error));
        Self { address, listener }
    }

    /// Why nobody can come in, if so.
    pub fn fault(&self) -> Option<&str> {
        self.listener.as_ref().err().map(String::as_str)
    }

    /// Answers clients until the loop is gone, and tells it where, or why not.
    pub async fn serve(self, events: mpsc::Sender<Event>) {
        let Self { address, mut listener } = self;
        let mut told = None;
        loop {
            let state = match &listener {
                Ok(listener) => listener.local_addr().map_err(|error| error.to_string()),
                Err(fault) => Err(fault.clone()),
            };
            if told.as_ref() != Some(&state) {
                if events.send(Event::Http(state.clone())).await.is_err() {
                    return;
                }
                told = Some(state);
            }
            if let Ok(listener) = listener {
                return take(&listener, CONNECTIONS, &events).await;
            }
            tokio::select! {
                () = time::sleep(AGAIN) => {}
                () = events.closed() => return,
            }
            listener = TcpListener::bind(address).await.map_err(|error| refused(address, &error));
        }
    }
}

fn refused(address: SocketAddr, error: &io::Error) -> String {
    let why = match error.kind() {
        // No word of it may contain `ready`: people and scripts wait for that in the log.
        io::ErrorKind::AddrInUse => {
            format!("somebody else listens there (`ss -ltnp sport = :{}` shows who)", address.port())
        }
        io::ErrorKind::AddrNotAvailable => "this host does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted, ports below 1024 need CAP_NET_BIND_SERVICE".to_owned(),
        _ => error.to_string(),
    };
    format!("cannot serve HTTP at {address}: {why}; choose another address by --http or admin.http, or `none`")
}

/// Takes connections, so many at one time.
async fn take(listener: &TcpListener, connections: usize, events: &mpsc::Sender<Event>) {
    let room = Arc::new(Semaphore::new(connections));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    log::warn!("cannot take a client of HTTP: {error}");
                    time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = events.closed() => return,
        };
        let events = events.clone();
        tokio::spawn(async move {
            converse(stream, events).await;
            drop(place);
        });
    }
}

/// One connection, from its first request to its end.
async fn converse(stream: TcpStream, events: mpsc::Sender<Event>) {
    let service = service_fn(|request| {
        let events = events.clone();
        async move { Ok::<_, Infallible>(answer(&request, &events).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(LONGEST)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = match time::timeout(LIFE, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_) => {
            connection.as_mut().graceful_shutdown();
            time::timeout(LIFE, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        log::debug!("a client of HTTP went away: {error}");
    }
}

#[cfg(test)]
mod tests;
