//! Which backend serves a flow that has none yet.
//!
//! The table was filled by userspace; here is only the hash and one lookup, and a step to the next
//! slot where the client already talks to the chosen backend from the same port, through another VIP:
//! the backend could not tell the two connections apart, nor could we tell its replies.

use lb_common::{Backend, BackendId, Reason, Service, client_hash, slots};

use super::{
    decision::{Decision, ends, goes_to},
    spot::{Peer, Spot, client_of},
    table::Tables,
    track::over,
    verifier::times,
};

/// Slots tried before a client's port is given up on.
const TRIES: u32 = 8;
/// Slots tried for another backend than one.
const LEAPS: u32 = 32;

/// A service's table as one number, for functions that can be given no more.
#[inline(always)]
pub fn table_of(service: &Service) -> u64 {
    (service.slots as u64) << 32 | service.table as u64
}

/// The backend for a client that talks to nobody from this port: most that are new.
#[inline(always)]
pub fn first_choice<T: Tables>(tables: &T, client: u64, service: &Service) -> Decision {
    let slot = slots::slot(client_hash(client_of(client).address), service.slots);
    let id = tables.slot(service.slots, service.table, slot);
    if id == 0 {
        return ends(Reason::NoBackend);
    }
    let is_there = tables.backend(id).is_some_and(|backend| backend.flags & Backend::PRESENT != 0);
    if is_there { goes_to(id) } else { ends(Reason::Inconsistent) }
}

/// [`Calls::select`](super::table::Calls::select).
#[inline(always)]
pub fn select<T: Tables>(tables: &T, number: u64, table: u64) -> Decision {
    let (slots, table) = ((table >> 32) as u32, table as u16);
    let mut slot = slots::slot(client_hash(client_of(number).address), slots);
    for _ in 0..times::<TRIES>() {
        let id = tables.slot(slots, table, slot);
        if id == 0 {
            return ends(Reason::NoBackend);
        }
        let Some(backend) = tables.backend(id) else { return ends(Reason::Inconsistent) };
        if backend.flags & Backend::PRESENT == 0 {
            return ends(Reason::Inconsistent);
        }
        if tables.is_free(number, Peer::Backend(backend.address, backend.port).number()) != 0 {
            return goes_to(id);
        }
        slot = if slot.wrapping_add(1) >= slots { 0 } else { slot.wrapping_add(1) };
    }
    ends(Reason::TupleConflict)
}

/// [`Calls::is_free`](super::table::Calls::is_free); what is over gives way.
#[inline(always)]
pub fn is_free<T: Tables>(tables: &T, client: u64, peer: u64) -> u8 {
    let peer = Peer::of(peer);
    let spot = Spot::of(tables.shape(), client_of(client));
    if let Some(shaking) = spot.shaking(tables, client_of(client), peer) {
        if !shaking.is_over(tables) {
            return 0;
        }
        shaking.forget(tables);
    }
    let Some(found) = spot.seek(tables, client_of(client), peer) else { return 1 };
    let is_over = over(found.place, tables);
    if is_over {
        found.release(tables);
    }
    is_over as u8
}

/// [`Calls::another`](super::table::Calls::another); 0 where there is none.
#[inline(always)]
pub fn another<T: Tables>(tables: &T, client: u64, table: u64, id: BackendId, moves: u8) -> BackendId {
    leap(tables, client, table, id, moves, |backend| {
        tables.is_free(client, Peer::Backend(backend.address, backend.port).number()) != 0
    })
}

/// [`Calls::has_other`](super::table::Calls::has_other).
#[inline(always)]
pub fn has_other<T: Tables>(tables: &T, client: u64, table: u64, id: BackendId, moves: u8) -> u8 {
    (leap(tables, client, table, id, moves, |_| true) != 0) as u8
}

/// The first backend but one that serves, on slots far from the client's own, so that the clients of a dead backend
/// spread over all others.
#[inline(always)]
fn leap<T: Tables>(
    tables: &T,
    client: u64,
    table: u64,
    id: BackendId,
    moves: u8,
    serves: impl Fn(&Backend) -> bool,
) -> BackendId {
    let (slots, table) = ((table >> 32) as u32, table as u16);
    let salt = (moves as u32).wrapping_add(1).wrapping_mul(0x9e37_79b1);
    let mut hash = client_hash(client_of(client).address) ^ salt;
    for _ in 0..times::<LEAPS>() {
        let other = tables.slot(slots, table, slots::slot(hash, slots));
        if other != 0
            && other != id
            && let Some(backend) = tables.backend(other)
            && backend.flags & Backend::PRESENT != 0
            && serves(&backend)
        {
            return other;
        }
        hash = hash.wrapping_add(0x9e37_79b1);
    }
    0
}
