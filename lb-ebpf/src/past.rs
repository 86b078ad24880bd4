//! What passes between clients and backends without a service: connections opened directly to a
//! backend's port, in either direction, and answers to the gateway itself.
//!
//! Such packets pass untouched, but a flow is noted, because a backend's packet that belongs to no
//! flow is dropped: with the backend's own address as its source it would reset a living connection.

use lb_common::{Endpoint, Flow, Mac, Reason, Side, state};

use super::{
    header,
    parse::Packet,
    table::{Place, Tables},
    track::{Peer, Spot, note, over},
};

/// A packet from a backend's port that belongs to no flow.
#[inline(always)]
pub fn orphan<T: Tables>(packet: &Packet, spot: &Spot, tables: &T) -> Reason {
    if tables.is_local(packet.target.address) {
        return Reason::ToGateway;
    }
    if packet.opens() {
        remember(packet.target, packet.source, state::DIRECT, spot, tables);
        return Reason::Direct;
    }
    Reason::OrphanReply
}

/// A packet to a backend's port that no service sent there.
#[inline(always)]
pub fn past_us<T: Tables>(packet: &Packet, tables: &T) -> Reason {
    let (client, backend) = (packet.source, packet.target);
    let spot = Spot::of(tables.shape(), client);
    let mut found = spot.seek(tables, client, Peer::Backend(backend.address, backend.port));
    // A service's flow that is over gives way to a new connection on its ports.
    if let Some(old) = &found
        && packet.opens()
        && old.place.state.get() & state::DIRECT == 0
        && over(old.place, tables)
    {
        old.release(tables);
        found = None;
    }
    match found {
        // Where a service's flow has the same ports, its replies keep belonging to it.
        Some(found) if found.place.state.get() & state::DIRECT != 0 => {
            pass(found.place, packet, Side::Client, tables);
        }
        Some(_) => {}
        None if packet.flags & header::RST == 0 && !tables.is_local(client.address) => {
            let spoke = if packet.opens() { 0 } else { state::CLIENT_SPOKE };
            remember(client, backend, state::DIRECT | spoke, &spot, tables);
        }
        None => {}
    }
    Reason::Direct
}

/// Notes a packet of a direct flow; one that lies or is cut short says nothing. A SYN on a flow that is over
/// begins anew: what it has shown is forgotten.
#[inline(always)]
pub fn pass<T: Tables>(place: &Place, packet: &Packet, side: Side, tables: &T) {
    if packet.sound().is_err() {
        return;
    }
    if packet.opens() && over(place, tables) {
        place.state.set(state::DIRECT);
    }
    note(place, packet, side, tables.now());
}

/// Notes a flow whose VIP is its backend.
#[inline(always)]
fn remember<T: Tables>(client: Endpoint, backend: Endpoint, state: u8, spot: &Spot, tables: &T) {
    let now = tables.now();
    let flow = Flow {
        client: client.address,
        client_port: client.port,
        vip_port: backend.port,
        vip: backend.address,
        backend: backend.address,
        backend_port: backend.port,
        backend_id: 0,
        protocol: client.protocol,
        state,
        nic: 0,
        client_mac: Mac([0; 6]),
        zero: [0; 2],
        seen: now,
        created: now,
        packets: [0; 2],
        bytes: [0; 2],
    };
    if spot.insert(tables, &flow).is_some() {
        tables.count(Reason::FlowCreated);
    }
}
