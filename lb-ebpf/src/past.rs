//! What passes between clients and backends without a service: connections opened directly to a
//! backend's port, in either direction, and answers to the gateway itself.
//!
//! Such packets pass untouched, but a flow is noted, because a backend's packet that belongs to no
//! flow is dropped: with the backend's own address as its source it would reset a living connection.
//! They have to prove themselves as all flows do.

use lb_common::{Reason, Side, kind, stage};

use super::{
    decision::{Decision, ends},
    enter::{birth_of, way_of},
    half::Segment,
    header::RST,
    note::note,
    parse::Packet,
    spot::{Peer, Spot, number_of},
    table::{Place, Tables},
    track::{is_direct, over},
};

/// A packet from a backend's port that belongs to no flow.
#[inline(always)]
pub fn orphan<T: Tables>(packet: &Packet, segment: &Segment, spot: &Spot, tables: &T) -> Decision {
    if tables.is_local(packet.target.address) {
        return ends(Reason::ToGateway);
    }
    if packet.opens() {
        // A flow that is over gives way to a new connection on its ports.
        if let Some(found) = spot.seek(tables, packet.target, Peer::backend(packet.source)) {
            found.release(tables);
        }
        // Backends are believed: what the backend says next proves the flow.
        let birth = birth_of(0, kind::DIRECT | kind::MIDLIFE, packet.length);
        tables.begin(number_of(packet.target), number_of(packet.source), way_of(packet.from, segment.nic), birth);
        return ends(Reason::Direct);
    }
    if packet.answers() && packet.sound().is_ok() && is_elsewhere(packet, spot, tables) {
        return ends(Reason::LateAnswer);
    }
    ends(Reason::OrphanReply)
}

/// Whether the client that a backend answers was moved to another one, and perhaps has its connection there by now.
#[inline(always)]
fn is_elsewhere<T: Tables>(packet: &Packet, spot: &Spot, tables: &T) -> bool {
    if spot.shaking(tables, packet.target, Peer::Anybody).is_some_and(|shaking| shaking.has(stage::MOVED)) {
        return true;
    }
    spot.seek(tables, packet.target, Peer::Anybody).is_some_and(|found| !is_direct(found.place))
}

/// A packet to a backend's port that no service sent there.
#[inline(always)]
pub fn past_us<T: Tables>(packet: &Packet, segment: &Segment, tables: &T) -> Decision {
    let (client, backend) = (packet.source, packet.target);
    let peer = Peer::backend(backend);
    let direct = ends(Reason::Direct);
    let spot = Spot::of(tables.shape(), client);
    if let Some(found) = spot.seek(tables, client, peer) {
        if !packet.opens() || !over(found.place, tables) {
            // Where a service's flow has the same ports, its replies keep belonging to it.
            if is_direct(found.place) {
                pass(found.place, packet, Side::Client, tables);
            }
            return direct;
        }
        // A flow that is over gives way to a new connection on its ports.
        found.release(tables);
    }
    if let Some(shaking) = spot.shaking(tables, client, peer) {
        let is_ours = !shaking.is(kind::DIRECT);
        if !shaking.is_over(tables) {
            if is_ours || packet.sound().is_err() {
                return direct;
            }
            let is_proof = packet.flags & RST == 0 && !packet.opens() && shaking.proves(segment.acknowledgment);
            if !is_proof || tables.promote(number_of(client), shaking.number, packet.mark().0, 0) == 0 {
                shaking.tally(packet, Side::Client);
            }
            return direct;
        }
        shaking.forget(tables);
    }
    if packet.founds() && packet.sound().is_ok() && !tables.is_local(client.address) {
        let midlife = if packet.opens() { 0 } else { kind::MIDLIFE };
        let birth = birth_of(0, kind::DIRECT | midlife, packet.length);
        tables.begin(number_of(client), number_of(backend), way_of(packet.from, segment.nic), birth);
    }
    direct
}

/// Notes a packet of a direct flow; one that lies or is cut short says nothing.
#[inline(always)]
pub fn pass<T: Tables>(place: &Place, packet: &Packet, side: Side, tables: &T) {
    if packet.sound().is_ok() {
        note(place, packet.mark(), side, tables);
    }
}
