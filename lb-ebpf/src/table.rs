//! What the packet path may ask of the maps, and the shape in which it sees a flow.

use core::cell::Cell;

use lb_common::{Address4, Backend, BackendId, Endpoint, Flow, Mac, Nic, Port, Reason, Service, Side, Vip};

/// Idle times in jiffies after which a flow's place may be taken.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Not both sides have spoken.
    pub syn: u32,
    /// Both have.
    pub established: u32,
    /// Both sent FIN, or one sent RST.
    pub fin: u32,
}

/// How the flow table is made.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Sets of the table.
    pub sets: u32,
    /// The secret of its hash.
    pub seed: u64,
}

/// A place of the flow table, which other CPUs read and write at the same time.
///
/// Every field is read and written whole; two CPUs that count at once may lose one count. What must
/// not be torn, who talks to whom, is written only while the place's tag hides it.
#[repr(C)]
pub struct Place {
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
    /// See [`Flow::state`].
    pub state: Cell<u8>,
    /// See [`Flow::nic`].
    pub nic: Cell<u16>,
    /// See [`Flow::client_mac`].
    pub client_mac: Cell<Mac>,
    /// Always zero.
    pub zero: Cell<[u8; 2]>,
    /// See [`Flow::seen`].
    pub seen: Cell<u32>,
    /// See [`Flow::created`].
    pub created: Cell<u32>,
    /// See [`Flow::packets`].
    pub packets: [Cell<u32>; 2],
    /// See [`Flow::bytes`].
    pub bytes: [Cell<u64>; 2],
}

const _: () = assert!(size_of::<Place>() == size_of::<Flow>() && align_of::<Place>() == align_of::<Flow>());

/// The maps.
pub trait Tables {
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
    /// Who stands on a slot of a service's table, 0 for nobody.
    fn slot(&self, service: &Service, slot: u32) -> BackendId;
    /// A backend.
    fn backend(&self, id: BackendId) -> Option<Backend>;
    /// A NIC.
    fn nic(&self, index: u16) -> Option<Nic>;

    /// How the flow table is made.
    fn shape(&self) -> Shape;
    /// The tags of a set, four a word.
    fn tags(&self, set: u32) -> Option<[u64; 2]>;
    /// The place `way` of `set`.
    fn place(&self, set: u32, way: u32) -> Option<&Place>;
    /// Makes the tag of a place `new` if it still is `old`, against all CPUs at once.
    fn swap_tag(&self, set: u32, way: u32, old: u16, new: u16) -> bool;
    /// Makes the tag of a place that the caller has claimed `new`.
    fn set_tag(&self, set: u32, way: u32, new: u16);

    /// Keeps the writes before it before those after it; on x86-64 the order of the program is that of other CPUs.
    fn fence(&self);

    /// Jiffies, low half.
    fn now(&self) -> u32;
    /// When flows expire.
    fn timeouts(&self) -> Timeouts;
    /// Counts one end of a packet, or a note.
    fn count(&self, reason: Reason);
    /// Counts one packet of `octets` octets to or from a backend.
    fn traffic(&self, id: BackendId, side: Side, octets: u16);
}
