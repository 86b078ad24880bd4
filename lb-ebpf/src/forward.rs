//! The journey of one packet, on one screen; then its ends.

use lb_common::{Action, Backend, Reason, Side, limits};

use super::{
    answer::{Recipe, answer},
    decision::{Decision, ends, is_sent, reason_of, target_of},
    frame::Frame,
    half::Segment,
    note::{believed, note},
    open::open,
    parse::{ALONE, FROM_BACKEND, KNOWN, OTHER, Packet, TO_BACKEND, TO_VIP, glance, other, parse},
    past::{pass, past_us},
    reset::reset,
    rewrite::{Change, Hop, rewrite},
    spot::{Peer, Spot},
    table::{NOBODY, Place, Tables},
    track::{is_direct, over},
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

/// What comes of a first look at a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// It ended.
    Ended(End),
    /// It belongs to no live flow. What is known of it: [`TO_VIP`] and its like.
    Unknown(u8),
}

/// What becomes of one packet; the reason has been counted.
pub fn forward<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> End {
    let mut end = (Verdict::Pass, Reason::Foreign);
    let hints = glance(frame, tables);
    if hints != 0 {
        end = match first(frame, tables, hints) {
            First::Ended(end) => end,
            First::Unknown(hints) => closer(frame, tables, hints),
        };
    }
    tables.count(end.1);
    end
}

/// The packets of live flows, which are nearly all.
#[inline(always)]
pub fn first<F: Frame, T: Tables>(frame: &mut F, tables: &T, hints: u8) -> First {
    if hints & OTHER != 0 {
        return First::Ended(end(Err(other(frame, tables))));
    }
    let packet = match parse(frame, tables) {
        Ok(packet) => packet,
        Err(reason) => return First::Ended(end(Err(reason))),
    };
    let mut hints = hints;
    if hints & TO_VIP != 0 {
        let spot = Spot::of(tables.shape(), packet.source);
        let number = spot.search(tables, packet.source, Peer::vip(packet.target));
        match tables.place(number) {
            Some(place) if goes_on(place, &packet, tables) => {
                return First::Ended(end(request(frame, &packet, place, tables)));
            }
            Some(_) => hints |= KNOWN,
            None if number == NOBODY => hints |= ALONE,
            None => {}
        }
    } else if hints & FROM_BACKEND != 0 {
        let spot = Spot::of(tables.shape(), packet.target);
        let number = spot.search(tables, packet.target, Peer::backend(packet.source));
        if let Some(place) = tables.place(number)
            && !(is_direct(place) && packet.opens() && over(place, tables))
        {
            return First::Ended(end(reply(frame, &packet, place, tables)));
        }
    }
    First::Unknown(hints)
}

/// Packets of no live flow, in the order of what they may be.
#[inline(always)]
fn closer<F: Frame, T: Tables>(frame: &mut F, tables: &T, hints: u8) -> End {
    let mut end = (Verdict::Pass, Reason::Foreign);
    if hints & TO_VIP != 0 {
        end = from_client(frame, tables, hints);
    }
    if hints & FROM_BACKEND != 0 && end.1 == Reason::Foreign {
        end = from_backend(frame, tables, hints);
    }
    if hints & TO_BACKEND != 0 && end.1 == Reason::Foreign {
        end = past(frame, tables);
    }
    end
}

/// A closer look at a packet for an address that may be a VIP.
#[inline(always)]
pub fn from_client<F: Frame, T: Tables>(frame: &mut F, tables: &T, hints: u8) -> End {
    let look = |frame: &mut F| {
        let packet = parse(frame, tables)?;
        let spot = Spot::of(tables.shape(), packet.source);
        let decision = open(&packet, &segment(frame, &packet, tables)?, &spot, hints, tables);
        to_backend(frame, &packet, decision, tables)
    };
    end(look(frame))
}

/// A closer look at a packet from an address that may be a backend's.
#[inline(always)]
pub fn from_backend<F: Frame, T: Tables>(frame: &mut F, tables: &T, hints: u8) -> End {
    let look = |frame: &mut F| {
        let packet = parse(frame, tables)?;
        let spot = Spot::of(tables.shape(), packet.target);
        // A backend may be the client of a VIP, and then nobody has looked here yet.
        if hints & TO_VIP != 0
            && let Some(found) = spot.seek(tables, packet.target, Peer::backend(packet.source))
        {
            return reply(frame, &packet, found.place, tables);
        }
        let mut recipe = Recipe::EMPTY;
        let decision = answer(&packet, &segment(frame, &packet, tables)?, &spot, tables, &mut recipe);
        to_client(frame, &packet, decision, &recipe, tables)
    };
    end(look(frame))
}

/// A closer look at a packet for an address that may be a backend's.
#[inline(always)]
pub fn past<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> End {
    let look = |frame: &mut F| {
        let packet = parse(frame, tables)?;
        if !tables.is_backend(&packet.target) {
            return Err(Reason::Foreign);
        }
        Err(reason_of(past_us(&packet, &segment(frame, &packet, tables)?, tables)))
    };
    end(look(frame))
}

/// The end of a journey that may have been cut short for a reason.
#[inline(always)]
fn end(journey: Result<End, Reason>) -> End {
    match journey {
        Ok(end) => end,
        Err(reason) if matches!(reason.action(), Action::Pass) => (Verdict::Pass, reason),
        Err(reason) => (Verdict::Drop, reason),
    }
}

/// The numbers of a packet, for those who look closer; a stump has none.
#[inline(always)]
fn segment<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, tables: &T) -> Result<Segment, Reason> {
    let nic = arrival(frame.ingress(), tables).ok_or(Reason::Inconsistent)?;
    Ok(Segment::of(frame, packet, nic))
}

/// Whether a packet belongs to the flow that has its ports, and does not begin something else on them.
#[inline(always)]
fn goes_on<T: Tables>(place: &Place, packet: &Packet, tables: &T) -> bool {
    let who = &place.who;
    let Some(backend) = tables.backend(who.backend_id.get()) else { return false };
    // An id may have a new owner after its last flow had expired, never before.
    let same = backend.flags & (Backend::PRESENT | Backend::RESETS) == Backend::PRESENT
        && backend.address == who.backend.get()
        && backend.port == who.backend_port.get();
    // A SYN on a flow that is over is a new connection.
    same && !is_direct(place) && !(packet.opens() && over(place, tables))
}

/// A client's packet of a known flow.
#[inline(always)]
fn request<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, place: &Place, tables: &T) -> Result<End, Reason> {
    packet.sound()?;
    let who = &place.who;
    let nic = tables.nic(who.nic.get()).ok_or(Reason::Inconsistent)?;
    let is_elsewhere = nic.ifindex != frame.ingress() || who.client_mac.get() != packet.from;
    if is_elsewhere && believed(place, packet.position) {
        // The client moved behind another router or NIC: replies follow it there, but not after a forged packet.
        who.nic.set(arrival(frame.ingress(), tables).ok_or(Reason::Inconsistent)?);
        who.client_mac.set(packet.from);
    }
    let id = who.backend_id.get();
    let backend = tables.backend(id).ok_or(Reason::Inconsistent)?;
    note(place, packet.mark(), Side::Client, tables);
    tables.traffic(id, Side::Client, packet.length);
    send_to_backend(frame, packet, &backend, tables)
}

/// A backend's packet of a known flow: it leaves the way its client came.
#[inline(always)]
fn reply<F: Frame, T: Tables>(frame: &mut F, packet: &Packet, place: &Place, tables: &T) -> Result<End, Reason> {
    if is_direct(place) {
        pass(place, packet, Side::Backend, tables);
        return Err(Reason::Direct);
    }
    packet.sound()?;
    let recipe = Recipe::of(&place.who);
    // The place may have been taken for another flow since it was found.
    if place.who.client.get() != packet.target.address {
        return Err(Reason::OrphanReply);
    }
    note(place, packet.mark(), Side::Backend, tables);
    send_to_client(frame, packet, &recipe, tables)
}

/// Carries out what was decided about a client's packet.
#[inline(always)]
fn to_backend<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    decision: Decision,
    tables: &T,
) -> Result<End, Reason> {
    if !is_sent(decision) {
        return otherwise(frame, packet, reason_of(decision));
    }
    let id = target_of(decision);
    let backend = tables.backend(id).ok_or(Reason::Inconsistent)?;
    tables.traffic(id, Side::Client, packet.length);
    send_to_backend(frame, packet, &backend, tables)
}

/// Carries out what was decided about a backend's packet.
#[inline(always)]
fn to_client<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    decision: Decision,
    recipe: &Recipe,
    tables: &T,
) -> Result<End, Reason> {
    if decision != ends(Reason::ToClient) {
        return otherwise(frame, packet, reason_of(decision));
    }
    send_to_client(frame, packet, recipe, tables)
}

#[inline(always)]
fn send_to_client<F: Frame, T: Tables>(
    frame: &mut F,
    packet: &Packet,
    recipe: &Recipe,
    tables: &T,
) -> Result<End, Reason> {
    let nic = tables.nic(recipe.nic).ok_or(Reason::Inconsistent)?;
    let hop = Hop { source: nic.mac, target: recipe.client_mac };
    let change = Change { side: Side::Backend, address: recipe.vip, port: recipe.vip_port };
    tables.traffic(recipe.backend_id, Side::Backend, packet.length);
    rewrite(frame, packet.l4 as usize, change, Some(hop)).ok_or(Reason::Inconsistent)?;
    Ok((leave(nic.ifindex, recipe.nic, frame.ingress()), Reason::ToClient))
}

/// A packet that goes nowhere: answered with RST, passed or dropped.
#[inline(always)]
fn otherwise<F: Frame>(frame: &mut F, packet: &Packet, reason: Reason) -> Result<End, Reason> {
    if !matches!(reason.action(), Action::Answer) {
        return Err(reason);
    }
    // What cannot be answered, for lack of room in the frame, is dropped.
    reset(frame, packet.l4, packet.length).ok_or(Reason::NoBackend)?;
    Ok((Verdict::Transmit, reason))
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
