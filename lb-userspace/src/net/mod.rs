//! What the kernel's routing knows: routes, neighbours, addresses and links, by netlink.
//!
//! Nothing here decides: it answers questions about one moment, and says when something changed.

use std::net::Ipv4Addr;

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
