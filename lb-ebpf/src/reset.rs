//! The packet becomes the RST that answers it (RFC 9293, section 3.10.7.1).

use super::{
    checksum::{finish, sum},
    frame::Frame,
    header::{ACK, Double, Ethernet, FIN, Ipv4, L3, PLAIN_IPV4, Prefix4, RST, SYN, Tcp, Word},
};

/// Octets of a frame that is Ethernet, IPv4 and TCP and nothing else.
const LENGTH: u16 = size_of::<Prefix4>() as u16;

/// Answers with RST: to a packet with an acknowledgment, as if we were where it says; to any other,
/// by acknowledging all of it. The packet's TCP header stands at `l4`, and its IP packet has `length` octets.
#[inline(never)]
pub fn reset<F: Frame>(frame: &mut F, l4: u8, length: u16) -> Option<()> {
    // At most 14 + 60; the mask is for the verifier.
    let tcp = *frame.view::<Tcp>((l4 & 0x7f) as usize)?;
    let header = (tcp.offset >> 4) as u32 * 4;
    let ip_header = (l4 as u32).wrapping_sub(L3 as u32);
    let mut length = (length as u32).wrapping_sub(ip_header).wrapping_sub(header);
    for flag in [SYN, FIN] {
        if tcp.flags & flag != 0 {
            length = length.wrapping_add(1);
        }
    }
    let end = u32::from_be_bytes(tcp.sequence.0).wrapping_add(length);
    let acknowledged = tcp.flags & ACK != 0;

    frame.cut(LENGTH).ok()?;
    let prefix = frame.view::<Prefix4>(0)?;
    let Ethernet { source, target, .. } = prefix.ethernet;
    (prefix.ethernet.source, prefix.ethernet.target) = (target, source);
    prefix.ip = Ipv4 {
        version_length: PLAIN_IPV4,
        service: 0,
        length: Word((LENGTH.wrapping_sub(L3 as u16)).to_be_bytes()),
        id: Word([0; 2]),
        // Don't fragment (RFC 791): a RST is never worth a fragment, and needs no identification then.
        fragment: Word([0x40, 0]),
        ttl: 64,
        protocol: prefix.ip.protocol,
        checksum: Word([0; 2]),
        source: prefix.ip.target,
        target: prefix.ip.source,
    };
    let octets: &[u8; 20] = bytemuck::must_cast_ref(&prefix.ip);
    prefix.ip.checksum = finish(sum(octets));

    prefix.tcp = Tcp {
        ports: super::header::Ports { source: tcp.ports.target, target: tcp.ports.source },
        sequence: if acknowledged { tcp.acknowledgment } else { Double([0; 4]) },
        acknowledgment: if acknowledged { Double([0; 4]) } else { Double(end.to_be_bytes()) },
        offset: 5 << 4,
        flags: if acknowledged { RST } else { RST | ACK },
        window: Word([0; 2]),
        checksum: Word([0; 2]),
        urgent: Word([0; 2]),
    };
    // The pseudo header (RFC 9293, section 3.1): addresses, protocol and length.
    let [a, b, c, d] = prefix.ip.source.0;
    let [e, f, g, h] = prefix.ip.target.0;
    let pseudo = sum(&[a, b, c, d, e, f, g, h, 0, prefix.ip.protocol, 0, size_of::<Tcp>() as u8]);
    let octets: &[u8; 20] = bytemuck::must_cast_ref(&prefix.tcp);
    prefix.tcp.checksum = finish(pseudo.wrapping_add(sum(octets)));
    Some(())
}
