//! One TCP segment without payload as a whole frame, made by hand.

use std::net::SocketAddrV4;

use crate::link::Mac;

/// Octets of Ethernet, IPv4 and TCP headers: a whole frame.
pub(crate) type Frame = [u8; 54];

/// A TCP segment that carries nothing.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Who sends.
    pub source: SocketAddrV4,
    /// Who receives.
    pub target: SocketAddrV4,
    /// TCP's flags, as bits.
    pub flags: u8,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgment number.
    pub acknowledgment: u32,
}

impl Segment {
    /// FIN, as a bit of [`flags`](Self::flags).
    pub const FIN: u8 = 1;
    /// SYN.
    pub const SYN: u8 = 2;
    /// RST.
    pub const RST: u8 = 4;
    /// ACK.
    pub const ACK: u8 = 16;

    /// The segment in a frame from one Ethernet address to another, both checksums made.
    pub fn frame(&self, from: Mac, to: Mac) -> [u8; 54] {
        let mut frame: Frame = [0; 54];
        frame[..6].copy_from_slice(&to);
        frame[6..12].copy_from_slice(&from);
        frame[12..24].copy_from_slice(&[8, 0, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6]);
        frame[26..30].copy_from_slice(&self.source.ip().octets());
        frame[30..34].copy_from_slice(&self.target.ip().octets());
        frame[34..36].copy_from_slice(&self.source.port().to_be_bytes());
        frame[36..38].copy_from_slice(&self.target.port().to_be_bytes());
        frame[38..42].copy_from_slice(&self.sequence.to_be_bytes());
        frame[42..46].copy_from_slice(&self.acknowledgment.to_be_bytes());
        frame[46..50].copy_from_slice(&[0x50, self.flags, 0xff, 0xff]);
        let ip = folded(sum(&frame[14..34]));
        frame[24..26].copy_from_slice(&ip);
        // The pseudo-header: the addresses before the ports, the protocol, the length.
        let tcp = folded(sum(&frame[26..]) + 6 + 20);
        frame[50..52].copy_from_slice(&tcp);
        frame
    }

    /// The segment in a frame; `None` for any other frame, and for headers with options of IP.
    pub fn of(frame: &[u8]) -> Option<Self> {
        if frame.len() < 54 || frame[12..15] != [8, 0, 0x45] || frame[23] != 6 {
            return None;
        }
        let long = |at: usize| u32::from_be_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]]);
        let end = |address: usize, port: usize| {
            SocketAddrV4::new(long(address).into(), u16::from_be_bytes([frame[port], frame[port + 1]]))
        };
        Some(Self {
            source: end(26, 34),
            target: end(30, 36),
            flags: frame[47],
            sequence: long(38),
            acknowledgment: long(42),
        })
    }
}

/// Octets as numbers of sixteen bits, added.
fn sum(octets: &[u8]) -> u32 {
    octets.chunks_exact(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum()
}

/// The Internet checksum of a sum below 2²⁴.
fn folded(sum: u32) -> [u8; 2] {
    let once = (sum & 0xffff) + (sum >> 16);
    (!((once & 0xffff) + (once >> 16)) as u16).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_read_as_it_was_written_and_its_checksums_hold() {
        let [source, target] = ["192.0.2.7:4321", "203.0.113.10:80"].map(|address| address.parse().unwrap());
        let segment = Segment { source, target, flags: Segment::SYN, sequence: 0xfedc_ba98, acknowledgment: 7 };
        let frame = segment.frame([2; 6], [4; 6]);
        let read = Segment::of(&frame).unwrap();
        assert_eq!(format!("{read:?}"), format!("{segment:?}"));
        assert_eq!(folded(sum(&frame[14..34])), [0, 0]);
        assert_eq!(folded(sum(&frame[26..]) + 26), [0, 0]);
        assert!(Segment::of(&frame[..53]).is_none());
    }
}
