//! One flow, both directions, in one cache line; and one handshake, in another.
//!
//! Both tables are arrays of sets beside an array of sixteen-bit tags, one [`Tags`] a set: the tag
//! says in which place an entry may be, and zero that the place is empty.
//!
//! Flows stand in sets of [`WAYS`](super::limits::WAYS). Handshakes, which anybody may forge by the million,
//! stand in a small table of their own, in sets of [`HALF_WAYS`](super::limits::HALF_WAYS): the last
//! lane of a set's tags says which place goes next, so the oldest goes first and nobody has to look for it.

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
        /// Bits of [`kind`].
        pub kind: u8,
        /// Bits of [`state`] for the client (0) and for the backend (1): packets of one side write one octet.
        pub state: [u8; 2],
        /// The NIC the client's last packet came in on: an index into `NICS`.
        pub nic: u16,
        /// Who handed us the client's last packet: replies leave the way the client came.
        pub client_mac: Mac,
        /// Jiffies, low half, when a packet last passed in either direction.
        pub seen: u32,
        /// Jiffies, low half, when the flow was made.
        pub created: u32,
        /// Packets from the client (0) and to it (1), modulo 2³².
        pub packets: [u32; 2],
        /// Octets of IP packets from the client (0) and to it (1) in the low 48 bits ([`octets`]); those to it
        /// have the high half of what the backend acknowledged last above them ([`acknowledged`]).
        pub bytes: [u64; 2],
    }

    /// A handshake under way, or a flow first seen in mid-life whose backend has not spoken yet.
    pub struct Half {
        /// As in [`Flow`], down to the client's Ethernet address.
        pub client: Address4,
        /// The client's port.
        pub client_port: Port,
        /// The port that the client sends to.
        pub vip_port: Port,
        /// The address that the client sends to.
        pub vip: Address4,
        /// The address that is to answer.
        pub backend: Address4,
        /// The port that is to answer.
        pub backend_port: Port,
        /// Its id, 0 for a flow opened directly.
        pub backend_id: BackendId,
        /// One of [`protocol`](super::protocol).
        pub protocol: u8,
        /// Bits of [`kind`].
        pub kind: u8,
        /// How often it was moved to another backend (0), and bits of [`stage`] (1).
        pub state: [u8; 2],
        /// The NIC the client's last packet came in on: an index into `NICS`.
        pub nic: u16,
        /// Who handed us the client's last packet.
        pub client_mac: Mac,
        /// Jiffies, low half, when the entry was made.
        pub created: u32,
        /// Jiffies, low half, of the first SYN to this backend.
        pub attempt: u32,
        /// The initial sequence numbers of the backend's last two SYN-ACKs, the newer one first.
        pub isns: [u32; 2],
        /// The sequence number that the backend expects next from the client, as its SYN-ACK says.
        pub expected: u32,
        /// Microseconds of the kernel's monotonic clock, low half, of the first SYN to this backend, where the handshake is timed.
        pub micros: u32,
        /// Octets of sequence space that the backend has sent after the newer number, its SYN included.
        pub sent: u16,
        /// Packets from the client (0) and to it (1), at most 255.
        pub packets: [u8; 2],
        /// Octets of IP packets from the client (0) and to it (1), at most 65,535.
        pub bytes: [u16; 2],
    }

    /// The tags of one set.
    pub struct Tags {
        /// Four tags a word, the first place in the low bits.
        pub words: [u64; limits::WAYS / 4],
    }
}

/// What a flow is, as bits of [`Flow::kind`] and [`Half::kind`]; it is written once.
pub mod kind {
    /// Opened directly to the backend: passes untouched.
    pub const DIRECT: u8 = 1;
    /// First seen in mid-life: its backend has to speak before it is believed.
    pub const MIDLIFE: u8 = 2;
    /// The time from the client's first payload to the backend's is taken.
    pub const FIRST_BYTE: u8 = 4;
    /// The time from SYN to SYN-ACK is taken.
    pub const HANDSHAKE: u8 = 8;
    /// Counted among the connections of its client's address.
    pub const COUNTED: u8 = 16;
    /// A handshake that its backend refuses goes to another.
    pub const RETRY: u8 = 32;
    /// Userspace has written about its end.
    pub const LOGGED: u8 = 128;
}

/// What one side of a flow has shown, as bits of [`Flow::state`].
pub mod state {
    /// It sent a packet that was neither SYN nor RST.
    pub const SPOKE: u8 = 1;
    /// It sent FIN.
    pub const FIN: u8 = 2;
    /// It sent RST.
    pub const RESET: u8 = 4;
    /// It sent payload.
    pub const DATA: u8 = 8;
}

/// How far the backend of a handshake has come, as bits of the second octet of [`Half::state`].
pub mod stage {
    /// It sent a SYN-ACK.
    pub const ANSWERED: u8 = 1;
    /// It sent a SYN-ACK with another initial sequence number before.
    pub const ANSWERED_TWICE: u8 = 2;
    /// It refused.
    pub const REFUSED: u8 = 4;
    /// The handshake was moved here from another backend.
    pub const MOVED: u8 = 8;
    /// It broke off, and the client has heard of it: the entry is over, and stays only to be told of.
    pub const ENDED: u8 = 16;
    /// It sent FIN, before its client had proved itself (RFC 7413: fast open).
    pub const FINISHED: u8 = 32;
}

/// Who sent a packet; also the index of what is counted by direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client, towards the VIP.
    Client = 0,
    /// The backend, towards the client.
    Backend = 1,
}

/// Bits of [`Flow::bytes`] that count octets.
pub const OCTETS: u64 = (1 << 48) - 1;
/// Jiffies by which a flow may seem to have spoken in the future: CPUs read their own clock.
pub const SKEW: u32 = 10_000;

/// The octets of a word of [`Flow::bytes`].
#[inline(always)]
pub const fn octets(bytes: u64) -> u64 {
    bytes & OCTETS
}

/// The high half of the acknowledgment number in a word of [`Flow::bytes`].
#[inline(always)]
pub const fn acknowledged(bytes: u64) -> u16 {
    (bytes >> 48) as u16
}

/// Both sides have finished, or one broke off.
#[inline(always)]
pub const fn ended([client, backend]: [u8; 2]) -> bool {
    (client | backend) & state::RESET != 0 || client & backend & state::FIN != 0
}

/// Only a RST of the client has ended it.
#[inline(always)]
pub const fn is_broken([client, backend]: [u8; 2]) -> bool {
    client & state::RESET != 0 && backend & state::RESET == 0 && client & backend & state::FIN == 0
}

/// Jiffies since a flow was seen; one seen in the near future was seen now.
#[inline(always)]
pub const fn idle(now: u32, seen: u32) -> u32 {
    let idle = now.wrapping_add(SKEW).wrapping_sub(seen);
    idle.saturating_sub(SKEW)
}

shared! {
    /// Idle times in jiffies after which a flow is over.
    pub struct Timeouts {
        /// In the handshake.
        pub syn: u32,
        /// After it.
        pub established: u32,
        /// Once both sides sent FIN, or one RST.
        pub fin: u32,
    }
}

impl Timeouts {
    /// How long a flow in a state may be idle.
    #[inline(always)]
    pub const fn of(&self, state: [u8; 2]) -> u32 {
        if ended(state) { self.fin } else { self.established }
    }
}
