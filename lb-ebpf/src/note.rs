//! What a packet changes in the live flow that it belongs to.
//!
//! Anybody may send a RST or a FIN with a client's address in it. One is believed if it lies
//! where the client can be in its sequence, which the backend's acknowledgments tell; and a RST that was believed is
//! forgotten as soon as either side goes on: who really has broken off answers whatever comes with another RST.

use lb_common::{Endpoint, OCTETS, Reason, Side, Source, acknowledged, ended, kind, state};

use super::{
    header::{FIN, RST, SYN},
    parse::Mark,
    spot::Spot,
    table::{Place, Tables},
    track::{backend_of, shown},
};

/// How far behind and beyond the backend's last acknowledgment a client's RST may lie, in 64 KiB.
///
/// Half a MiB of data under way: RFC 9293, section 3.10.7.4 accepts any in the window. A forger hits one of 7,281.
const BEHIND: u16 = 1;
const BEYOND: u16 = 7;
/// How far beyond a FIN may lie, in 64 KiB: 64 MiB, for it comes once, also where what was lost before it holds the
/// acknowledgments back. By itself it ends nothing: the backend has to finish, too.
const FIN_BEYOND: u16 = 1023;

/// Notes a packet on its flow.
#[inline(always)]
pub fn note<T: Tables>(place: &Place, mark: Mark, side: Side, tables: &T) {
    // What does not change is not written: a line that both directions only read stays in both caches.
    let now = tables.now();
    if place.seen.get() != now {
        place.seen.set(now);
    }
    let index = side as usize;
    let [client, backend] = shown(place);
    let own = if index == 0 { client } else { backend };
    let shows = state::SPOKE | if mark.payload() { state::DATA } else { 0 };
    // Most packets are one more of what the side has shown already.
    if mark.has(SYN | FIN | RST) || own | shows != own || (client | backend) & state::RESET != 0 {
        turn(place, mark, side, tables);
    }
    let (packets, bytes) = (&place.packets[index], &place.bytes[index]);
    packets.set(packets.get().wrapping_add(1));
    let octets = bytes.get().wrapping_add(mark.length() as u64) & OCTETS;
    bytes.set(match side {
        Side::Client => octets,
        Side::Backend => octets | (mark.acknowledged() as u64) << 48,
    });
}

/// Ends a flow whose backend is not to have it any longer.
#[inline(never)]
pub fn break_off<T: Tables>(place: &Place, tables: &T) {
    let before = shown(place);
    let backend = &place.who.state[1];
    backend.set(backend.get() | state::RESET);
    if place.who.kind.get() & kind::COUNTED != 0 {
        recount(place, ended(before), true, tables);
    }
}

/// What a flow shows by a packet that is not one more of the same.
#[inline(never)]
fn turn<T: Tables>(place: &Place, mark: Mark, side: Side, tables: &T) {
    let before = shown(place);
    let [client, backend] = &place.who.state;
    let (own_cell, other) = match side {
        Side::Client => (client, backend),
        Side::Backend => (backend, client),
    };
    if mark.has(SYN) && matches!(side, Side::Backend) && client.get() & state::RESET != 0 {
        renew(place, tables);
    }
    let own = own_cell.get();
    let mut new = own;
    let beyond = if mark.has(RST) { BEYOND } else { FIN_BEYOND };
    // Backends are.
    let is_believed = matches!(side, Side::Backend) || lies_within(place, mark.position(), beyond);
    if mark.has(RST) {
        if is_believed {
            new |= state::RESET;
        }
    } else if !mark.has(SYN) {
        new = (new | state::SPOKE) & !state::RESET;
        if mark.payload() {
            new |= state::DATA;
        }
        if mark.has(FIN) && is_believed {
            new |= state::FIN;
        }
        if other.get() & state::RESET != 0 {
            other.set(other.get() & !state::RESET);
        }
    }
    if new != own {
        own_cell.set(new);
    }
    let kind = place.who.kind.get();
    if kind & kind::COUNTED != 0 {
        recount(place, ended(before), ended(shown(place)), tables);
    }
    if kind & kind::FIRST_BYTE != 0 && (own ^ new) & state::DATA != 0 {
        first_payload(place, side, before, tables);
    }
}

/// A backend answers a SYN on a flow that its client had broken off: that connection is really over, and the flow is
/// that of a new one, which lives when its client goes on.
#[inline(always)]
fn renew<T: Tables>(place: &Place, tables: &T) {
    let [client, backend] = &place.who.state;
    client.set(state::RESET);
    backend.set(state::SPOKE);
    place.who.kind.set(place.who.kind.get() & !kind::LOGGED);
    place.created.set(tables.now());
    let ([sent, received], [out, back]) = (&place.packets, &place.bytes);
    // But for the SYN, which was counted with the one before.
    sent.set(0);
    received.set(0);
    out.set(0);
    back.set(0);
    tables.count(Reason::FlowCreated);
}

/// Whether a packet at this place of the client's sequence may be of who seems to send it.
#[inline(always)]
pub fn believed(place: &Place, position: u16) -> bool {
    lies_within(place, position, BEYOND)
}

#[inline(always)]
fn lies_within(place: &Place, position: u16, beyond: u16) -> bool {
    let ahead = position.wrapping_sub(acknowledged(place.bytes[1].get()));
    ahead.wrapping_add(BEHIND) <= beyond.wrapping_add(BEHIND)
}

/// A flow that ends is one connection less of its client; one that goes on after all is one more.
#[inline(always)]
fn recount<T: Tables>(place: &Place, before: bool, after: bool, tables: &T) {
    if before == after {
        return;
    }
    if let Some(backend) = tables.backend(backend_of(place)) {
        let source = Source { client: place.who.client.get(), service: backend.service, zero: [0; 2] };
        tables.count_connection(&source, before);
    }
}

/// The first payload of either side: the client's starts the clock, the backend's after it stops it.
#[inline(always)]
fn first_payload<T: Tables>(place: &Place, side: Side, before: [u8; 2], tables: &T) {
    let who = &place.who;
    let client =
        Endpoint { address: who.client.get(), port: who.client_port.get(), protocol: who.protocol.get(), zero: 0 };
    // Who speaks first is not timed: there is nothing that it answers.
    if (before[0] | before[1]) & state::DATA != 0 && matches!(side, Side::Client) {
        return;
    }
    let key = Spot::of(tables.shape(), client).key;
    let Some(pending) = tables.pending(key) else { return };
    match side {
        Side::Client => {
            pending.key.set(key);
            pending.micros.set(tables.micros());
        }
        Side::Backend if before[0] & state::DATA != 0 && pending.key.get() == key => {
            pending.key.set(0);
            tables.took(backend_of(place), tables.micros().wrapping_sub(pending.micros.get()));
        }
        Side::Backend => {}
    }
}
