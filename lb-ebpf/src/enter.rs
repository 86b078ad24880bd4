//! The two ways into the tables: a handshake begins, and one that has proved itself becomes a live flow.

use lb_common::{Address4, BackendId, Endpoint, Mac, Service, Side, Source, kind, limits, stage, state};

use super::{
    half::claim_half,
    note::note,
    parse::Mark,
    spot::{Spot, client_of},
    table::{HalfPlace, Place, Tables},
};

const WAYS: u32 = limits::WAYS as u32;
const HALF_WAYS: u32 = limits::HALF_WAYS as u32;
/// From the bit of [`stage`] to that of [`state`].
const FINISHED_SHIFT: u32 = stage::FINISHED.trailing_zeros() - state::FIN.trailing_zeros();

/// Where a client is, as one number: its next hop, and the NIC that it came in on.
#[inline(always)]
pub fn way_of(Mac([a, b, c, d, e, f]): Mac, nic: u16) -> u64 {
    (nic as u64) << 48 | u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

/// What begins, as one number: a backend, 0 for none of a service; bits of [`kind`]; octets of its first packet.
#[inline(always)]
pub fn birth_of(id: BackendId, kind: u8, length: u16) -> u64 {
    (length as u64) << 32 | (kind as u64) << 16 | id as u64
}

/// What is asked of a connection of a service from its first SYN on, as bits of [`kind`].
#[inline(always)]
pub fn kind_of(service: &Service) -> u8 {
    let flag = |flag: u32, bit: u8| if service.flags & flag != 0 { bit } else { 0 };
    flag(Service::FIRST_BYTE, kind::FIRST_BYTE)
        | flag(Service::HANDSHAKE, kind::HANDSHAKE)
        | flag(Service::RETRIES, kind::RETRY)
        | flag(Service::PER_SOURCE, kind::COUNTED)
}

/// [`Calls::begin`](super::table::Calls::begin).
#[inline(always)]
pub fn begin<T: Tables>(tables: &T, client: u64, vip: u64, way: u64, birth: u64) -> u32 {
    let spot = Spot::of(tables.shape(), client_of(client));
    let number = claim_half(tables, spot.half);
    let Some(place) = tables.half(number) else { return 0 };
    let (client, vip, id, kind) = (client_of(client), client_of(vip), birth as BackendId, (birth >> 16) as u8);
    let who = &place.who;
    // Who finds the place by its old tag from now on sees no client of theirs in it.
    who.client.set(Address4([0; 4]));
    tables.fence();
    who.client_port.set(client.port);
    who.vip_port.set(vip.port);
    who.vip.set(vip.address);
    let mut backend = (vip.address, vip.port);
    if id != 0
        && let Some(entry) = tables.backend(id)
    {
        backend = (entry.address, entry.port);
        if kind & kind::COUNTED != 0 {
            tables.count_connection(&Source { client: client.address, service: entry.service, zero: [0; 2] }, true);
        }
    }
    who.backend.set(backend.0);
    who.backend_port.set(backend.1);
    who.backend_id.set(id);
    who.protocol.set(client.protocol);
    who.kind.set(kind);
    who.state[0].set(0);
    who.state[1].set(0);
    who.nic.set((way >> 48) as u16);
    let [a, b, c, d, e, f, ..] = way.to_le_bytes();
    who.client_mac.set(Mac([a, b, c, d, e, f]));
    clear(place, (birth >> 32) as u16, tables);
    tables.fence();
    who.client.set(client.address);
    tables.fence();
    tables.set_half_tag(number / HALF_WAYS, number % HALF_WAYS, spot.tag);
    tables.count(lb_common::Reason::HalfOpened);
    1
}

/// A handshake of which only the first packet is known.
#[inline(always)]
fn clear<T: Tables>(place: &HalfPlace, length: u16, tables: &T) {
    let now = tables.now();
    place.created.set(now);
    place.attempt.set(now);
    place.isns[0].set(0);
    place.isns[1].set(0);
    place.expected.set(0);
    place.micros.set(if place.who.kind.get() & kind::HANDSHAKE != 0 { tables.micros() } else { 0 });
    place.sent.set(0);
    place.packets[0].set(1);
    place.packets[1].set(0);
    place.bytes[0].set(length);
    place.bytes[1].set(0);
}

/// [`Calls::promote`](super::table::Calls::promote).
#[inline(always)]
pub fn promote<T: Tables>(tables: &T, client: u64, half: u32, mark: u64, is_backend: u8) -> u32 {
    let number = tables.claim(client);
    let (Some(place), Some(shaking)) = (tables.place(number), tables.half(half)) else { return 0 };
    let (mark, client) = (Mark(mark), client_of(client));
    let (side, acknowledged) = if is_backend != 0 {
        (Side::Backend, mark.acknowledged())
    } else {
        (Side::Client, (shaking.expected.get() >> 16) as u16)
    };
    // Who finds the place by its old tag from now on sees no client of theirs in it.
    place.who.client.set(Address4([0; 4]));
    tables.fence();
    inherit(place, shaking, acknowledged, tables);
    tables.fence();
    place.who.client.set(client.address);
    note(place, mark, side, tables);
    tables.fence();
    let tag = Spot::of(tables.shape(), client).tag;
    tables.set_tag(number / WAYS, number % WAYS, tag);
    tables.count(lb_common::Reason::FlowCreated);
    tables.swap_half_tag(half / HALF_WAYS, half % HALF_WAYS, tag, 0);
    1
}

/// All of a flow but its client's address, as its handshake has it.
#[inline(always)]
fn inherit<T: Tables>(place: &Place, shaking: &HalfPlace, acknowledged: u16, tables: &T) {
    let (who, old) = (&place.who, &shaking.who);
    who.client_port.set(old.client_port.get());
    who.vip_port.set(old.vip_port.get());
    who.vip.set(old.vip.get());
    who.backend.set(old.backend.get());
    who.backend_port.set(old.backend_port.get());
    who.backend_id.set(old.backend_id.get());
    who.protocol.set(old.protocol.get());
    who.kind.set(old.kind.get() & !(kind::MIDLIFE | kind::RETRY));
    who.state[0].set(state::SPOKE);
    who.state[1].set(state::SPOKE | (old.state[1].get() & stage::FINISHED) >> FINISHED_SHIFT);
    who.nic.set(old.nic.get());
    who.client_mac.set(old.client_mac.get());
    place.seen.set(tables.now());
    place.created.set(shaking.created.get());
    place.packets[0].set(shaking.packets[0].get() as u32);
    place.packets[1].set(shaking.packets[1].get() as u32);
    place.bytes[0].set(shaking.bytes[0].get() as u64);
    place.bytes[1].set(shaking.bytes[1].get() as u64 | (acknowledged as u64) << 48);
}

/// The endpoint of a client or a VIP, as an entry has them.
#[inline(always)]
pub fn endpoint(address: Address4, port: lb_common::Port, protocol: u8) -> Endpoint {
    Endpoint { address, port, protocol, zero: 0 }
}
