//! The live table: flows that both sides have proved, how they are found from either side, and who makes room.
//!
//! A flow stands in one of three sets. The first lies in a small part of the table, the *near* sets:
//! as long as there are few flows they stand close together, and cost few cache lines and pages.
//! The other two lie anywhere, and the emptier one is taken.
//!
//! Readers take no lock. A writer claims a place by its tag, writes the flow, and then its tag.
//! Who held the place before was over, or was idle longest of its set.

use lb_common::{BackendId, Endpoint, Reason, SKEW, ended, idle, kind, limits};

use super::{
    spot::{CLAIMED, NEAR, Peer, Spot, client_of, lowest, number_of, room, tag_of, zeros},
    table::{NOBODY, NOWHERE, Place, Tables},
    verifier::{masked, times},
};

/// A place that holds a flow.
pub struct Found<'t> {
    /// The flow.
    pub place: &'t Place,
    number: u32,
    tag: u16,
}

impl Spot {
    /// The number of the place of this client's live flow with a peer, [`NOWHERE`] or [`NOBODY`].
    #[inline(always)]
    pub fn search<T: Tables>(&self, tables: &T, client: Endpoint, peer: Peer) -> u32 {
        let mut others = NOBODY;
        let [near, second, third] = self.sets;
        // Written out: what is indexed in a loop would stand on the stack.
        let found = self.look(tables, near, client, peer, &mut others);
        if found < NOBODY {
            return found;
        }
        let found = self.look(tables, second, client, peer, &mut others);
        if found < NOBODY {
            return found;
        }
        self.look(tables, third, client, peer, &mut others)
    }

    /// [`search`](Self::search) in one set; `others` becomes [`NOWHERE`] where the client may have another flow.
    #[inline(always)]
    fn look<T: Tables>(&self, tables: &T, set: u32, client: Endpoint, peer: Peer, others: &mut u32) -> u32 {
        let pattern = self.pattern();
        let Some([low, high]) = tables.tags(set) else { return *others };
        // Flows of one client share a tag, so every hit is looked at: those of both words in one loop, the
        // second word's one bit lower.
        let mut hits = zeros(low ^ pattern) | zeros(high ^ pattern) >> 1;
        for _ in 0..times::<8>() {
            if hits == 0 {
                break;
            }
            let hit = hits & hits.wrapping_neg();
            hits ^= hit;
            let upper = masked::<1>((hit & SECOND != 0) as u64) as u64;
            let number = number(set, (upper as u32) << 2 | lowest(hit << upper));
            let Some(place) = tables.place(number) else { break };
            if place.who.holds(client, peer) {
                return number;
            }
            // It may be another client's, by chance: then somebody looks once more for nothing.
            *others = NOWHERE;
        }
        *others
    }

    /// The live flow of this client with a peer, where few packets come.
    #[inline(always)]
    pub fn seek<'t, T: Tables>(&self, tables: &'t T, client: Endpoint, peer: Peer) -> Option<Found<'t>> {
        let number = tables.seek(number_of(client), peer.number());
        Some(Found { place: tables.place(number)?, number, tag: self.tag })
    }

    /// Claims an empty place: near, else in the emptier far set.
    #[inline(always)]
    fn empty<T: Tables>(&self, tables: &T) -> Option<u32> {
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
                    return Some(number(set, way));
                }
            }
        }
        None
    }

    /// Claims the place of a flow that is over, else of the one idle longest, in one set.
    ///
    /// One set and not all three: eight flows are eight cache lines from memory, and the oldest of eight
    /// is older than 88 in 100. Which one it is follows the sizes of the near and the far part, so that
    /// flows are evicted alike wherever they stand.
    #[inline(always)]
    fn oldest<T: Tables>(&self, tables: &T, now: u32) -> Option<u32> {
        let [near, far, _] = self.sets;
        let set = if ((self.tag >> 4) as u32).is_multiple_of(NEAR) { near } else { far };
        let words = tables.tags(set)?;
        let mut best = 0;
        for way in 0..times::<WAYS>() {
            let place = tables.place(number(set, way))?;
            let limit = tables.timeouts(place.who.backend_id.get()).of(shown(place));
            best = longer(best, candidate(tag_of(words, way), since(now, place.seen.get()), limit, way));
        }
        let way = (best & 7) as u32;
        let tag = tag_of(words, way);
        if best == 0 || tag <= CLAIMED || !tables.swap_tag(set, way, tag, CLAIMED) {
            return None;
        }
        if best & EXPIRED == 0 {
            tables.count(Reason::FlowEvicted);
        }
        Some(number(set, way))
    }
}

/// [`Calls::seek`](super::table::Calls::seek).
#[inline(always)]
pub fn seek<T: Tables>(tables: &T, client: u64, peer: u64) -> u32 {
    let client = client_of(client);
    Spot::of(tables.shape(), client).search(tables, client, Peer::of(peer))
}

/// [`Calls::claim`](super::table::Calls::claim).
#[inline(always)]
pub fn claim<T: Tables>(tables: &T, client: u64) -> u32 {
    let spot = Spot::of(tables.shape(), client_of(client));
    let mut at = spot.empty(tables);
    if at.is_none() {
        at = spot.oldest(tables, tables.now());
    }
    at.unwrap_or(NOWHERE)
}

/// The number of a place.
#[inline(always)]
fn number(set: u32, way: u32) -> u32 {
    set.wrapping_mul(WAYS).wrapping_add(way)
}

const WAYS: u32 = limits::WAYS as u32;
/// The bits of a set's second word, one lower than they were.
const SECOND: u64 = 0x4000_4000_4000_4000;

/// In a [`candidate`]: the flow is idle beyond its timeout.
const EXPIRED: u64 = 1 << 60;

/// How well a place can be spared, and where it is: expired before live, then by idle time; 0 where there is no flow.
///
/// Plain arithmetic without a branch: a branch for each place is a path more for each to the verifier.
#[inline(always)]
fn candidate(tag: u16, idle: u32, limit: u32, at: u32) -> u64 {
    // 1 for tags above CLAIMED.
    let flow = ((tag >> 1) as u64).wrapping_add(0x7fff) >> 15;
    let expired = (limit as u64).wrapping_add(SKEW as u64).wrapping_sub(idle as u64) >> 63;
    (expired.wrapping_mul(EXPIRED) | (idle as u64) << 8 | 0x80 | at as u64).wrapping_mul(flow)
}

/// The larger of two numbers below 2⁶², without a branch.
#[inline(always)]
fn longer(a: u64, b: u64) -> u64 {
    let difference = a.wrapping_sub(b);
    let below = masked::<1>(difference >> 63) as u64;
    a.wrapping_sub(difference & below.wrapping_neg())
}

/// Jiffies since a flow was seen, and [`SKEW`] more, so that a flow seen in the near future is not idle for 2³².
#[inline(always)]
fn since(now: u32, seen: u32) -> u32 {
    now.wrapping_add(SKEW).wrapping_sub(seen)
}

impl Found<'_> {
    /// Frees the place.
    #[inline(always)]
    pub fn release<T: Tables>(&self, tables: &T) {
        tables.swap_tag(self.number / WAYS, self.number % WAYS, self.tag, 0);
    }
}

/// What both sides of a flow have shown.
#[inline(always)]
pub fn shown(place: &Place) -> [u8; 2] {
    [place.who.state[0].get(), place.who.state[1].get()]
}

/// The flow has ended, or was idle beyond its timeout.
#[inline(always)]
pub fn over<T: Tables>(place: &Place, tables: &T) -> bool {
    let state = shown(place);
    ended(state) || idle(tables.now(), place.seen.get()) > tables.timeouts(place.who.backend_id.get()).of(state)
}

/// The backend of a flow, 0 where it was opened directly.
#[inline(always)]
pub fn backend_of(place: &Place) -> BackendId {
    place.who.backend_id.get()
}

/// Whether the flow was opened directly to its backend.
#[inline(always)]
pub fn is_direct(place: &Place) -> bool {
    place.who.kind.get() & kind::DIRECT != 0
}
