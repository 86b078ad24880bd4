//! A service as the packet path knows it: which table chooses its backends.

use super::shared;

shared! {
    /// What `SERVICES` says of one VIP:port. All endpoints of a service share one table.
    pub struct Service {
        /// The service's number: an index into `TABLES` (or `LARGE_TABLES`) and `SERVICE_NAMES`.
        pub id: u16,
        /// The table's index in its map: `id` in `TABLES`, a place of its own in `LARGE_TABLES`.
        pub table: u16,
        /// How many slots of the table are used: 4093 or 65537.
        pub slots: u32,
    }

    /// What is served on one VIP's address, for packets that have no ports.
    pub struct Vip {
        /// One bit for each protocol that has a service there: [`Vip::TCP`].
        pub protocols: u16,
        /// [`Vip::ANNOUNCED`].
        pub flags: u16,
    }

    /// The service's key in the file, its identity across reloads and restarts: UTF-8, padded with zeros.
    pub struct ServiceName {
        /// The octets of the name.
        pub octets: [u8; 64],
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
