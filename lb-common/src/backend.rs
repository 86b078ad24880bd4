//! A backend as the packet path knows it: where it is and how a frame gets there.

use super::{Address4, Mac, Port, shared};

/// Which backend of which service: an index into `BACKENDS` and `TRAFFIC`. Zero is nobody.
pub type BackendId = u16;

shared! {
    /// Where a backend listens and the next hop towards it.
    ///
    /// The next hop stands here and not in the flows, so that a changed MAC is one write.
    pub struct Backend {
        /// Where the backend listens.
        pub address: Address4,
        /// The port it listens on, not always the VIP's.
        pub port: Port,
        /// [`Backend::PRESENT`] and [`Backend::REACHABLE`].
        pub flags: u16,
        /// The NIC towards the next hop: an index into `NICS`.
        pub nic: u16,
        /// The service that this backend serves: an index into `SERVICE_NAMES`.
        pub service: u16,
        /// The next hop's Ethernet address.
        pub hop: Mac,
        /// Always zero.
        pub zero: [u8; 2],
    }

    /// What went to a backend (index 0) and came back from it (index 1), counted per CPU.
    pub struct Traffic {
        /// Packets.
        pub packets: [u64; 2],
        /// Octets of the IP packets, headers included.
        pub bytes: [u64; 2],
    }
}

impl Backend {
    /// The id is in use.
    pub const PRESENT: u16 = 1;
    /// `nic` and `hop` are known. Without it packets go through the kernel, which finds the neighbour.
    pub const REACHABLE: u16 = 2;
}
