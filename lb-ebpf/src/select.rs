//! Which backend serves a flow that has none yet.
//!
//! The table was filled by userspace; here is only the hash and one lookup, and a step to the next
//! slot where the client already talks to the chosen backend from the same port, through another VIP:
//! the backend could not tell the two connections apart, nor could we tell its replies.

use lb_common::{Backend, BackendId, Reason, Service, client_hash, slots};

use super::{
    parse::Packet,
    table::Tables,
    track::{Peer, Spot},
    verifier::times,
};

/// Slots tried before a client's port is given up on.
const TRIES: u32 = 8;

/// The backend for a client.
#[inline(always)]
pub fn select<T: Tables>(
    packet: &Packet,
    service: &Service,
    spot: &Spot,
    tables: &T,
) -> Result<(BackendId, Backend), Reason> {
    let mut slot = slots::slot(client_hash(packet.source.address), service.slots);
    let busy = spot.backends_of(tables, packet.source);
    for _ in 0..times::<TRIES>() {
        let id = tables.slot(service, slot);
        if id == 0 {
            return Err(Reason::NoBackend);
        }
        let backend = tables.backend(id).ok_or(Reason::Inconsistent)?;
        if backend.flags & Backend::PRESENT == 0 {
            return Err(Reason::Inconsistent);
        }
        let (address, port) = (backend.address, backend.port);
        if !busy.contains(&(address, port)) {
            return match spot.seek(tables, packet.source, Peer::Backend(address, port)) {
                None => Ok((id, backend)),
                Some(_) => Err(Reason::TupleConflict),
            };
        }
        slot = if slot.wrapping_add(1) >= service.slots { 0 } else { slot.wrapping_add(1) };
    }
    Err(Reason::TupleConflict)
}
