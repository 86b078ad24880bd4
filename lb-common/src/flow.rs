//! One flow, both directions, in one cache line.
//!
//! The flow table is an array of sets of [`WAYS`](super::limits::WAYS) flows, beside an array of
//! sixteen-bit tags, one [`Tags`] a set. A flow stands in one of two sets that the hash of its
//! client names; its tag says in which place it may be, and zero that the place is empty.

use super::{Address4, BackendId, Mac, Port, limits, shared};

shared! {
    /// Who talks to whom through which backend, where its client is, and how far it has come.
    ///
    /// A flow whose VIP is its backend was opened directly to the backend: it is known so that its
    /// replies pass untouched.
    pub struct Flow {
        /// The client.
        pub client: Address4,
        /// The client's port.
        pub client_port: Port,
        /// The port that the client sends to.
        pub vip_port: Port,
        /// The address that the client sends to.
        pub vip: Address4,
        /// The address that answers.
        pub backend: Address4,
        /// The port that answers.
        pub backend_port: Port,
        /// Its id, 0 for a flow opened directly.
        pub backend_id: BackendId,
        /// One of [`protocol`](super::protocol).
        pub protocol: u8,
        /// Bits of [`state`].
        pub state: u8,
        /// The NIC the client's last packet came in on: an index into `NICS`.
        pub nic: u16,
        /// Who handed us the client's last packet: replies leave the way the client came.
        pub client_mac: Mac,
        /// Always zero.
        pub zero: [u8; 2],
        /// Jiffies, low half, when a packet last passed in either direction.
        pub seen: u32,
        /// Jiffies, low half, when the flow was made.
        pub created: u32,
        /// Packets from the client (0) and to it (1), modulo 2³².
        pub packets: [u32; 2],
        /// Octets of IP packets from the client (0) and to it (1).
        pub bytes: [u64; 2],
    }

    /// The tags of one set.
    pub struct Tags {
        /// Four tags a word, the first place in the low bits.
        pub words: [u64; limits::WAYS / 4],
    }
}

/// What a flow has shown, as bits of [`Flow::state`].
pub mod state {
    /// The client sent a packet that was not a SYN.
    pub const CLIENT_SPOKE: u8 = 1;
    /// The backend answered with anything but RST.
    pub const BACKEND_SPOKE: u8 = 2;
    /// The client sent FIN.
    pub const CLIENT_FIN: u8 = 4;
    /// The backend sent FIN.
    pub const BACKEND_FIN: u8 = 8;
    /// Either side sent RST.
    pub const RESET: u8 = 16;
    /// Opened directly to the backend: passes untouched.
    pub const DIRECT: u8 = 32;
}

/// Who sent a packet; also the index of what is counted by direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client, towards the VIP.
    Client = 0,
    /// The backend, towards the client.
    Backend = 1,
}
