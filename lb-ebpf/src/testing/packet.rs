//! Packets that read as a story, with checksums made from scratch.

use std::{format, net::SocketAddrV4, string::String, vec, vec::Vec};

use lb_common::{Address4, Mac};

use crate::header::{ACK, FIN, RST, SYN};

/// The NIC towards the clients.
pub const NIC_A: u16 = 1;
/// The NIC towards the backends.
pub const NIC_B: u16 = 2;
/// The router that the clients are behind.
pub const ROUTER_A: Mac = Mac([2, 0, 0, 0, 0xaa, 1]);

/// The Ethernet address of a NIC of the gateway.
pub const fn mac_of(nic: u16) -> Mac {
    Mac([2, 0, 0, 0, 0, nic as u8])
}

/// The Ethernet address of a host on a NIC's own network.
pub fn mac_of_address(Address4([a, b, c, d]): Address4) -> Mac {
    Mac([2, 1, a, b, c, d])
}

/// A TCP packet, to be built.
#[derive(Clone, Debug)]
pub struct TcpPacket {
    /// Ethernet source and target.
    pub macs: (Mac, Mac),
    /// Who sent it.
    pub source: SocketAddrV4,
    /// Who it is for.
    pub target: SocketAddrV4,
    /// Time to live.
    pub ttl: u8,
    /// TCP flags.
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgment number.
    pub acknowledgment: u32,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// IPv4 options, a multiple of four octets.
    pub ip_options: Vec<u8>,
    /// TCP options, a multiple of four octets.
    pub tcp_options: Vec<u8>,
    /// Data.
    pub payload: Vec<u8>,
    /// TCP window.
    pub window: u16,
}

/// A bare ACK from a client behind [`ROUTER_A`] to a VIP on NIC A: the one that ends a handshake, where the client's
/// SYN had the number 999 and the backend's 1999.
pub fn tcp(source: &str, target: &str) -> TcpPacket {
    let socket = |text: &str| text.parse().unwrap_or_else(|_| panic!("{text} is no address:port"));
    TcpPacket {
        macs: (ROUTER_A, mac_of(NIC_A)),
        source: socket(source),
        target: socket(target),
        ttl: 64,
        flags: ACK,
        sequence: 1000,
        acknowledgment: 2000,
        id: 0,
        fragment: 0x4000,
        ip_options: Vec::new(),
        tcp_options: Vec::new(),
        payload: Vec::new(),
        window: 65535,
    }
}

impl TcpPacket {
    /// With these TCP flags.
    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// Opens a connection: one octet of sequence space before all data.
    pub fn syn(mut self) -> Self {
        self.acknowledgment = 0;
        self.sequence -= 1;
        self.flags(SYN)
    }

    /// Answers a SYN, with one of its own.
    pub fn syn_ack(mut self) -> Self {
        self.sequence -= 1;
        self.flags(SYN | ACK)
    }

    /// With these sequence and acknowledgment numbers.
    pub fn numbers(mut self, sequence: u32, acknowledgment: u32) -> Self {
        (self.sequence, self.acknowledgment) = (sequence, acknowledgment);
        self
    }

    /// Ends one direction.
    pub fn fin(self) -> Self {
        self.flags(FIN | ACK)
    }

    /// Breaks off.
    pub fn rst(self) -> Self {
        self.flags(RST | ACK)
    }

    /// Carries data.
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// With another time to live.
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// From another sender.
    pub fn from(mut self, source: &str) -> Self {
        self.source = source.parse().unwrap_or_else(|_| panic!("{source} is no address:port"));
        self
    }

    /// To another receiver.
    pub fn to(mut self, target: &str) -> Self {
        self.target = target.parse().unwrap_or_else(|_| panic!("{target} is no address:port"));
        self
    }

    /// With these Ethernet addresses.
    pub fn macs(mut self, source: Mac, target: Mac) -> Self {
        self.macs = (source, target);
        self
    }

    /// As a backend sends it: from its own Ethernet address to NIC B, with the numbers of its side.
    pub fn by_backend(self) -> Self {
        let source = mac_of_address((*self.source.ip()).into());
        let (sequence, acknowledgment) = (self.acknowledgment, self.sequence);
        self.numbers(sequence, acknowledgment).macs(source, mac_of(NIC_B))
    }

    /// As it leaves for its backend: by NIC B, one hop older.
    pub fn towards_backend(self) -> Self {
        let target = mac_of_address((*self.target.ip()).into());
        let ttl = self.ttl - 1;
        self.macs(mac_of(NIC_B), target).ttl(ttl)
    }

    /// As it leaves for a client behind [`ROUTER_A`]: by NIC A, one hop older.
    pub fn towards_client(self) -> Self {
        let ttl = self.ttl - 1;
        self.macs(mac_of(NIC_A), ROUTER_A).ttl(ttl)
    }

    /// The frame.
    pub fn build(&self) -> Vec<u8> {
        let header = 20 + self.ip_options.len();
        let segment = 20 + self.tcp_options.len() + self.payload.len();
        let mut ip = vec![0x40 | (header / 4) as u8, 0];
        ip.extend(((header + segment) as u16).to_be_bytes());
        ip.extend(self.id.to_be_bytes());
        ip.extend(self.fragment.to_be_bytes());
        ip.extend([self.ttl, 6, 0, 0]);
        ip.extend(self.source.ip().octets());
        ip.extend(self.target.ip().octets());
        ip.extend(&self.ip_options);
        let sum = checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());

        let mut tcp = Vec::new();
        tcp.extend(self.source.port().to_be_bytes());
        tcp.extend(self.target.port().to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledgment.to_be_bytes());
        tcp.extend([(((20 + self.tcp_options.len()) / 4) << 4) as u8, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.tcp_options);
        tcp.extend(&self.payload);
        let mut pseudo = Vec::new();
        pseudo.extend(self.source.ip().octets());
        pseudo.extend(self.target.ip().octets());
        pseudo.extend([0, 6]);
        pseudo.extend((segment as u16).to_be_bytes());
        pseudo.extend(&tcp);
        let sum = checksum(&pseudo);
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());

        let mut frame = Vec::new();
        frame.extend(self.macs.1.0);
        frame.extend(self.macs.0.0);
        frame.extend([8, 0]);
        frame.extend(ip);
        frame.extend(tcp);
        frame
    }
}

/// The Internet checksum from scratch, word by word (RFC 1071, section 4.1).
pub fn checksum(octets: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in octets.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// A frame in hexadecimal, by header.
pub(super) fn dump(frame: &[u8]) -> String {
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    let cut = |from: usize, to: usize| hex(frame.get(from.min(frame.len())..to.min(frame.len())).unwrap_or(&[]));
    format!("{} {} {} {}", cut(0, 14), cut(14, 34), cut(34, 54), cut(54, frame.len()))
}
