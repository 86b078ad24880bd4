//! The packet with another target or another source, its checksums and its way out.

use lb_common::{Address4, Mac, Port, Side};

use super::{
    checksum::Delta,
    frame::Frame,
    header::{Ethernet, Ipv4, L3, Network4, Prefix4, Tcp},
};

/// From whom to whom a frame goes on the wire.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    /// The NIC's own address.
    pub source: Mac,
    /// The next hop's.
    pub target: Mac,
}

/// What a packet's address and port become: the target's from the client, the source's from the backend.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Who sent the packet.
    pub side: Side,
    /// The new address.
    pub address: Address4,
    /// The new port.
    pub port: Port,
}

/// Rewrites the packet whose TCP header stands at `l4`; with a hop it is also routed: the TTL goes down
/// and the frame gets its addresses. Without one the kernel will do both.
#[inline(always)]
pub fn rewrite<F: Frame>(frame: &mut F, l4: usize, change: Change, hop: Option<Hop>) -> Option<()> {
    const PLAIN: usize = L3 + size_of::<Ipv4>();
    if l4 == PLAIN {
        let prefix = frame.view::<Prefix4>(0)?;
        route(&mut prefix.ethernet, &mut prefix.ip, hop);
        let delta = address(&mut prefix.ip, change);
        transport(&mut prefix.tcp, change, delta);
        return Some(());
    }
    let network = frame.view::<Network4>(0)?;
    route(&mut network.ethernet, &mut network.ip, hop);
    let delta = address(&mut network.ip, change);
    // At most 60 octets of IPv4 header; the mask is for the verifier.
    transport(frame.view::<Tcp>(l4 & 0x7f)?, change, delta);
    Some(())
}

#[inline(always)]
fn route(ethernet: &mut Ethernet, ip: &mut Ipv4, hop: Option<Hop>) {
    let Some(hop) = hop else { return };
    ethernet.source = hop.source;
    ethernet.target = hop.target;
    let old = [ip.ttl, ip.protocol];
    // Who comes here has a TTL above 1.
    ip.ttl = ip.ttl.wrapping_sub(1);
    ip.checksum = Delta::default().word(old, [ip.ttl, ip.protocol]).apply(ip.checksum);
}

/// Returns what the pseudo header's change does to the transport's checksum.
#[inline(always)]
fn address(ip: &mut Ipv4, change: Change) -> Delta {
    let field = match change.side {
        Side::Client => &mut ip.target,
        Side::Backend => &mut ip.source,
    };
    let delta = Delta::default().address(*field, change.address);
    *field = change.address;
    ip.checksum = delta.apply(ip.checksum);
    delta
}

#[inline(always)]
fn transport(tcp: &mut Tcp, change: Change, delta: Delta) {
    let field = match change.side {
        Side::Client => &mut tcp.ports.target,
        Side::Backend => &mut tcp.ports.source,
    };
    let delta = delta.port(*field, change.port);
    *field = change.port;
    tcp.checksum = delta.apply(tcp.checksum);
}
