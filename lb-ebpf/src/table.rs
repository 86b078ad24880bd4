//! What the packet path may ask of the maps, and the shape in which it sees a flow.

use core::cell::Cell;

use lb_common::{
    Address4, Backend, BackendId, Endpoint, Flow, Half, Limits, Mac, Nic, Origin, Port, Reason, Service, Side, Source,
    Timeouts, Vip,
};

use super::decision::Decision;

/// How the flow tables are made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sets of the live table.
    pub sets: u32,
    /// Sets of the half-open table.
    pub half_sets: u32,
    /// The secret of their hash.
    pub seed: u64,
}

/// Who a flow is and where its client is: how an entry of either table begins.
///
/// Other CPUs read and write entries at the same time. Every field is read and written whole; two CPUs
/// that count at once may lose one count. What must not be torn, who talks to whom, is written only while
/// the entry's tag hides it.
#[repr(C)]
pub struct Identity {
    /// See [`Flow::client`].
    pub client: Cell<Address4>,
    /// See [`Flow::client_port`].
    pub client_port: Cell<Port>,
    /// See [`Flow::vip_port`].
    pub vip_port: Cell<Port>,
    /// See [`Flow::vip`].
    pub vip: Cell<Address4>,
    /// See [`Flow::backend`].
    pub backend: Cell<Address4>,
    /// See [`Flow::backend_port`].
    pub backend_port: Cell<Port>,
    /// See [`Flow::backend_id`].
    pub backend_id: Cell<BackendId>,
    /// See [`Flow::protocol`].
    pub protocol: Cell<u8>,
    /// See [`Flow::kind`].
    pub kind: Cell<u8>,
    /// See [`Flow::state`] and [`Half::state`].
    pub state: [Cell<u8>; 2],
    /// See [`Flow::nic`].
    pub nic: Cell<u16>,
    /// See [`Flow::client_mac`].
    pub client_mac: Cell<Mac>,
}

/// A place of the live table.
#[repr(C)]
pub struct Place {
    /// Whose it is.
    pub who: Identity,
    /// See [`Flow::seen`].
    pub seen: Cell<u32>,
    /// See [`Flow::created`].
    pub created: Cell<u32>,
    /// See [`Flow::packets`].
    pub packets: [Cell<u32>; 2],
    /// See [`Flow::bytes`].
    pub bytes: [Cell<u64>; 2],
}

/// A place of the half-open table.
#[repr(C)]
pub struct HalfPlace {
    /// Whose it is.
    pub who: Identity,
    /// See [`Half::created`].
    pub created: Cell<u32>,
    /// See [`Half::attempt`].
    pub attempt: Cell<u32>,
    /// See [`Half::isns`].
    pub isns: [Cell<u32>; 2],
    /// See [`Half::expected`].
    pub expected: Cell<u32>,
    /// See [`Half::micros`].
    pub micros: Cell<u32>,
    /// See [`Half::sent`].
    pub sent: Cell<u16>,
    /// See [`Half::packets`].
    pub packets: [Cell<u8>; 2],
    /// See [`Half::bytes`].
    pub bytes: [Cell<u16>; 2],
}

/// A first byte that is waited for.
#[repr(C)]
pub struct Pending {
    /// Whose, by a part of its hash.
    pub key: Cell<u32>,
    /// Since when: microseconds of the monotonic clock, low half.
    pub micros: Cell<u32>,
}

const _: () = assert!(size_of::<Place>() == size_of::<Flow>() && align_of::<Place>() == align_of::<Flow>());
const _: () = assert!(size_of::<HalfPlace>() == size_of::<Half>() && align_of::<HalfPlace>() == align_of::<Half>());

/// No place: the client and port have other entries, but not this one.
pub const NOWHERE: u32 = u32::MAX;
/// No place: the client and port have no entry at all.
pub const NOBODY: u32 = u32::MAX - 1;

/// What loops over sets and slots, by numbers alone: on BPF each is a function that the verifier looks at by
/// itself, once, and not once more for every way that leads to it. What they do stands in the files named.
pub trait Calls {
    /// The place of a client's live flow with a peer ([`track`](super::track)).
    fn seek(&self, client: u64, peer: u64) -> u32;
    /// The place of a client's handshake with a peer ([`half`](super::half)).
    fn seek_half(&self, client: u64, peer: u64) -> u32;
    /// Claims a place for a new live flow of a client ([`track`](super::track)).
    fn claim(&self, client: u64) -> u32;
    /// Frees the place of a handshake that came to nothing, while it has this tag; 0 where it has not ([`half`](super::half)).
    fn forget(&self, half: u32, tag: u16, stays: u8) -> u32;
    /// Notes the beginning of a flow of a client with a VIP; 0 where there was no place ([`enter`](super::enter)).
    fn begin(&self, client: u64, vip: u64, way: u64, birth: u64) -> u32;
    /// Takes the handshake at a place into the live table, with a packet; 0 where there was no place ([`enter`](super::enter)).
    fn promote(&self, client: u64, half: u32, mark: u64, is_backend: u8) -> u32;
    /// Why a client may not open a connection now; 0 where it may ([`admit`](super::admit)).
    fn keeps_away(&self, client: u64, rules: u64, opens: u8) -> Decision;
    /// The backend for a client on a table ([`select`](super::select)).
    fn select(&self, client: u64, table: u64) -> Decision;
    /// Whether a client and port do not talk to a backend ([`select`](super::select)).
    fn is_free(&self, client: u64, peer: u64) -> u8;
    /// Another backend than `id` for a client that was moved before ([`select`](super::select)).
    fn another(&self, client: u64, table: u64, id: BackendId, moves: u8) -> BackendId;
    /// Whether a table has another backend than `id`, free or not ([`select`](super::select)).
    fn has_other(&self, client: u64, table: u64, id: BackendId, moves: u8) -> u8;
}

/// The maps.
pub trait Tables: Calls {
    /// What may be at an address: bits of [`lb_common::filter`].
    fn filter(&self, address: Address4) -> u8;
    /// The service on an endpoint.
    fn service(&self, endpoint: &Endpoint) -> Option<Service>;
    /// What is served on an address.
    fn vip(&self, address: Address4) -> Option<Vip>;
    /// Replies may come from this endpoint.
    fn is_backend(&self, endpoint: &Endpoint) -> bool;
    /// The address is the gateway's own.
    fn is_local(&self, address: Address4) -> bool;
    /// Who stands on a slot of a table of so many slots, 0 for nobody.
    fn slot(&self, slots: u32, table: u16, slot: u32) -> BackendId;
    /// A backend.
    fn backend(&self, id: BackendId) -> Option<Backend>;
    /// When a backend's flows are over.
    fn timeouts(&self, id: BackendId) -> Timeouts;
    /// A NIC.
    fn nic(&self, index: u16) -> Option<Nic>;

    /// What `allow` and `deny` of a service say of a client; 0 where they say nothing.
    fn access(&self, origin: &Origin) -> u32;
    /// A service's limits.
    fn limits(&self, service: u16) -> Option<Limits>;
    /// When a service's next connection is due, in 2⁻²⁰ jiffies.
    fn due(&self, service: u16) -> Option<&Cell<u64>>;
    /// How many connections a client's address has with a service.
    fn connections(&self, source: &Source) -> u32;
    /// Counts one more connection of a client's address, or one less.
    fn count_connection(&self, source: &Source, more: bool);

    /// How the flow tables are made.
    fn shape(&self) -> Shape;
    /// The tags of a set of the live table, four a word.
    fn tags(&self, set: u32) -> Option<[u64; 2]>;
    /// A place: those of `set` begin at `set` × [`WAYS`](lb_common::limits::WAYS).
    fn place(&self, number: u32) -> Option<&Place>;
    /// Makes the tag of a place `new` if it still is `old`, against all CPUs at once.
    fn swap_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool;
    /// Makes the tag of a place that the caller has claimed `new`.
    fn set_tag(&self, set: u32, way: u32, new: u16);
    /// The tags of a set of the half-open table; the last lane says which place goes next.
    fn half_tags(&self, set: u32) -> Option<[u64; 2]>;
    /// A half-open place: those of `set` begin at `set` × [`HALF_WAYS`](lb_common::limits::HALF_WAYS).
    fn half(&self, number: u32) -> Option<&HalfPlace>;
    /// As [`swap_tag`](Self::swap_tag), in the half-open table.
    fn swap_half_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool;
    /// Makes a lane of a half-open set's tags `new`.
    fn set_half_tag(&self, set: u32, lane: u32, new: u16);

    /// Keeps the writes before it before those after it; on x86-64 the order of the program is that of other CPUs.
    fn fence(&self);

    /// Jiffies, low half.
    fn now(&self) -> u32;
    /// Jiffies.
    fn jiffies(&self) -> u64;
    /// Jiffies after which a repeated SYN without an answer goes to another backend.
    fn patience(&self) -> u32;
    /// Microseconds of the monotonic clock, low half.
    fn micros(&self) -> u32;
    /// Where first bytes are waited for.
    fn pending(&self, index: u32) -> Option<&Pending>;
    /// A backend took so long.
    fn took(&self, id: BackendId, micros: u32);

    /// Counts one end of a packet, or a note.
    fn count(&self, reason: Reason);
    /// Counts one packet of `octets` octets to or from a backend.
    fn traffic(&self, id: BackendId, side: Side, octets: u16);
}
