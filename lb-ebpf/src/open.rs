//! A client's packet that belongs to no live flow: a handshake under way, or something new.
//!
//! Functions here run where few packets come, and the frame is not theirs: they end with a [`Decision`].

use lb_common::{Backend, Endpoint, Reason, Service, Side, Vip, idle, is_broken, kind, stage};

use super::{
    admit::rules_of,
    decision::{Decision, ends, goes_to, is_sent, target_of},
    enter::{birth_of, kind_of, way_of},
    half::{Segment, Shaking},
    header::{RST, SYN},
    note::{break_off, note},
    parse::{ALONE, KNOWN, Packet},
    select::{first_choice, table_of},
    spot::{Peer, Spot, number_of},
    table::{Identity, NOBODY, Tables},
    track::{Found, backend_of, is_direct, over, shown},
};

/// How often a handshake is moved because it was refused.
const MOVES: u8 = 3;

/// Decides about a client's packet to an address that may be a VIP.
#[inline(always)]
pub fn open<T: Tables>(packet: &Packet, segment: &Segment, spot: &Spot, hints: u8, tables: &T) -> Decision {
    let (client, peer) = (packet.source, Peer::vip(packet.target));
    let fault = match packet.sound() {
        Ok(()) => 0,
        Err(reason) => ends(reason),
    };
    if hints & KNOWN != 0
        && let Some(found) = spot.seek(tables, client, peer)
    {
        if fault != 0 {
            return fault;
        }
        let flags = backend_flags(&found.place.who, tables);
        let resets = flags & Backend::RESETS != 0;
        if resets && !(packet.opens() && over(found.place, tables)) {
            return end_of(packet, &found, tables);
        }
        if packet.opens() && flags & (Backend::PRESENT | Backend::ELIGIBLE) == Backend::PRESENT | Backend::ELIGIBLE {
            let end = reopen(packet, &found, tables);
            if end != 0 {
                return end;
            }
        }
        // It has ended, or its backend is no more, or it was opened directly to what is a VIP now.
        found.release(tables);
    }
    let number = tables.seek_half(number_of(client), peer.number());
    if let Some(shaking) = spot.shaking_at(tables, number) {
        if fault != 0 {
            return fault;
        }
        let flags = backend_flags(&shaking.place.who, tables);
        // A SYN after a stray packet is a connection of its own, with the limits that hold for one.
        let is_new = packet.opens() && shaking.is(kind::MIDLIFE);
        if flags & Backend::PRESENT != 0 && !is_new && !shaking.is_over(tables) {
            let resets = flags & Backend::RESETS != 0 && packet.flags & (SYN | RST) == 0;
            if !resets {
                return go_on(packet, segment, &shaking, tables);
            }
            shaking.forget(tables);
            return ends(Reason::BackendReset);
        }
        shaking.forget(tables);
    }
    match tables.service(&packet.target) {
        Some(_) if fault != 0 => fault,
        Some(service) => {
            let is_alone = hints & ALONE != 0 && number == NOBODY;
            admit(packet, segment, &service, is_alone, tables)
        }
        None => unserved(packet, fault, tables),
    }
}

/// The flags of a flow's backend, none where it is no more who it was.
#[inline(always)]
fn backend_flags<T: Tables>(who: &Identity, tables: &T) -> u16 {
    match tables.backend(who.backend_id.get()) {
        Some(backend) if backend.address == who.backend.get() && backend.port == who.backend_port.get() => {
            backend.flags
        }
        _ => 0,
    }
}

/// A packet of a live flow whose backend is not to have it any longer. A RST is not answered, but passed on.
#[inline(always)]
fn end_of<T: Tables>(packet: &Packet, found: &Found<'_>, tables: &T) -> Decision {
    if packet.flags & RST == 0 {
        break_off(found.place, tables);
        return ends(Reason::BackendReset);
    }
    note(found.place, packet.mark(), Side::Client, tables);
    goes_to(found.place.who.backend_id.get())
}

/// A SYN on a flow that only its client's RST has ended: it goes to the same backend, because RST and SYN may both be
/// forged. A backend whose connection lives answers with a mere acknowledgment, and the flow is alive; one whose
/// connection is gone answers with SYN-ACK, and the flow begins anew. 0 where it is not so.
#[inline(always)]
fn reopen<T: Tables>(packet: &Packet, found: &Found<'_>, tables: &T) -> Decision {
    let place = found.place;
    let id = backend_of(place);
    let is_old = idle(tables.now(), place.seen.get()) > tables.timeouts(id).fin;
    if !is_broken(shown(place)) || is_direct(place) || is_old {
        return 0;
    }
    let Some(service) = tables.service(&packet.target) else { return 0 };
    let kept_away = keeps_away(packet, &service, tables);
    if kept_away != 0 {
        return kept_away;
    }
    note(place, packet.mark(), Side::Client, tables);
    goes_to(id)
}

/// Why a client may not open a connection; 0 where it may.
#[inline(always)]
fn keeps_away<T: Tables>(packet: &Packet, service: &Service, tables: &T) -> Decision {
    if service.flags & (Service::FILTERED | Service::RATED | Service::PER_SOURCE) == 0 {
        return 0;
    }
    tables.keeps_away(number_of(packet.source), rules_of(service), packet.opens() as u8)
}

/// A handshake goes on.
#[inline(always)]
fn go_on<T: Tables>(packet: &Packet, segment: &Segment, shaking: &Shaking<'_>, tables: &T) -> Decision {
    let who = &shaking.place.who;
    let id = who.backend_id.get();
    let is_proof = packet.flags & (SYN | RST) == 0 && shaking.proves(segment.acknowledgment);
    if is_proof || packet.opens() || shaking.is(kind::MIDLIFE) {
        // Answers leave the way it came; a packet that proves nothing leads them nowhere else.
        who.nic.set(segment.nic);
        who.client_mac.set(packet.from);
    }
    if is_proof && tables.promote(number_of(packet.source), shaking.number, packet.mark().0, 0) != 0 {
        return goes_to(id);
    }
    shaking.tally(packet, Side::Client);
    if packet.opens() {
        move_on(packet, shaking, tables);
        return goes_to(who.backend_id.get());
    }
    let breaks_off = packet.flags & RST != 0 && segment.sequence == shaking.place.expected.get();
    if breaks_off && shaking.has(stage::ANSWERED) {
        shaking.forget(tables);
    }
    goes_to(id)
}

/// A repeated SYN: goes to another backend where the first was silent for long, has refused, or takes no new flows any more.
#[inline(always)]
fn move_on<T: Tables>(packet: &Packet, shaking: &Shaking<'_>, tables: &T) {
    let who = &shaking.place.who;
    if shaking.has(stage::ANSWERED) {
        return;
    }
    let id = who.backend_id.get();
    let waited = idle(tables.now(), shaking.place.attempt.get());
    let is_out = tables.backend(id).is_none_or(|backend| backend.flags & Backend::ELIGIBLE == 0);
    if !is_out && waited < tables.patience() && !shaking.has(stage::REFUSED) {
        return;
    }
    let Some(service) = tables.service(&packet.target) else { return };
    let other = tables.another(number_of(packet.source), table_of(&service), id, who.state[0].get());
    if other == 0 {
        // Nobody else is free: what refuses next time, the client shall hear.
        who.state[0].set(MOVES);
        return;
    }
    if let Some(backend) = tables.backend(other) {
        shaking.redirect(tables, (backend.address, backend.port), other);
        tables.count(Reason::Redispatched);
    }
}

/// Whether a refused handshake can go to another backend.
#[inline(always)]
pub fn can_move<T: Tables>(packet: &Packet, shaking: &Shaking<'_>, tables: &T) -> bool {
    let who = &shaking.place.who;
    let moves = who.state[0].get();
    if moves >= MOVES {
        return false;
    }
    let vip = Endpoint { address: who.vip.get(), port: who.vip_port.get(), protocol: who.protocol.get(), zero: 0 };
    let Some(service) = tables.service(&vip) else { return false };
    tables.has_other(number_of(packet.target), table_of(&service), who.backend_id.get(), moves) != 0
}

/// A packet for a service, of no flow.
#[inline(always)]
fn admit<T: Tables>(packet: &Packet, segment: &Segment, service: &Service, is_alone: bool, tables: &T) -> Decision {
    let client = number_of(packet.source);
    let kept_away = keeps_away(packet, service, tables);
    if kept_away != 0 {
        return kept_away;
    }
    let chosen =
        if is_alone { first_choice(tables, client, service) } else { tables.select(client, table_of(service)) };
    // RFC 9293, section 3.10.7.1: a RST is never answered by a RST.
    if chosen == ends(Reason::NoBackend) && packet.flags & RST == 0 && service.flags & Service::DROPS == 0 {
        return ends(Reason::NoBackendReset);
    }
    if is_sent(chosen) && packet.founds() {
        // What is first seen in mid-life is neither timed nor counted.
        let kind = if packet.opens() { kind_of(service) } else { kind::MIDLIFE };
        let birth = birth_of(target_of(chosen), kind, packet.length);
        // Where the place is being claimed at this instant by another, the packet still goes its way.
        tables.begin(client, number_of(packet.target), way_of(packet.from, segment.nic), birth);
    }
    chosen
}

/// A packet to an address that may be a VIP, on a port that no service has: refused where the address is
/// one that we announce, so that nothing else on the gateway is reached through it.
#[inline(always)]
fn unserved<T: Tables>(packet: &Packet, fault: Decision, tables: &T) -> Decision {
    match tables.vip(packet.target.address) {
        Some(vip) if vip.flags & Vip::ANNOUNCED != 0 => {}
        _ => return ends(Reason::Foreign),
    }
    if fault != 0 {
        return fault;
    }
    ends(if packet.flags & RST == 0 { Reason::UnservedReset } else { Reason::Unserved })
}
