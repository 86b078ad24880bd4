//! The NICs that the program is attached to.

use super::{Mac, shared};

shared! {
    /// A NIC of the gateway, at the same index in `NICS` as its device in `DEVICES`.
    ///
    /// It stands at `ifindex` modulo [`NICS`](super::limits::NICS) or, where that place is taken, one of
    /// the [`NIC_PROBES`](super::limits::NIC_PROBES) − 1 places after it, so that the packet path finds
    /// the index of the NIC a packet came in on.
    pub struct Nic {
        /// The kernel's number of the interface; 0 where there is none.
        pub ifindex: u32,
        /// The NIC's own Ethernet address: the source of what leaves by it.
        pub mac: Mac,
        /// Always zero.
        pub zero: [u8; 2],
    }
}
