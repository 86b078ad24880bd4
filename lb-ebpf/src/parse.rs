//! From octets to a packet that may be ours. Nothing is changed here.

use lb_common::{Address4, Endpoint, Mac, Port, Reason, Vip, filter, protocol};

use super::{
    frame::Frame,
    header::{self, Ethernet, Ipv4, L3, Network4, PLAIN_IPV4, Prefix4, Tcp},
    table::Tables,
    verifier::masked,
};

/// A TCP packet to or from an address that may be a VIP's or a backend's.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Who sent it.
    pub source: Endpoint,
    /// Who it is for.
    pub target: Endpoint,
    /// Who handed it to us.
    pub from: Mac,
    /// TCP flags.
    pub flags: u8,
    /// Where the TCP header starts: at most 14 + 60.
    pub l4: u8,
    /// Octets of the IP packet, as its header says.
    pub length: u16,
    /// Whether it carries data.
    pub payload: bool,
    /// The high half of its sequence number.
    pub position: u16,
    /// The high half of its acknowledgment number.
    pub acknowledged: u16,
    /// What is wrong with it, as bits in the order of [`FAULTS`]; 0 where nothing is.
    faults: u8,
}

/// What a packet says of its flow, as one number, for functions that can be given no more.
#[derive(Clone, Copy, Debug)]
pub struct Mark(pub u64);

impl Mark {
    /// Whether it carries data.
    #[inline(always)]
    pub fn payload(self) -> bool {
        self.0 & 0x100 != 0
    }

    /// Whether it has one of these TCP flags.
    #[inline(always)]
    pub fn has(self, flags: u8) -> bool {
        self.0 & flags as u64 != 0
    }

    /// [`Packet::length`].
    #[inline(always)]
    pub fn length(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// [`Packet::position`].
    #[inline(always)]
    pub fn position(self) -> u16 {
        (self.0 >> 32) as u16
    }

    /// [`Packet::acknowledged`].
    #[inline(always)]
    pub fn acknowledged(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// The packet may be for a VIP.
pub const TO_VIP: u8 = 1;
/// The packet may be from a backend.
pub const FROM_BACKEND: u8 = 2;
/// The packet may be for a backend.
pub const TO_BACKEND: u8 = 4;

/// The client and port have a live flow with the VIP, but this packet does not go on with it.
pub const KNOWN: u8 = 8;
/// The client and port have no live flow at all.
pub const ALONE: u8 = 16;
/// The packet is of another protocol, and may be for a VIP.
pub const OTHER: u8 = 32;

/// What can be wrong with a packet, by the bit of `faults`; the lowest is told.
const FAULTS: [Reason; 4] = [Reason::Truncated, Reason::BadHeader, Reason::Fragment, Reason::TtlExpired];

impl Packet {
    /// Why it must not be forwarded, should it turn out to be ours.
    #[inline(always)]
    pub fn sound(&self) -> Result<(), Reason> {
        if self.faults == 0 {
            return Ok(());
        }
        for (bit, reason) in FAULTS.into_iter().enumerate() {
            if self.faults & (1 << bit) != 0 {
                return Err(reason);
            }
        }
        Err(Reason::Inconsistent)
    }

    /// What it says of its flow.
    #[inline(always)]
    pub fn mark(&self) -> Mark {
        let (acknowledged, position) = (self.acknowledged as u64, self.position as u64);
        let (length, payload) = (self.length as u64, self.payload as u64);
        Mark(acknowledged << 48 | position << 32 | length << 16 | payload << 8 | self.flags as u64)
    }

    /// The client opens a connection with it.
    #[inline(always)]
    pub fn opens(&self) -> bool {
        self.flags & (header::SYN | header::ACK | header::RST) == header::SYN
    }

    /// The other side answers with it that it opens too.
    #[inline(always)]
    pub fn answers(&self) -> bool {
        self.flags & (header::SYN | header::ACK | header::RST) == header::SYN | header::ACK
    }

    /// It can take a flow in: neither RST nor FIN nor SYN-ACK.
    #[inline(always)]
    pub fn founds(&self) -> bool {
        self.opens() || self.flags & (header::SYN | header::RST | header::FIN) == 0
    }
}

/// What may be at a packet's addresses, 0 where it is none of ours: most foreign packets end here.
///
/// Without whole addresses nobody can say whose a packet is; the kernel drops such a stump.
#[inline(always)]
pub fn glance<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> u8 {
    let Some(Network4 { ethernet, ip }) = frame.view::<Network4>(0) else { return 0 };
    if ethernet.kind != header::IPV4 {
        return 0;
    }
    let (source, target) = (tables.filter(ip.source), tables.filter(ip.target));
    // VIP 1 → TO_VIP 1; BACKEND 2 → FROM_BACKEND 2 or TO_BACKEND 4.
    let hints = (target & filter::VIP) | (source & filter::BACKEND) | ((target & filter::BACKEND) << 1);
    match ip.protocol {
        protocol::TCP => hints,
        _ if hints & TO_VIP != 0 => OTHER,
        _ => 0,
    }
}

/// The packet at hand, of which [`glance`] said something, or why it is none of ours.
#[inline(always)]
pub fn parse<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Result<Packet, Reason> {
    let length = frame.length();
    if let Some(prefix) = frame.view::<Prefix4>(0)
        && prefix.ip.version_length == PLAIN_IPV4
        && prefix.ip.fragment_bits() == 0
    {
        return Ok(packet(&prefix.ethernet, &prefix.ip, &prefix.tcp, L3 + 20, length));
    }
    unusual(frame, tables, length)
}

/// What becomes of a packet of another protocol than TCP for an address that may be a VIP: nothing but ICMP
/// reaches a VIP that we announce.
#[inline(always)]
pub fn other<F: Frame, T: Tables>(frame: &mut F, tables: &T) -> Reason {
    let Some(Network4 { ip, .. }) = frame.view::<Network4>(0) else { return Reason::Foreign };
    match tables.vip(ip.target) {
        Some(vip) if vip.flags & Vip::ANNOUNCED != 0 && ip.protocol != protocol::ICMP => Reason::Unserved,
        _ => Reason::Foreign,
    }
}

/// The packet whose headers these are, with whatever is wrong with it.
#[inline(always)]
fn packet(ethernet: &Ethernet, ip: &Ipv4, tcp: &Tcp, l4: usize, frame_length: usize) -> Packet {
    let length = u16::from_be_bytes(ip.length.0);
    let header = ((tcp.offset >> 4) as usize) << 2;
    let end = L3.wrapping_add(length as usize);
    // Bits, not branches: four branches here are sixteen times the paths for the verifier after them.
    let faults = below(frame_length, end)
        | (below(header, 20) | below(end, l4.wrapping_add(header))) << 1
        | below(0, ip.fragment_bits()) << 2
        | below(ip.ttl as usize, 2) << 3;
    let (source, target) = endpoints(ip, tcp.ports.source, tcp.ports.target);
    Packet {
        source,
        target,
        from: ethernet.source,
        flags: tcp.flags,
        l4: l4 as u8,
        length,
        payload: below(l4.wrapping_add(header), end) != 0,
        position: tcp.sequence.high(),
        acknowledged: tcp.acknowledgment.high(),
        faults,
    }
}

/// 1 where `a < b`, else 0, for numbers below 2⁶³.
#[inline(always)]
fn below(a: usize, b: usize) -> u8 {
    masked::<1>((a as u64).wrapping_sub(b as u64) >> 63) as u8
}

#[inline(always)]
fn endpoints(ip: &Ipv4, source: Port, target: Port) -> (Endpoint, Endpoint) {
    (Endpoint::tcp(ip.source, source), Endpoint::tcp(ip.target, target))
}

/// Options, fragments, headers that cannot be, and frames too short for Ethernet, IPv4 and TCP.
#[inline(always)]
fn unusual<F: Frame, T: Tables>(frame: &mut F, tables: &T, length: usize) -> Result<Packet, Reason> {
    let network = *frame.view::<Network4>(0).ok_or(Reason::Foreign)?;
    let ip = &network.ip;
    let words = (ip.version_length & 15) as usize;
    if ip.version_length >> 4 != 4 || words < 5 {
        return portless(tables, ip.target, Reason::BadHeader);
    }
    if ip.is_later_fragment() {
        return portless(tables, ip.target, Reason::Fragment);
    }
    // RFC 791: the header is as long as it says, in words of four octets: at most 14 + 60 octets lie before TCP.
    // The masks differ, and keep the compiler from reading for both views what only one of them has checked.
    let l4 = L3.wrapping_add(words << 2);
    match frame.view::<Tcp>(masked::<0x7e>(l4 as u64)) {
        Some(tcp) => Ok(packet(&network.ethernet, ip, tcp, l4, length)),
        None => stub(frame, tables, &network, l4),
    }
}

/// A packet whose TCP header is not whole: it has an owner as long as its ports are there.
#[inline(always)]
fn stub<F: Frame, T: Tables>(frame: &mut F, tables: &T, network: &Network4, l4: usize) -> Result<Packet, Reason> {
    let Some(ports) = frame.view::<header::Ports>(masked::<0xfe>(l4 as u64)) else {
        return portless(tables, network.ip.target, Reason::Truncated);
    };
    let (source, target) = endpoints(&network.ip, ports.source, ports.target);
    // As if it were a RST: such a packet founds no flow and gets no answer.
    let flags = header::RST;
    let from = network.ethernet.source;
    let (length, payload, position, acknowledged) = (0, false, 0, 0);
    Ok(Packet { source, target, from, flags, l4: l4 as u8, length, payload, position, acknowledged, faults: 1 })
}

/// A TCP packet without ports: ours as soon as a TCP service stands on the address, or we put the address there.
#[inline(always)]
fn portless<T: Tables>(tables: &T, target: Address4, reason: Reason) -> Result<Packet, Reason> {
    match tables.vip(target) {
        Some(vip) if vip.protocols & Vip::TCP != 0 || vip.flags & Vip::ANNOUNCED != 0 => Err(reason),
        _ => Err(Reason::Foreign),
    }
}
