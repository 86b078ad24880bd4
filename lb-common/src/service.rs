//! A service as the packet path knows it: which table chooses its backends.

use super::{Address4, shared};

shared! {
    /// What `SERVICES` says of one VIP:port. All endpoints of a service share one table.
    pub struct Service {
        /// The service's number: an index into `TABLES` (or `LARGE_TABLES`) and `SERVICE_NAMES`.
        pub id: u16,
        /// The table's index in its map: `id` in `TABLES`, a place of its own in `LARGE_TABLES`.
        pub table: u16,
        /// How many slots of the table are used: 4093 or 65537.
        pub slots: u32,
        /// [`Service::DROPS`] and its like.
        pub flags: u32,
    }

    /// What is served on one VIP's address, for packets that have no ports.
    pub struct Vip {
        /// One bit for each protocol that has a service there: [`Vip::TCP`].
        pub protocols: u16,
        /// [`Vip::ANNOUNCED`].
        pub flags: u16,
    }

    /// What may open connections with a service, by its number: `LIMITS`.
    pub struct Limits {
        /// Time between two new connections in 2⁻²⁰ jiffies, for [`Service::RATED`].
        pub interval: u64,
        /// How far a burst may run ahead of it, in the same unit.
        pub burst: u64,
        /// Connections of one client address at a time, for [`Service::PER_SOURCE`].
        pub per_source: u32,
        /// Always zero.
        pub zero: u32,
    }

    /// The key of `ACCESS`, a trie of prefixes: the bits of the service count first.
    pub struct Origin {
        /// The service's number in network order.
        pub service: [u8; 4],
        /// The client's address.
        pub client: Address4,
    }

    /// The key of `SOURCES`: a client's address at a service.
    pub struct Source {
        /// The client's address.
        pub client: Address4,
        /// The service's number.
        pub service: u16,
        /// Always zero.
        pub zero: [u8; 2],
    }

    /// The service's key in the file, its identity across reloads and restarts: UTF-8, padded with zeros.
    pub struct ServiceName {
        /// The octets of the name.
        pub octets: [u8; 64],
    }
}

impl Service {
    /// Without a backend that is up, its packets are dropped and not answered with RST.
    pub const DROPS: u32 = 1;
    /// A handshake that is refused by one backend goes to another.
    pub const RETRIES: u32 = 2;
    /// The time from SYN to SYN-ACK is taken.
    pub const HANDSHAKE: u32 = 4;
    /// The time from the client's first payload to the backend's is taken.
    pub const FIRST_BYTE: u32 = 8;
    /// `ACCESS` says who may open connections; who is not in it may.
    pub const FILTERED: u32 = 16;
    /// [`Limits::interval`] counts.
    pub const RATED: u32 = 32;
    /// [`Limits::per_source`] counts.
    pub const PER_SOURCE: u32 = 64;
}

impl Origin {
    /// A value of `ACCESS`: these clients may open connections.
    pub const ALLOWED: u32 = 1;
    /// A value of `ACCESS`: these clients may not.
    pub const DENIED: u32 = 2;
    /// Bits of the key before the client's address.
    pub const SERVICE_BITS: u32 = 32;

    /// A client at a service.
    pub const fn new(service: u16, client: Address4) -> Self {
        Self { service: (service as u32).to_be_bytes(), client }
    }
}

impl Vip {
    /// A TCP service stands on the address.
    pub const TCP: u16 = 1;
    /// The address was put on the gateway by us: ports that no service has are refused on it.
    pub const ANNOUNCED: u16 = 1;
}

impl ServiceName {
    /// The name as octets, or `None` where it is longer than [`NAME_OCTETS`](super::limits::NAME_OCTETS).
    pub fn new(name: &str) -> Option<Self> {
        let mut octets = [0; 64];
        if name.len() > super::limits::NAME_OCTETS {
            return None;
        }
        octets.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        Some(Self { octets })
    }

    /// The name as text; empty where the service has none or the octets are not UTF-8.
    pub fn as_str(&self) -> &str {
        let end = self.octets.iter().position(|octet| *octet == 0).unwrap_or(self.octets.len());
        self.octets.get(..end).and_then(|name| core::str::from_utf8(name).ok()).unwrap_or("")
    }
}

/// What an octet of the address filter says. One octet is shared by all addresses with the same
/// [`filter_index`](super::filter_index), so a bit says "perhaps", and a missing bit "surely not".
pub mod filter {
    /// The address may be a VIP.
    pub const VIP: u8 = 1;
    /// The address may be a backend's.
    pub const BACKEND: u8 = 2;
}
