//! A backend's server, which a test can kill and return.

use std::{
    net::{SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

use crate::{
    host::Host,
    talk::{give, read_line, take},
};

/// A server of the protocol in `talk.rs`. It ends with its value.
#[derive(Debug)]
pub struct Server {
    host: Host,
    name: String,
    address: SocketAddrV4,
    counts: Arc<Counts>,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
}

impl Server {
    /// Serves on `address` of `host`; answers carry the host's name.
    pub fn start(host: &Host, address: SocketAddrV4) -> Result<Self> {
        let mut server =
            Self { host: host.clone(), name: host.name().to_owned(), address, counts: Arc::default(), task: None };
        server.restart()?;
        Ok(server)
    }

    /// The name in its answers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Connections accepted so far: probes of the balancer included, which say nothing.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// Requests answered so far.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }

    /// What `kill -9` of a server process does: the port is closed and every connection ended at once.
    pub fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            self.host.run(async move {
                let _ = task.await;
            });
        }
    }

    /// Serves again after [`Server::kill`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let (address, name, counts) = (self.address, self.name.clone(), Arc::clone(&self.counts));
        let listener = self
            .host
            .run(async move { listen(address) })
            .with_context(|| format!("{} cannot listen on {address}", self.name))?;
        self.task = Some(self.host.spawn(serve(listener, name.into(), counts)));
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn listen(address: SocketAddrV4) -> Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.into())?;
    Ok(socket.listen(4096)?)
}

/// The connections live in this task, so that they end with it.
async fn serve(listener: TcpListener, name: Arc<str>, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, peer)) = accepted else {
                    // Out of descriptors: some will be free in a moment.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                counts.connections.fetch_add(1, Ordering::Relaxed);
                let (name, counts) = (Arc::clone(&name), Arc::clone(&counts));
                connections.spawn(async move {
                    let _ = answer(stream, peer, &name, &counts).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(stream: TcpStream, peer: SocketAddr, name: &str, counts: &Counts) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut line = BufReader::new(stream);
    while let Some(request) = read_line(&mut line).await? {
        match request.split_once(' ') {
            None if request == "who" => line.write_all(format!("{name} {peer}\n").as_bytes()).await?,
            Some(("get", octets)) => give(line.get_mut(), octets.parse()?).await?,
            Some(("put", octets)) => {
                let said = match take(&mut line, octets.parse()?).await {
                    Ok(()) => format!("ok {octets}\n"),
                    Err(error) => format!("bad: {error}\n"),
                };
                line.write_all(said.as_bytes()).await?;
            }
            _ => line.write_all(b"bad: say who, get N or put N\n").await?,
        }
        counts.requests.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
