//! The journey of one packet, on one screen; then its three ends.

use lb_common::{Action, Backend, Flow, Reason, Service, Side, limits, state};

use super::{
    frame::Frame,
    header,
    parse::{FROM_BACKEND, Packet, TO_BACKEND, TO_VIP, parse},
    past::{orphan, pass, past_us},
    reset::reset,
    rewrite::{Change, Hop, rewrite},
    select::select,
    table::{Place, Tables},
    track::{Found, Peer, Spot, note, over},
    verifier::times,
};

/// What is done with the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the gateway's own stack.
    Pass,
    /// It is gone.
    Drop,
    /// It leaves by the NIC that it came in on.
    Transmit,
    /// It leaves by the NIC at this index.
    Redirect(u16),
}

/// How a packet ended: what is done with it, and why.
pub type End = (Verdict, Reason);

/// What becomes of one packet; the reason has been counted.
#[inline(always)]
pub fn forward<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> End {
    let (verdict, reason) = match journey(frame, tables) {
        Ok(end) => end,
        Err(reason) if matches!(reason.action(), Action::Pass) => (Verdict::Pass, reason),
        Err(reason) => (Verdict::Drop, reason),
    };
    tables.count(reason);
    (verdict, reason)
}

#[inline(always)]
fn journey<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<End, Reason> {
    let packet = parse(frame, tables)?;
    if packet.hints & TO_VIP != 0 {
        let (client, vip) = (packet.source, packet.target);
        let spot = Spot::of(tables.shape(), client);
        // Most packets belong to a flow that we know: only others ask for the service.
        if let Some(found) = spot.find(tables, client, Peer::Vip(vip.address, vip.port))
            && let Some(backend) = serving(&found, &packet, tables)
        {
            return to_backend(frame, &packet, found.place, &backend, tables);
        }
        if let Some(service) = tables.service(&vip) {
            return admit(frame, &packet, &service, &spot, tables);
        }
    }
    if packet.hints & FROM_BACKEND != 0 {
        let (backend, client) = (packet.source, packet.target);
        let spot = Spot::of(tables.shape(), client);
        if let Some(found) = spot.find(tables, client, Peer::Backend(backend.address, backend.port)) {
            return to_client(frame, &packet, found.place, tables);
        }
        if tables.is_backend(&backend) {
            return Err(orphan(&packet, &spot, tables));
        }
    }
    if packet.hints & TO_BACKEND != 0 && tables.is_backend(&packet.target) {
        return Err(past_us(&packet, tables));
    }
    Err(Reason::Foreign)
}

/// The backend of a known flow, unless this packet begins something else on the same ports.
#[inline(always)]
fn serving<T: Tables>(found: &Found<'_>, packet: &Packet, tables: &T) -> Option<Backend> {
    let place = found.place;
    let state = place.state.get();
    if state & state::DIRECT != 0 {
        return None;
    }
    let backend = tables.backend(place.backend_id.get())?;
    // An id may have a new owner after its last flow had expired, never before.
    let same = backend.flags & Backend::PRESENT != 0
        && backend.address == place.backend.get()
        && backend.port == place.backend_port.get();
    if same && (!packet.opens() || !begins_anew(place, state, packet, tables)) {
        return Some(backend);
    }
    found.release(tables);
    None
}

/// A SYN on a flow that is over is a new connection; on one that no backend answered yet it follows the table.
#[inline(always)]
fn begins_anew<T: Tables>(place: &Place, state: u8, packet: &Packet, tables: &T) -> bool {
    if over(place, tables) {
        return true;
    }
    if state & state::BACKEND_SPOKE != 0 {
        return false;
    }
    let Some(service) = tables.service(&packet.target) else { return false };
    let slot = lb_common::slots::slot(lb_common::client_hash(packet.source.address), service.slots);
    tables.slot(&service, slot) != place.backend_id.get()
}

/// A packet for a service, of no flow: chooses a backend, or answers that there is none.
#[inline(always)]
fn admit<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    service: &Service,
    spot: &Spot,
    tables: &T,
) -> Result<End, Reason> {
    packet.sound()?;
    let (id, backend) = match select(packet, service, spot, tables) {
        Ok(chosen) => chosen,
        // RFC 9293, section 3.10.7.1: a RST is never answered by a RST.
        Err(Reason::NoBackend) if packet.flags & header::RST == 0 => {
            reset(frame, packet).ok_or(Reason::NoBackend)?;
            return Ok((Verdict::Transmit, Reason::NoBackendReset));
        }
        Err(reason) => return Err(reason),
    };
    if packet.founds() {
        let now = tables.now();
        let flow = Flow {
            client: packet.source.address,
            client_port: packet.source.port,
            vip_port: packet.target.port,
            vip: packet.target.address,
            backend: backend.address,
            backend_port: backend.port,
            backend_id: id,
            protocol: packet.source.protocol,
            state: if packet.opens() { 0 } else { state::CLIENT_SPOKE },
            nic: arrival(frame.ingress(), tables).ok_or(Reason::Inconsistent)?,
            client_mac: packet.from,
            zero: [0; 2],
            seen: now,
            created: now,
            packets: [1, 0],
            bytes: [packet.length as u64, 0],
        };
        // Where every place is being claimed at this instant by others, the packet still goes its way.
        if spot.insert(tables, &flow).is_some() {
            tables.count(Reason::FlowCreated);
        }
    }
    tables.traffic(id, Side::Client, packet.length);
    send_to_backend(frame, packet, &backend, tables)
}

/// A client's packet of a known flow.
#[inline(always)]
fn to_backend<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    place: &Place,
    backend: &Backend,
    tables: &T,
) -> Result<End, Reason> {
    packet.sound()?;
    let nic = tables.nic(place.nic.get()).ok_or(Reason::Inconsistent)?;
    if nic.ifindex != frame.ingress() || place.client_mac.get() != packet.from {
        // The client moved behind another router or NIC: replies follow it there.
        place.nic.set(arrival(frame.ingress(), tables).ok_or(Reason::Inconsistent)?);
        place.client_mac.set(packet.from);
    }
    let id = place.backend_id.get();
    note(place, packet, Side::Client, tables.now());
    tables.traffic(id, Side::Client, packet.length);
    send_to_backend(frame, packet, backend, tables)
}

#[inline(always)]
fn send_to_backend<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    backend: &Backend,
    tables: &T,
) -> Result<End, Reason> {
    let change = Change { side: Side::Client, address: backend.address, port: backend.port };
    let l4 = packet.l4 as usize;
    if backend.flags & Backend::REACHABLE == 0 {
        // The kernel finds the neighbour, and the controller will know it a moment later.
        rewrite(frame, l4, change, None).ok_or(Reason::Inconsistent)?;
        return Ok((Verdict::Pass, Reason::ToBackendByKernel));
    }
    let nic = tables.nic(backend.nic).ok_or(Reason::Inconsistent)?;
    let hop = Hop { source: nic.mac, target: backend.hop };
    rewrite(frame, l4, change, Some(hop)).ok_or(Reason::Inconsistent)?;
    Ok((leave(nic.ifindex, backend.nic, frame.ingress()), Reason::ToBackend))
}

/// A backend's packet of a known flow: it leaves the way its client came.
#[inline(always)]
fn to_client<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, place: &Place, tables: &T) -> Result<End, Reason> {
    if place.state.get() & state::DIRECT != 0 {
        pass(place, packet, Side::Backend, tables);
        return Err(Reason::Direct);
    }
    packet.sound()?;
    let index = place.nic.get();
    let nic = tables.nic(index).ok_or(Reason::Inconsistent)?;
    let hop = Hop { source: nic.mac, target: place.client_mac.get() };
    let change = Change { side: Side::Backend, address: place.vip.get(), port: place.vip_port.get() };
    let id = place.backend_id.get();
    // The place may have been taken for another flow since it was found.
    if place.client.get() != packet.target.address {
        return Err(Reason::OrphanReply);
    }
    note(place, packet, Side::Backend, tables.now());
    tables.traffic(id, Side::Backend, packet.length);
    rewrite(frame, packet.l4 as usize, change, Some(hop)).ok_or(Reason::Inconsistent)?;
    Ok((leave(nic.ifindex, index, frame.ingress()), Reason::ToClient))
}

/// Out by the NIC it came in on, or by another.
#[inline(always)]
fn leave(ifindex: u32, index: u16, ingress: u32) -> Verdict {
    if ifindex == ingress { Verdict::Transmit } else { Verdict::Redirect(index) }
}

/// The index of the NIC that a packet came in on.
#[inline(always)]
fn arrival<T: Tables>(ifindex: u32, tables: &T) -> Option<u16> {
    for probe in 0..times::<{ limits::NIC_PROBES as u32 }>() {
        let index = (ifindex.wrapping_add(probe) % limits::NICS as u32) as u16;
        if tables.nic(index)?.ifindex == ifindex {
            return Some(index);
        }
    }
    None
}
