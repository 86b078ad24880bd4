//! Where a client's flows may stand: the sets and the tag that its hash names, and words of tags.
//!
//! All come from the hash of the client alone, which requests and replies both name: so there is one
//! entry for both directions, no half of it can be lost, and a conflict between two VIPs on the same
//! backend is seen.

use lb_common::{Address4, Endpoint, Port, flow_hash};

use super::table::{Identity, Shape};

/// The tag of a place that is being written; no flow has it.
pub(crate) const CLAIMED: u16 = 1;
/// Near sets are one in this many.
pub(crate) const NEAR: u32 = 8;
/// One in each lane of a word of tags.
const LANES: u64 = 0x0001_0001_0001_0001;
/// The high bit of each lane.
const HIGHS: u64 = 0x8000_8000_8000_8000;
/// Multiplied with 1 << 16 × lane, it has the lane in its two highest bits.
const LANE: u64 = 1 << 46 | 2 << 30 | 3 << 14;

/// Where a client's flows may stand.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    /// Three sets of the live table.
    pub sets: [u32; 3],
    /// The set of the half-open table.
    pub half: u32,
    /// The tag in either.
    pub tag: u16,
    /// What [`Pending`](super::table::Pending) entries are found and known by.
    pub key: u32,
}

/// What an entry must hold to be the flow that is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Peer {
    /// From the client's side: the VIP and its port.
    Vip(Address4, Port),
    /// From the backend's side: its address and port.
    Backend(Address4, Port),
    /// Whoever the client talks to.
    Anybody,
}

impl Peer {
    /// The VIP at an endpoint.
    #[inline(always)]
    pub fn vip(endpoint: Endpoint) -> Self {
        Self::Vip(endpoint.address, endpoint.port)
    }

    /// The backend at an endpoint.
    #[inline(always)]
    pub fn backend(endpoint: Endpoint) -> Self {
        Self::Backend(endpoint.address, endpoint.port)
    }

    /// As one number, for functions that can be given no more.
    #[inline(always)]
    pub fn number(self) -> u64 {
        let (side, address, port) = match self {
            Self::Anybody => (0, Address4([0; 4]), Port([0; 2])),
            Self::Vip(address, port) => (1, address, port),
            Self::Backend(address, port) => (2, address, port),
        };
        side << 48 | (u16::from_ne_bytes(port.0) as u64) << 32 | u32::from_ne_bytes(address.0) as u64
    }

    /// The peer of a number.
    #[inline(always)]
    pub fn of(number: u64) -> Self {
        let address = Address4((number as u32).to_ne_bytes());
        let port = Port(((number >> 32) as u16).to_ne_bytes());
        match number >> 48 {
            0 => Self::Anybody,
            1 => Self::Vip(address, port),
            _ => Self::Backend(address, port),
        }
    }
}

impl Spot {
    /// Where the flows of a client stand.
    #[inline(always)]
    pub fn of(shape: Shape, client: Endpoint) -> Self {
        let hash = flow_hash(client.address, client.port, client.protocol, shape.seed);
        let near = shape.sets / NEAR;
        // Multiply-shifts over halves of the hash that overlap: the near set and the first far
        // set may go together, the two far sets must not.
        let first = reduce(hash as u32, near);
        let second = reduce((hash >> 16) as u32, shape.sets.wrapping_sub(near)).wrapping_add(near);
        let third = reduce((hash as u32).wrapping_mul(0x9e37_79b1), shape.sets.wrapping_sub(near)).wrapping_add(near);
        let half = reduce((hash >> 24) as u32, shape.half_sets);
        // 0 is an empty place and 1 a claimed one.
        let tag = ((hash >> 48) as u16) | 2;
        Self { sets: [first, second, third], half, tag, key: (hash >> 20) as u32 }
    }

    /// The spot's tag in every lane.
    #[inline(always)]
    pub(crate) fn pattern(&self) -> u64 {
        (self.tag as u64).wrapping_mul(LANES)
    }
}

impl Identity {
    /// The entry is of this client.
    #[inline(always)]
    pub fn is_of(&self, client: Endpoint) -> bool {
        self.client.get() == client.address && self.client_port.get() == client.port
    }

    /// The entry is of this client with this peer.
    #[inline(always)]
    pub fn holds(&self, client: Endpoint, peer: Peer) -> bool {
        self.is_of(client)
            && match peer {
                Peer::Vip(vip, port) => self.vip.get() == vip && self.vip_port.get() == port,
                Peer::Backend(backend, port) => self.backend.get() == backend && self.backend_port.get() == port,
                Peer::Anybody => true,
            }
    }
}

/// A client as one number, for functions that can be given no more.
#[inline(always)]
pub fn number_of(client: Endpoint) -> u64 {
    bytemuck::must_cast(client)
}

/// The client of a number.
#[inline(always)]
pub fn client_of(number: u64) -> Endpoint {
    bytemuck::must_cast(number)
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
pub(crate) fn zeros(word: u64) -> u64 {
    word.wrapping_sub(LANES) & !word & HIGHS
}

/// The lane of the lowest of some hits. BPF cannot count trailing zeros; one product does it here.
#[inline(always)]
pub(crate) fn lowest(hits: u64) -> u32 {
    (((hits & hits.wrapping_neg()) >> 15).wrapping_mul(LANE) >> 62) as u32
}

/// How many of a set's places are empty, give or take the borrows of [`zeros`]: good enough to balance by.
#[inline(always)]
pub(crate) fn room([low, high]: [u64; 2]) -> u64 {
    // One bit a lane; the product's highest lane is their sum.
    let count = |word| (zeros(word) >> 15).wrapping_mul(LANES) >> 48;
    count(low).wrapping_add(count(high))
}

/// The tag of one place of a set.
#[inline(always)]
pub(crate) fn tag_of([low, high]: [u64; 2], way: u32) -> u16 {
    let word = if way & 4 == 0 { low } else { high };
    (word >> ((way & 3) << 4)) as u16
}
