//! The half-open table: handshakes, and flows seen in mid-life whose backends have not spoken yet.
//!
//! Anybody can send SYNs and ACKs with any address in them, so nothing of theirs enters the live table
//! unproved. What proves a client is an acknowledgment of what its backend has sent, for one of its last two
//! initial sequence numbers (a backend under attack answers with SYN cookies, each time with another number; with
//! fast open it sends data early). What proves a flow in mid-life is that its backend goes on with it.
//!
//! A new entry takes an empty place of its one set, else the one that was given longest ago: under a
//! flood the table turns over, and a handshake whose entry is lost is found again by hash.

use lb_common::{Address4, Endpoint, Port, Reason, Side, Source, idle, kind, limits, stage};

use super::{
    frame::Frame,
    header::{FIN, SYN, Tcp},
    parse::Packet,
    spot::{CLAIMED, Peer, Spot, client_of, lowest, number_of, tag_of, zeros},
    table::{HalfPlace, NOBODY, NOWHERE, Tables},
    verifier::times,
};

/// The lanes of the second word that are places.
const PLACES: u64 = !(0xffff << 48);

/// The numbers of a packet that matter where few packets come.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// The NIC it came in on: an index into `NICS`.
    pub nic: u16,
    /// Octets of sequence space: data, and one for SYN or FIN.
    pub space: u16,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
}

impl Segment {
    /// Of a packet; a stump has none.
    #[inline(always)]
    pub fn of<F: Frame>(frame: &mut F, packet: &Packet, nic: u16) -> Self {
        // At most 14 + 60; the mask is for the verifier.
        let Some(tcp) = frame.view::<Tcp>((packet.l4 & 0x7f) as usize) else {
            return Self { nic, space: 0, sequence: 0, acknowledgment: 0 };
        };
        let headers = (packet.l4 as u16).wrapping_sub(14).wrapping_add(((tcp.offset >> 4) as u16) << 2);
        let ends = (tcp.flags & SYN != 0) as u16 | (tcp.flags & FIN != 0) as u16;
        Self {
            nic,
            space: packet.length.wrapping_sub(headers).wrapping_add(ends),
            sequence: tcp.sequence.number(),
            acknowledgment: tcp.acknowledgment.number(),
        }
    }
}

/// A place that holds a handshake.
pub struct Shaking<'t> {
    /// The handshake.
    pub place: &'t HalfPlace,
    /// The number of the place.
    pub number: u32,
    tag: u16,
}

const WAYS: u32 = limits::HALF_WAYS as u32;
/// From the flag of TCP to the bit of [`stage`].
const FINISHED_SHIFT: u32 = stage::FINISHED.trailing_zeros() - FIN.trailing_zeros();

/// [`Calls::seek_half`](super::table::Calls::seek_half).
#[inline(always)]
pub fn seek_half<T: Tables>(tables: &T, client: u64, peer: u64) -> u32 {
    let client = client_of(client);
    let spot = Spot::of(tables.shape(), client);
    let (pattern, peer) = (spot.pattern(), Peer::of(peer));
    let Some([low, high]) = tables.half_tags(spot.half) else { return NOWHERE };
    let mut others = NOBODY;
    for (half, word) in [low ^ pattern, high ^ pattern | !PLACES].into_iter().enumerate() {
        let mut hits = zeros(word);
        for _ in 0..times::<4>() {
            if hits == 0 {
                break;
            }
            let way = (half as u32).wrapping_mul(4).wrapping_add(lowest(hits));
            hits &= hits.wrapping_sub(1);
            let number = spot.half.wrapping_mul(WAYS).wrapping_add(way);
            let Some(place) = tables.half(number) else { return NOWHERE };
            if place.who.holds(client, peer) {
                return number;
            }
            others = NOWHERE;
        }
    }
    others
}

/// Claims a place for a new handshake in a set.
#[inline(always)]
pub fn claim_half<T: Tables>(tables: &T, set: u32) -> u32 {
    let Some(tags) = tables.half_tags(set) else { return NOWHERE };
    let [low, high] = tags;
    let (first, second) = (zeros(low), zeros(high | !PLACES));
    let rotor = tag_of(tags, WAYS) as u32 % WAYS;
    let way = if first != 0 {
        lowest(first)
    } else if second != 0 {
        lowest(second).wrapping_add(4)
    } else {
        rotor
    };
    let tag = tag_of(tags, way);
    if tag == CLAIMED || !tables.swap_half_tag(set, way, tag, CLAIMED) {
        return NOWHERE;
    }
    let number = set.wrapping_mul(WAYS).wrapping_add(way);
    if way == rotor {
        // Who takes an empty place here is the youngest, not the next to go.
        tables.set_half_tag(set, WAYS, rotor.wrapping_add(1) as u16);
    }
    if tag != 0 {
        let is_over = tables.half(number).is_none_or(|place| is_over(place, tables));
        if !is_over {
            tables.count(Reason::HalfEvicted);
        }
    }
    number
}

/// [`Calls::forget`](super::table::Calls::forget).
#[inline(always)]
pub fn forget<T: Tables>(tables: &T, number: u32, tag: u16, stays: u8) -> u32 {
    let Some(place) = tables.half(number) else { return 0 };
    let who = &place.who;
    let stage = who.state[1].get();
    if who.kind.get() & kind::COUNTED != 0
        && stage & stage::ENDED == 0
        && let Some(backend) = tables.backend(who.backend_id.get())
    {
        let source = Source { client: who.client.get(), service: backend.service, zero: [0; 2] };
        tables.count_connection(&source, false);
    }
    if stays != 0 {
        let refused = if stage & stage::ANSWERED == 0 { stage::REFUSED } else { 0 };
        who.state[1].set(stage | refused | stage::ENDED);
        return 1;
    }
    tables.swap_half_tag(number / WAYS, number % WAYS, tag, 0) as u32
}

/// The handshake was broken off, or has been under way for too long.
#[inline(always)]
fn is_over<T: Tables>(place: &HalfPlace, tables: &T) -> bool {
    place.who.state[1].get() & stage::ENDED != 0
        || idle(tables.now(), place.created.get()) > tables.timeouts(place.who.backend_id.get()).syn
}

impl Spot {
    /// The handshake of this client with a peer.
    #[inline(always)]
    pub fn shaking<'t, T: Tables>(&self, tables: &'t T, client: Endpoint, peer: Peer) -> Option<Shaking<'t>> {
        self.shaking_at(tables, tables.seek_half(number_of(client), peer.number()))
    }

    /// The handshake at a place.
    #[inline(always)]
    pub fn shaking_at<'t, T: Tables>(&self, tables: &'t T, number: u32) -> Option<Shaking<'t>> {
        Some(Shaking { place: tables.half(number)?, number, tag: self.tag })
    }
}

impl Shaking<'_> {
    /// Frees the place of a handshake that came to nothing.
    #[inline(always)]
    pub fn forget<T: Tables>(&self, tables: &T) {
        tables.forget(self.number, self.tag, 0);
    }

    /// Ends a handshake that its backend broke off; the controller tells of it and frees the place.
    #[inline(always)]
    pub fn end<T: Tables>(&self, tables: &T) {
        tables.forget(self.number, self.tag, 1);
    }

    /// It has been under way for too long.
    #[inline(always)]
    pub fn is_over<T: Tables>(&self, tables: &T) -> bool {
        is_over(self.place, tables)
    }

    /// It has these bits of [`stage`].
    #[inline(always)]
    pub fn has(&self, bits: u8) -> bool {
        self.place.who.state[1].get() & bits != 0
    }

    /// It is of one of these bits of [`kind`].
    #[inline(always)]
    pub fn is(&self, bits: u8) -> bool {
        self.place.who.kind.get() & bits != 0
    }

    /// An acknowledgment number that only the client can know: of something its backend has sent.
    #[inline(always)]
    pub fn proves(&self, acknowledgment: u32) -> bool {
        let [newer, older] = &self.place.isns;
        let beyond = |isn: u32| acknowledgment.wrapping_sub(isn).wrapping_sub(1);
        self.has(stage::ANSWERED) && beyond(newer.get()) < self.place.sent.get() as u32
            || self.has(stage::ANSWERED_TWICE) && beyond(older.get()) < self.place.sent.get() as u32
    }

    /// Counts a packet of one side.
    #[inline(always)]
    pub fn tally(&self, packet: &Packet, side: Side) {
        let (packets, bytes) = match side {
            Side::Client => (&self.place.packets[0], &self.place.bytes[0]),
            Side::Backend => (&self.place.packets[1], &self.place.bytes[1]),
        };
        packets.set(packets.get().saturating_add(1));
        bytes.set(bytes.get().saturating_add(packet.length));
    }

    /// Notes what a backend sent.
    #[inline(always)]
    pub fn hear(&self, packet: &Packet, segment: &Segment) {
        let place = self.place;
        let [newer, older] = &place.isns;
        let is_answered = self.has(stage::ANSWERED);
        if packet.answers() {
            place.expected.set(segment.acknowledgment);
        }
        if packet.answers() && !(is_answered && newer.get() == segment.sequence) {
            let stage = &place.who.state[1];
            older.set(newer.get());
            newer.set(segment.sequence);
            place.sent.set(segment.space);
            stage.set(stage.get() | stage::ANSWERED | if is_answered { stage::ANSWERED_TWICE } else { 0 });
        } else if is_answered {
            let end = segment.sequence.wrapping_add(segment.space as u32).wrapping_sub(newer.get());
            if end <= u16::MAX as u32 {
                if end > place.sent.get() as u32 {
                    place.sent.set(end as u16);
                }
                // A shift and no branch: a branch is a path more for all that comes after it.
                let stage = &place.who.state[1];
                stage.set(stage.get() | (packet.flags & FIN) << FINISHED_SHIFT);
            }
        }
    }

    /// Sends the handshake to another backend.
    #[inline(always)]
    pub fn redirect<T: Tables>(&self, tables: &T, (address, port): (Address4, Port), id: u16) {
        let (place, who) = (self.place, &self.place.who);
        who.backend_id.set(id);
        who.backend.set(address);
        who.backend_port.set(port);
        who.state[0].set(who.state[0].get().saturating_add(1));
        who.state[1].set(stage::MOVED);
        place.attempt.set(tables.now());
        if self.is(kind::HANDSHAKE) {
            place.micros.set(tables.micros());
        }
    }
}
