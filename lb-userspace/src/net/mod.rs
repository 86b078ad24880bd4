//! What the kernel's routing knows: routes, neighbours, addresses and links, by netlink.
//!
//! Nothing here decides: it answers questions about one moment, and says when something changed.

mod changes;
mod ground;
mod hops;
mod links;
mod network;

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use rtnetlink::Handle;
use tokio::task::JoinHandle;

pub use self::{
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

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
