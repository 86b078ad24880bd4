//! Packets that nobody would send: valid ones of a small world, with octets changed, cut off or added.

use std::{format, vec::Vec};

use lb_common::{Address4, Backend, Limits, Origin, Service, Timeouts};

use super::{NIC_A, NIC_B, World, tcp};
use crate::header::{ACK, FIN, RST, SYN};

/// What is served.
const VIPS: [&str; 7] = [
    "203.0.113.10:80",
    "203.0.113.11:80",
    "203.0.113.12:80",
    "203.0.113.13:80",
    "203.0.113.14:80",
    "203.0.113.15:80",
    "203.0.113.16:80",
];

/// Who serves it, and a port that is nobody's.
const BACKENDS: [&str; 7] = [
    "10.0.1.11:8080",
    "10.0.1.12:8080",
    "10.0.1.13:80",
    "10.0.1.14:80",
    "10.0.1.15:80",
    "10.0.1.16:80",
    "10.0.1.11:22",
];

/// Longer than any test.
const NEVER: Timeouts = Timeouts { syn: 1 << 30, established: 1 << 30, fin: 1 << 30 };

/// An endless row of packets, the same for the same seed.
pub struct Strays {
    state: u64,
}

impl Strays {
    /// The row of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The world in which they mean something. No time passes in it that matters: a floor whose clock runs does the
    /// same as one whose clock stands still.
    pub fn world() -> World {
        let mut world = World::new();
        let flags = [
            (Service::RETRIES | Service::HANDSHAKE, "10.0.1.11:8080 10.0.1.12:8080"),
            // A backend that the first service has too.
            (Service::FIRST_BYTE, "10.0.1.11:8080"),
            (0, ""),
            (Service::DROPS, ""),
            (Service::FILTERED | Service::PER_SOURCE | Service::FIRST_BYTE, "10.0.1.13:80"),
            (Service::RATED, "10.0.1.14:80 10.0.1.15:80"),
            (0, "10.0.1.16:80"),
        ];
        for (vip, (flags, backends)) in VIPS.iter().zip(flags) {
            let backends: Vec<_> = backends.split_whitespace().collect();
            world.serve(&[vip], &backends);
            world.flag(world.tables.len() as u16, flags);
        }
        for backend in world.backends.values_mut() {
            backend.timeouts = NEVER;
            // The last one's flows are to end, though its service still names it.
            if backend.address == Address4([10, 0, 1, 16]) {
                backend.flags = Backend::PRESENT | Backend::REACHABLE | Backend::RESETS;
            }
        }
        world.timeouts = Some(NEVER);
        // A burst, and then the next one in weeks.
        let limits = Limits { interval: 1 << 50, burst: 20 << 50, per_source: 3, zero: 0 };
        world.limits.extend([(5, limits), (6, limits)]);
        let prefix = |bits: u32, last: u8| (Origin::SERVICE_BITS + bits, Origin::new(5, Address4([192, 0, 2, last])));
        world.access.extend([(prefix(24, 0), Origin::DENIED), (prefix(31, 2), Origin::ALLOWED)]);
        world.announced.insert(Address4([203, 0, 113, 10]));
        world.locals.insert(Address4([10, 0, 1, 1]));
        world
    }

    /// A number below `range` (SplitMix64).
    fn below(&mut self, range: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % range
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

impl Iterator for Strays {
    /// A frame, and the NIC it comes in on.
    type Item = (Vec<u8>, u16);

    fn next(&mut self) -> Option<Self::Item> {
        let client = format!("192.0.2.{}:{}", self.below(4), 1000 + self.below(8));
        let mut packet = match self.below(8) {
            0..4 => tcp(&client, self.pick(&[&VIPS[..], &["203.0.113.10:81", "198.51.100.1:80"]].concat())),
            4..6 => tcp(self.pick(&BACKENDS), &client).by_backend(),
            6 => tcp(self.pick(&BACKENDS), "10.0.1.1:40000").by_backend(),
            _ => tcp(&client, self.pick(&BACKENDS)),
        };
        // Numbers that now and then fit what another packet said.
        let near = [u32::MAX, 0, 0, 0, 1, 0x20_0000].map(|more| self.pick(&[more, 0]));
        packet.sequence = packet.sequence.wrapping_add(self.pick(&near));
        packet.acknowledgment = packet.acknowledgment.wrapping_add(self.pick(&near));
        packet.flags = self.pick(&[SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, RST | ACK, 0, 0xff]);
        packet.ttl = self.pick(&[64, 64, 64, 2, 1, 0]);
        packet.fragment = self.pick(&[0x4000, 0x4000, 0x4000, 0, 0x2000, 0x0001, 0x2001]);
        packet.ip_options = std::vec![1; 4 * self.pick(&[0, 0, 0, 1, 10])];
        packet.tcp_options = std::vec![1; 4 * self.pick(&[0, 0, 3, 10])];
        packet.payload = (0..self.below(40)).map(|octet| octet as u8).collect();
        let mut frame = packet.build();
        frame[23] = self.pick(&[6, 6, 6, 6, 6, 6, 17, 1]);
        for _ in 0..self.pick(&[0, 0, 0, 1, 3]) {
            let at = self.below(frame.len() as u64) as usize;
            frame[at] = self.below(256) as u8;
        }
        match self.below(8) {
            // The kernel makes no frame shorter than an Ethernet header.
            0 => frame.truncate(14 + self.below(frame.len() as u64 - 14) as usize),
            1 => frame.resize(frame.len() + self.below(20) as usize, 0xee),
            _ => {}
        }
        Some((frame, self.pick(&[NIC_A, NIC_B])))
    }
}
