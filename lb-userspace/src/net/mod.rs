//! What the kernel's routing knows: routes, neighbours, addresses and links, by netlink.
//!
//! Nothing here decides: it answers questions about one moment, says when something changed, and puts VIPs on
//! the gateway or takes them away when it is told to.

mod addresses;
mod arp;
mod changes;
mod ground;
mod hops;
mod links;
mod network;

use std::{io, net::Ipv4Addr, thread};

use anyhow::{Context as _, Result, anyhow};
use rtnetlink::Handle;
use tokio::task::JoinHandle;

pub use self::{
    addresses::{Address, remove_marked_now},
    ground::{GroundFault, ground_faults},
    links::{Attachment, Link, links_now},
};

/// How frames get to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Out of this interface, to this Ethernet address.
    Known {
        /// The kernel's number of the interface.
        ifindex: u32,
        /// The next hop's Ethernet address.
        mac: [u8; 6],
    },
    /// Out of this interface, to a neighbour that has not answered yet.
    Unresolved {
        /// The kernel's number of the interface.
        ifindex: u32,
        /// The neighbour: the address itself or the router towards it.
        neighbour: Ipv4Addr,
    },
    /// No route leads there, or it is the gateway itself.
    NoRoute,
}

/// A conversation with the kernel's routing, in the network namespace it was begun in.
pub struct Netlink {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Netlink {
    /// Begins one; needs a tokio runtime.
    pub fn new() -> Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection().context("cannot open a netlink socket")?;
        Ok(Self { handle, connection: tokio::spawn(connection) })
    }

    fn handle(&self) -> &Handle {
        &self.handle
    }
}

/// One conversation for those who cannot wait in a runtime: held in a thread of its own, which is in the network
/// namespace of its maker.
fn now<T: Send>(talk: impl AsyncFnOnce(&Netlink) -> Result<T> + Send) -> Result<T> {
    let ask = || -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async { talk(&Netlink::new()?).await })
    };
    let thread = thread::Builder::new().name("netlink".into());
    thread::scope(|scope| thread.spawn_scoped(scope, ask).map(thread::ScopedJoinHandle::join))
        .map_err(|error: io::Error| anyhow!("cannot start a thread: {error}"))?
        .map_err(|_| anyhow!("the thread that speaks netlink panicked"))?
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
