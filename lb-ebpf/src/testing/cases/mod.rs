//! The list of cases, for every floor.

mod announced;
mod close;
mod ends;
mod floods;
mod foreign;
mod forwarding;
mod headers;
mod limits;
mod moves;
mod places;
mod proof;
mod state;
mod times;

use std::{format, string::String, vec::Vec};

use lb_common::{Backend, Reason, limits as sizes, slots};

use super::{Case, Memory, NIC_A, NIC_B, TcpPacket, World, endpoint, tcp};
use crate::{
    forward::Verdict,
    header::{ACK, FIN, RST, SYN},
    spot::Spot,
    table::Shape,
};

/// The VIP of most cases.
const VIP: &str = "203.0.113.10:80";
/// The backend of most cases.
const BACKEND: &str = "10.0.1.11:8080";
/// Another one.
const OTHER: &str = "10.0.1.12:8080";
/// The client of most cases.
const CLIENT: &str = "192.0.2.7:4321";

/// A client's packet goes out towards the backends, by the other NIC.
const TO_B: Verdict = Verdict::Redirect(NIC_B);
/// A backend's packet goes out towards the clients, by the other NIC.
const TO_A: Verdict = Verdict::Redirect(NIC_A);
/// What counts when a packet to a backend begins a handshake, or is the first seen of a flow.
const NEW: &[(Reason, u64)] = &[(Reason::ToBackend, 1), (Reason::HalfOpened, 1)];
/// What counts when a client's packet proves a flow.
const PROVED: &[(Reason, u64)] = &[(Reason::ToBackend, 1), (Reason::FlowCreated, 1)];
/// What counts when a backend's packet takes in a flow first seen in mid-life.
const TAKEN_IN: &[(Reason, u64)] = &[(Reason::ToClient, 1), (Reason::FlowCreated, 1)];
/// What counts when a client's packet just goes on.
const ON: &[(Reason, u64)] = &[(Reason::ToBackend, 1)];
/// What counts when a backend's does.
const BACK: &[(Reason, u64)] = &[(Reason::ToClient, 1)];

/// All cases.
pub fn all() -> Vec<Case> {
    [
        forwarding::cases(),
        foreign::cases(),
        headers::cases(),
        state::cases(),
        places::cases(),
        proof::cases(),
        close::cases(),
        floods::cases(),
        moves::cases(),
        ends::cases(),
        limits::cases(),
        times::cases(),
        announced::cases(),
    ]
    .concat()
}

/// One VIP with one backend.
fn one(world: &mut World) {
    world.serve(&[VIP], &[BACKEND]);
}

/// One VIP with two backends, of which the table names only one.
fn two(named: u16) -> World {
    let mut world = World::new();
    world.serve(&[VIP], &[BACKEND, OTHER]);
    world.fill(1, &[named]);
    world
}

/// The first of them takes no new flows any more, and the table names the other one.
fn out_of_the_table() -> World {
    let mut world = two(2);
    world.backends.get_mut(&1).expect("the first backend").flags = Backend::PRESENT | Backend::REACHABLE;
    world
}

/// The slot of the client in an ordinary table.
fn slot() -> usize {
    Memory::slot_of(endpoint(CLIENT).address, slots::SMALL) as usize
}

/// One VIP with two backends: on the client's slot stands the first, on all others the second.
fn beside(flags: u32) -> World {
    let mut world = two(2);
    world.tables.get_mut(&1).expect("the service")[slot()] = 1;
    world.flag(1, flags);
    world
}

/// The other backend's packet to the client.
fn other() -> TcpPacket {
    tcp(OTHER, CLIENT).by_backend()
}

/// The client's packet to the VIP.
fn to_vip() -> TcpPacket {
    tcp(CLIENT, VIP)
}

/// The backend's packet to the client.
fn back() -> TcpPacket {
    tcp(BACKEND, CLIENT).by_backend()
}

/// So many other clients whose handshakes stand in the half-open set of one.
fn same_half_set(client: &str, count: usize) -> Vec<String> {
    let sets = sizes::half_sets(sizes::flow_sets(World::MAX_FLOWS));
    let shape = Shape { sets: sizes::flow_sets(World::MAX_FLOWS), half_sets: sets, seed: World::SEED };
    let set = |client: &str| Spot::of(shape, endpoint(client)).half;
    let others = (0..0x2_0000).map(|n| format!("198.{}.{}.{}:4321", 18 + (n >> 16), n >> 8 & 255, n & 255));
    others.filter(|other| set(other) == set(client)).take(count).collect()
}

/// The RST that answers a packet (RFC 9293, section 3.10.7.1).
fn refusal(packet: &TcpPacket) -> TcpPacket {
    let mut rst = tcp(CLIENT, VIP).macs(packet.macs.1, packet.macs.0);
    (rst.source, rst.target, rst.window) = (packet.target, packet.source, 0);
    if packet.flags & ACK != 0 {
        return rst.flags(RST).numbers(packet.acknowledgment, 0);
    }
    let ends = [SYN, FIN].map(|flag| u32::from(packet.flags & flag != 0));
    rst.rst().numbers(0, packet.sequence + packet.payload.len() as u32 + ends[0] + ends[1])
}

impl Case {
    /// A client's packet goes to a backend.
    fn sends(self, packet: &TcpPacket, backend: &str, counts: &[(Reason, u64)]) -> Self {
        self.arrives(packet.build(), NIC_A, TO_B, packet.clone().to(backend).towards_backend().build(), counts)
    }

    /// A backend's packet comes back from the VIP.
    fn returns(self, packet: &TcpPacket, vip: &str, counts: &[(Reason, u64)]) -> Self {
        self.arrives(packet.build(), NIC_B, TO_A, packet.clone().from(vip).towards_client().build(), counts)
    }

    /// The packet is answered with a RST.
    fn refused(self, packet: &TcpPacket, nic: u16, reason: Reason) -> Self {
        self.arrives(packet.build(), nic, Verdict::Transmit, refusal(packet).build(), &[(reason, 1)])
    }

    /// A SYN and its answer.
    fn shakes(self, client: &str, vip: &str, backend: &str) -> Self {
        let answer = tcp(backend, client).by_backend().syn_ack();
        self.sends(&tcp(client, vip).syn(), backend, NEW).returns(&answer, vip, BACK)
    }

    /// A whole handshake: the flow is in the live table.
    fn connects(self, client: &str, vip: &str, backend: &str) -> Self {
        self.shakes(client, vip, backend).sends(&tcp(client, vip), backend, PROVED)
    }
}
