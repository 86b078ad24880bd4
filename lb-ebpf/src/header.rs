//! Headers as they stand on the wire: octets in network order, aligned to two as all their words are.

use lb_common::{Address4, Mac, Port};

macro_rules! header {
    ($($(#[$attribute:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $type:ty,)* })*) => {$(
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub struct $name { $($(#[$doc])* pub $field: $type,)* }
    )*};
}

header! {
    /// Ethernet II.
    pub struct Ethernet {
        /// Who the frame is for.
        pub target: Mac,
        /// Who sent it.
        pub source: Mac,
        /// What it carries: [`IPV4`].
        pub kind: Word,
    }

    /// IPv4 without options (RFC 791, section 3.1).
    pub struct Ipv4 {
        /// Version in the high half, header length in words in the low half.
        pub version_length: u8,
        /// Differentiated services and congestion bits.
        pub service: u8,
        /// Octets of header and payload.
        pub length: Word,
        /// Identification.
        pub id: Word,
        /// Flags and fragment offset.
        pub fragment: Word,
        /// Time to live.
        pub ttl: u8,
        /// What follows.
        pub protocol: u8,
        /// One's complement sum of the header.
        pub checksum: Word,
        /// Who sent it.
        pub source: Address4,
        /// Who it is for.
        pub target: Address4,
    }

    /// The first words of TCP and UDP alike.
    pub struct Ports {
        /// The sender's port.
        pub source: Port,
        /// The receiver's port.
        pub target: Port,
    }

    /// TCP without options (RFC 9293, section 3.1).
    pub struct Tcp {
        /// Ports.
        pub ports: Ports,
        /// Sequence number.
        pub sequence: Double,
        /// Acknowledgment number.
        pub acknowledgment: Double,
        /// Header length in words in the high half.
        pub offset: u8,
        /// [`SYN`] and its like.
        pub flags: u8,
        /// Window.
        pub window: Word,
        /// One's complement sum of pseudo header, header and payload.
        pub checksum: Word,
        /// Urgent pointer.
        pub urgent: Word,
    }

    /// What nearly every packet of ours starts with: one bounds check for all of it.
    pub struct Prefix4 {
        /// Ethernet.
        pub ethernet: Ethernet,
        /// IPv4.
        pub ip: Ipv4,
        /// TCP, where IPv4 has no options.
        pub tcp: Tcp,
    }

    /// Ethernet and IPv4 alone.
    pub struct Network4 {
        /// Ethernet.
        pub ethernet: Ethernet,
        /// IPv4.
        pub ip: Ipv4,
    }
}

/// Sixteen bits of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(2))]
pub struct Word(pub [u8; 2]);

/// Thirty-two bits of a header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(2))]
pub struct Double(pub [u8; 4]);

/// The Ethernet type of IPv4.
pub const IPV4: Word = Word([0x08, 0x00]);
/// Where the IP header starts.
pub const L3: usize = size_of::<Ethernet>();
/// Version 4 and a header of five words.
pub const PLAIN_IPV4: u8 = 0x45;
/// TCP: the sender has finished.
pub const FIN: u8 = 1;
/// TCP: a connection is opened.
pub const SYN: u8 = 2;
/// TCP: the connection is gone.
pub const RST: u8 = 4;
/// TCP: the acknowledgment number counts.
pub const ACK: u8 = 16;

impl Double {
    /// Its high half.
    #[inline(always)]
    pub fn high(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    /// As a number.
    #[inline(always)]
    pub fn number(self) -> u32 {
        u32::from_be_bytes(self.0)
    }
}

impl Ipv4 {
    /// More fragments and the fragment offset (RFC 791): not zero where the packet is a piece of a larger one.
    #[inline(always)]
    pub fn fragment_bits(&self) -> usize {
        (u16::from_be_bytes(self.fragment.0) & 0x3fff) as usize
    }

    /// The packet is a piece without the start, and so without ports.
    #[inline(always)]
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.0[0] & 0x1f != 0 || self.fragment.0[1] != 0
    }
}
