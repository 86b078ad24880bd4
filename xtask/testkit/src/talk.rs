//! What clients and servers say to each other, and one connection that says it.
//!
//! A request is a line: `who` is answered by `NAME ADDRESS` (the backend and the client as it sees it),
//! `get N` by N octets of the pattern, `put N` and N octets by `ok N` if they were the pattern. A
//! connection carries any number of requests.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpSocket, TcpStream},
    sync::Mutex,
    time::timeout,
};

use crate::host::Host;

/// How long a request may take before it counts as failed. It covers one lost SYN.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long a big transfer may take.
const LONG: Duration = Duration::from_secs(60);

/// Who answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The backend's name.
    pub backend: String,
    /// The client's address as the backend sees it.
    pub client: SocketAddrV4,
}

/// A connection that lives as long as the test wants.
#[derive(Clone, Debug)]
pub struct Connection {
    host: Host,
    line: Arc<Mutex<BufReader<TcpStream>>>,
    local: SocketAddrV4,
}

impl Connection {
    /// Connects from one address of `host`, at any port if `source` has port 0.
    pub fn open(host: &Host, source: SocketAddrV4, target: SocketAddrV4) -> Result<Self> {
        let line = host.run(timeout_at(PATIENCE, "connect", dial(source, target)))?;
        let std::net::SocketAddr::V4(local) = line.get_ref().local_addr()? else { bail!("an IPv6 connection") };
        Ok(Self { host: host.clone(), line: Arc::new(Mutex::new(line)), local })
    }

    /// Its own address and port.
    pub fn local(&self) -> SocketAddrV4 {
        self.local
    }

    /// Asks who serves it.
    pub fn ask(&self) -> Result<Answer> {
        let line = Arc::clone(&self.line);
        self.host.run(timeout_at(PATIENCE, "answer", async move { who(&mut *line.lock().await).await }))
    }

    /// Fetches so many octets and compares each.
    pub fn download(&self, octets: u64) -> Result<()> {
        let line = Arc::clone(&self.line);
        self.host.run(timeout_at(LONG, "download", async move {
            let mut line = line.lock().await;
            line.write_all(format!("get {octets}\n").as_bytes()).await?;
            take(&mut line, octets).await
        }))
    }

    /// Sends so many octets, each of which the backend compares.
    pub fn upload(&self, octets: u64) -> Result<()> {
        let line = Arc::clone(&self.line);
        self.host.run(timeout_at(LONG, "upload", async move {
            let mut line = line.lock().await;
            line.write_all(format!("put {octets}\n").as_bytes()).await?;
            give(line.get_mut(), octets).await?;
            match read_line(&mut line).await?.as_deref() {
                Some(said) if said == format!("ok {octets}") => Ok(()),
                said => bail!("the backend answered {said:?} to an upload of {octets} octets"),
            }
        }))
    }
}

/// One request on a connection of its own, from `source`, within [`PATIENCE`].
pub async fn ask(source: Ipv4Addr, target: SocketAddrV4) -> Result<Answer> {
    timeout_at(PATIENCE, "request", async move { who(&mut dial(SocketAddrV4::new(source, 0), target).await?).await })
        .await
}

pub(crate) async fn dial(source: SocketAddrV4, target: SocketAddrV4) -> Result<BufReader<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    if source.port() == 0 {
        // The port is then chosen at connect: each pair of addresses has all ports, not each source.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
    }
    socket.bind(source.into()).with_context(|| format!("cannot bind to {source}"))?;
    let stream = socket.connect(target.into()).await.context("connect")?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

pub(crate) async fn who(line: &mut BufReader<TcpStream>) -> Result<Answer> {
    line.write_all(b"who\n").await.context("send")?;
    let Some(said) = read_line(line).await.context("receive")? else { bail!("receive: closed by the backend") };
    let (backend, client) = said.split_once(' ').with_context(|| format!("the backend answered {said:?}"))?;
    Ok(Answer { backend: backend.to_owned(), client: client.parse()? })
}

/// A line without its end, or `None` where the other side has closed.
pub(crate) async fn read_line(line: &mut BufReader<TcpStream>) -> Result<Option<String>> {
    let mut said = String::new();
    Ok(match line.read_line(&mut said).await? {
        0 => None,
        _ => Some(said.trim_end().to_owned()),
    })
}

/// Sends the pattern.
pub(crate) async fn give(stream: &mut TcpStream, octets: u64) -> Result<()> {
    let mut at = 0;
    while at < octets {
        let block = pattern(at, octets - at);
        stream.write_all(&block).await?;
        at += block.len() as u64;
    }
    Ok(())
}

/// Receives the pattern and compares it.
pub(crate) async fn take(line: &mut BufReader<TcpStream>, octets: u64) -> Result<()> {
    let mut block = vec![0; 64 * 1024];
    let mut at = 0;
    while at < octets {
        let most = usize::try_from(octets - at).unwrap_or(usize::MAX).min(block.len());
        let length = line.read(&mut block[..most]).await?;
        if length == 0 {
            bail!("closed after {at} of {octets} octets");
        }
        if block[..length] != pattern(at, length as u64)[..] {
            bail!("octets {at} to {} are not what was sent", at + length as u64);
        }
        at += length as u64;
    }
    Ok(())
}

/// At most 64 KiB of the pattern from octet `at` on. Its period is odd, so a shifted segment is seen.
fn pattern(at: u64, most: u64) -> Vec<u8> {
    (at..at + most.min(64 * 1024)).map(|octet| (octet % 251) as u8).collect()
}

pub(crate) async fn timeout_at<T>(patience: Duration, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let what = what.to_owned();
    match timeout(patience, work).await {
        Ok(result) => result,
        Err(_) => bail!("{what}: no answer within {patience:?}"),
    }
}
