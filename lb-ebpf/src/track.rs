//! The flow table: where a flow stands, how it is found from either side, and who makes room.
//!
//! A flow stands in one of three sets. The first lies in a small part of the table, the *near* sets:
//! as long as there are few flows they stand close together, and cost few cache lines and pages.
//! The other two lie anywhere, and the emptier one is taken. All three come from the hash of the
//! client alone, which requests and replies both name, so there is one entry for both directions,
//! no half of it can be lost, and a conflict between two VIPs on the same backend is seen.
//!
//! Readers take no lock. A writer claims a place by its tag ([`CLAIMED`] matches no flow), writes
//! the flow, and then its tag. Who held the place before had expired, or was idle longest of its set.

use lb_common::{Address4, Endpoint, Flow, Port, Reason, Side, flow_hash, limits, state};

use super::{
    header,
    parse::Packet,
    table::{Place, Shape, Tables, Timeouts},
    verifier::{masked, times},
};

/// The tag of a place that is being written.
const CLAIMED: u16 = 1;
/// Jiffies by which a flow may seem to have spoken in the future: another CPU noted it after we asked for the time.
const SKEW: u32 = 10_000;
/// Near sets are one in this many.
const NEAR: u32 = 8;
/// One in each lane of a word of tags.
const LANES: u64 = 0x0001_0001_0001_0001;
/// The high bit of each lane.
const HIGHS: u64 = 0x8000_8000_8000_8000;
/// Multiplied with 1 << 16 × lane, it has the lane in its two highest bits.
const LANE: u64 = 1 << 46 | 2 << 30 | 3 << 14;

/// Where a client's flows may stand.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    sets: [u32; 3],
    tag: u16,
}

/// What a place must hold to be the flow that is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// From the client's side: the VIP and its port.
    Vip(Address4, Port),
    /// From the backend's side: its address and port.
    Backend(Address4, Port),
}

/// A place that holds a flow.
pub struct Found<'t> {
    /// The flow.
    pub place: &'t Place,
    /// Its set and way, to free it.
    at: (u32, u32),
    /// The tag it stands under.
    tag: u16,
}

impl Spot {
    /// Where the flows of a client stand.
    #[inline(always)]
    pub fn of(shape: Shape, client: Endpoint) -> Self {
        let hash = flow_hash(client.address, client.port, client.protocol, shape.seed);
        let near = shape.sets / NEAR;
        // Three multiply-shifts over halves of the hash that overlap: the near set and the first far
        // set may go together, the two far sets must not.
        let first = reduce(hash as u32, near);
        let second = reduce((hash >> 16) as u32, shape.sets.wrapping_sub(near)).wrapping_add(near);
        let third = reduce((hash as u32).wrapping_mul(0x9e37_79b1), shape.sets.wrapping_sub(near)).wrapping_add(near);
        // 0 is an empty place and 1 a claimed one.
        let tag = ((hash >> 48) as u16) | 2;
        Self { sets: [first, second, third], tag }
    }

    /// The flow of this client with a peer.
    #[inline(always)]
    pub fn find<'t, T: Tables>(&self, tables: &'t T, client: Endpoint, peer: Peer) -> Option<Found<'t>> {
        let pattern = (self.tag as u64).wrapping_mul(LANES);
        for set in self.sets {
            for (half, word) in tables.tags(set)?.into_iter().enumerate() {
                // Flows of one client share a tag, so every hit is looked at.
                let mut hits = zeros(word ^ pattern);
                for _ in 0..times::<4>() {
                    if hits == 0 {
                        break;
                    }
                    let way = (half as u32).wrapping_mul(4).wrapping_add(lowest(hits));
                    hits &= hits.wrapping_sub(1);
                    let place = tables.place(set, way)?;
                    if holds(place, client, peer) {
                        return Some(Found { place, at: (set, way), tag: self.tag });
                    }
                }
            }
        }
        None
    }

    /// [`find`](Self::find) where few packets come: code is shared instead of inlined.
    #[inline(never)]
    pub fn seek<'t, T: Tables>(&self, tables: &'t T, client: Endpoint, peer: Peer) -> Option<Found<'t>> {
        self.find(tables, client, peer)
    }

    /// Backends that this client and port talk to now, the first few; flows that are over are freed.
    #[inline(always)]
    pub fn backends_of<T: Tables>(&self, tables: &T, client: Endpoint) -> [(Address4, Port); 2] {
        let pattern = (self.tag as u64).wrapping_mul(LANES);
        let nobody = (Address4([0; 4]), Port([0; 2]));
        let mut backends = [nobody; 2];
        for set in self.sets {
            let Some(words) = tables.tags(set) else { break };
            for (half, word) in words.into_iter().enumerate() {
                let mut hits = zeros(word ^ pattern);
                for _ in 0..times::<4>() {
                    if hits == 0 {
                        break;
                    }
                    let way = (half as u32).wrapping_mul(4).wrapping_add(lowest(hits));
                    hits &= hits.wrapping_sub(1);
                    let Some(place) = tables.place(set, way) else { break };
                    if place.client.get() != client.address || place.client_port.get() != client.port {
                        continue;
                    }
                    if over(place, tables) {
                        tables.swap_tag(set, way, self.tag, 0);
                    } else {
                        backends = [(place.backend.get(), place.backend_port.get()), backends[0]];
                    }
                }
            }
        }
        backends
    }

    /// Gives a new flow its place: an empty one, else an ended or expired one, else that of the flow idle longest.
    #[inline(never)]
    pub fn insert<T: Tables>(&self, tables: &T, flow: &Flow) -> Option<()> {
        let mut at = self.empty(tables);
        if at.is_none() {
            at = self.oldest(tables, flow.seen);
        }
        let (set, way) = at?;
        let place = tables.place(set, way)?;
        // Who finds the place by its old tag from now on sees no client of theirs in it.
        place.client.set(Address4([0; 4]));
        tables.fence();
        fill(place, flow);
        tables.fence();
        place.client.set(flow.client);
        tables.fence();
        tables.set_tag(set, way, self.tag);
        Some(())
    }

    /// Claims an empty place: near, else in the emptier far set.
    #[inline(always)]
    fn empty<T: Tables>(&self, tables: &T) -> Option<(u32, u32)> {
        let [near, second, third] = self.sets;
        let (far, other) =
            if room(tables.tags(second)?) >= room(tables.tags(third)?) { (second, third) } else { (third, second) };
        for set in [near, far, other] {
            for (half, word) in tables.tags(set)?.into_iter().enumerate() {
                let hits = zeros(word);
                if hits == 0 {
                    continue;
                }
                let way = (half as u32).wrapping_mul(4).wrapping_add(lowest(hits));
                if tables.swap_tag(set, way, 0, CLAIMED) {
                    return Some((set, way));
                }
            }
        }
        None
    }

    /// Claims the place of a flow that has expired, else of the one idle longest, in one set.
    ///
    /// One set and not all three: eight flows are eight cache lines from memory, and the oldest of eight
    /// is older than 88 in 100. Which one it is follows the sizes of the near and the far part, so that
    /// flows are evicted alike wherever they stand.
    #[inline(always)]
    fn oldest<T: Tables>(&self, tables: &T, now: u32) -> Option<(u32, u32)> {
        let timeouts = tables.timeouts();
        let [near, far, _] = self.sets;
        let set = if ((self.tag >> 4) as u32).is_multiple_of(NEAR) { near } else { far };
        let words = tables.tags(set)?;
        let mut best = 0;
        for way in 0..times::<{ limits::WAYS as u32 }>() {
            let place = tables.place(set, way)?;
            let idle = idle(now, place.seen.get());
            let limit = timeouts.of(place.state.get()).wrapping_add(SKEW);
            best = longer(best, candidate(tag_of(words, way), idle, limit, way));
        }
        let way = (best & 7) as u32;
        let tag = tag_of(words, way);
        if best == 0 || tag <= CLAIMED || !tables.swap_tag(set, way, tag, CLAIMED) {
            return None;
        }
        if best & EXPIRED == 0 {
            tables.count(Reason::FlowEvicted);
        }
        Some((set, way))
    }
}

/// In a [`candidate`]: the flow is idle beyond its timeout.
const EXPIRED: u64 = 1 << 60;

/// How well a place can be spared, and where it is: expired before live, then by idle time; 0 where there is no flow.
///
/// Plain arithmetic without a branch: a branch for each place is a path more for each to the verifier.
#[inline(always)]
fn candidate(tag: u16, idle: u32, limit: u32, at: u32) -> u64 {
    // 1 for tags above CLAIMED.
    let flow = ((tag >> 1) as u64).wrapping_add(0x7fff) >> 15;
    let expired = (limit as u64).wrapping_sub(idle as u64) >> 63;
    (expired.wrapping_mul(EXPIRED) | (idle as u64) << 8 | 0x80 | at as u64).wrapping_mul(flow)
}

/// The larger of two numbers below 2⁶², without a branch.
#[inline(always)]
fn longer(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    let below = masked::<1>(difference >> 63) as u64;
    a.wrapping_sub(difference & below.wrapping_neg())
}

/// The tag of one place of a set.
#[inline(always)]
fn tag_of([low, high]: [u64; 2], way: u32) -> u16 {
    let word = if way & 4 == 0 { low } else { high };
    (word >> ((way & 3) << 4)) as u16
}

impl Found<'_> {
    /// Frees the place.
    #[inline(always)]
    pub fn release<T: Tables>(&self, tables: &T) {
        tables.swap_tag(self.at.0, self.at.1, self.tag, 0);
    }
}

impl Timeouts {
    /// How long a flow in a state may be idle.
    #[inline(always)]
    pub fn of(&self, state: u8) -> u32 {
        if ended(state) {
            self.fin
        } else if state & state::CLIENT_SPOKE != 0 && state & (state::BACKEND_SPOKE | state::DIRECT) != 0 {
            self.established
        } else {
            self.syn
        }
    }
}

/// Notes on a flow that a packet passed.
#[inline(always)]
pub fn note(place: &Place, packet: &Packet, side: Side, now: u32) {
    // What does not change is not written: a line that both directions only read stays in both caches.
    if place.seen.get() != now {
        place.seen.set(now);
    }
    let (spoke, fin) = match side {
        Side::Client if packet.opens() => (0, state::CLIENT_FIN),
        Side::Client => (state::CLIENT_SPOKE, state::CLIENT_FIN),
        Side::Backend => (state::BACKEND_SPOKE, state::BACKEND_FIN),
    };
    let old = place.state.get();
    let mut new = old;
    if packet.flags & header::RST != 0 {
        new |= state::RESET;
    } else {
        new |= spoke;
    }
    if packet.flags & header::FIN != 0 {
        new |= fin;
    }
    if new != old {
        place.state.set(new);
    }
    let index = side as usize;
    let (packets, bytes) = (&place.packets[index], &place.bytes[index]);
    packets.set(packets.get().wrapping_add(1));
    bytes.set(bytes.get().wrapping_add(packet.length as u64));
}

/// Both sides have finished, or one broke off.
#[inline(always)]
pub fn ended(state: u8) -> bool {
    const FINS: u8 = state::CLIENT_FIN | state::BACKEND_FIN;
    state & state::RESET != 0 || state & FINS == FINS
}

/// The flow has ended, or was idle beyond its timeout.
#[inline(always)]
pub fn over<T: Tables>(place: &Place, tables: &T) -> bool {
    let state = place.state.get();
    ended(state) || idle(tables.now(), place.seen.get()) > tables.timeouts().of(state).wrapping_add(SKEW)
}

/// Jiffies since a flow was seen, and [`SKEW`] more, so that a flow seen in the near future is not idle for 2³².
#[inline(always)]
fn idle(now: u32, seen: u32) -> u32 {
    now.wrapping_add(SKEW).wrapping_sub(seen)
}

/// The place holds this client's flow with this peer.
#[inline(always)]
fn holds(place: &Place, client: Endpoint, peer: Peer) -> bool {
    place.client.get() == client.address
        && place.client_port.get() == client.port
        && match peer {
            Peer::Vip(vip, port) => place.vip.get() == vip && place.vip_port.get() == port,
            Peer::Backend(backend, port) => place.backend.get() == backend && place.backend_port.get() == port,
        }
}

#[inline(always)]
fn fill(place: &Place, flow: &Flow) {
    place.client_port.set(flow.client_port);
    place.vip_port.set(flow.vip_port);
    place.vip.set(flow.vip);
    place.backend.set(flow.backend);
    place.backend_port.set(flow.backend_port);
    place.backend_id.set(flow.backend_id);
    place.protocol.set(flow.protocol);
    place.state.set(flow.state);
    place.nic.set(flow.nic);
    place.client_mac.set(flow.client_mac);
    place.zero.set([0; 2]);
    place.seen.set(flow.seen);
    place.created.set(flow.created);
    for side in [Side::Client, Side::Backend] {
        let index = side as usize;
        place.packets[index].set(flow.packets[index]);
        place.bytes[index].set(flow.bytes[index]);
    }
}

/// A 32-bit hash as a number below `range`.
#[inline(always)]
fn reduce(hash: u32, range: u32) -> u32 {
    ((hash as u64).wrapping_mul(range as u64) >> 32) as u32
}

/// The lanes of a word that are zero, by their high bits.
///
/// The classic `(x - 1) & !x & high`: it misses no zero lane, and its lowest hit is one; a higher hit
/// may be a borrow, so who takes more than the lowest looks for himself.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LANES) & !word & HIGHS
}

/// The lane of the lowest of some hits. BPF cannot count trailing zeros; one product does it here.
#[inline(always)]
fn lowest(hits: u64) -> u32 {
    (((hits & hits.wrapping_neg()) >> 15).wrapping_mul(LANE) >> 62) as u32
}

/// How many of a set's places are empty, give or take the borrows of [`zeros`]: good enough to balance by.
#[inline(always)]
fn room([low, high]: [u64; 2]) -> u64 {
    // One bit a lane; the product's highest lane is their sum.
    let count = |word| (zeros(word) >> 15).wrapping_mul(LANES) >> 48;
    count(low).wrapping_add(count(high))
}
