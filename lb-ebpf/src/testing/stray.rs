//! Packets that nobody would send: valid ones of a small world, with octets changed, cut off or added.

use std::{format, vec::Vec};

use super::{NIC_A, NIC_B, World, tcp};
use crate::header::{ACK, FIN, RST, SYN};

/// An endless row of packets, the same for the same seed.
pub struct Strays {
    state: u64,
}

impl Strays {
    /// The row of a seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The world in which they mean something: two services that share a backend, and a local address.
    pub fn world() -> World {
        let mut world = World::new();
        world.serve(&["203.0.113.10:80"], &["10.0.1.11:8080", "10.0.1.12:8080"]);
        world.serve(&["203.0.113.11:80"], &["10.0.1.11:8080"]);
        world.serve(&["203.0.113.12:80"], &["10.0.1.13:80"]);
        world.fill(3, &[]);
        world.locals.insert(lb_common::Address4([10, 0, 1, 1]));
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
        let backends = ["10.0.1.11:8080", "10.0.1.12:8080", "10.0.1.13:80", "10.0.1.11:22"];
        let targets = ["203.0.113.10:80", "203.0.113.11:80", "203.0.113.12:80", "203.0.113.10:81", "198.51.100.1:80"];
        let local = "10.0.1.1:40000";
        let mut packet = match self.below(8) {
            0..4 => tcp(&client, self.pick(&targets)),
            4..6 => tcp(self.pick(&backends), &client).by_backend(),
            6 => tcp(self.pick(&backends), local).by_backend(),
            _ => tcp(&client, self.pick(&backends)),
        };
        packet.flags = self.pick(&[SYN, SYN | ACK, ACK, ACK, ACK, FIN | ACK, RST, RST | ACK, 0, 0xff]);
        packet.ttl = self.pick(&[64, 64, 64, 2, 1, 0]);
        packet.fragment = self.pick(&[0x4000, 0x4000, 0x4000, 0, 0x2000, 0x0001, 0x2001]);
        packet.ip_options = std::vec![1; 4 * self.pick(&[0, 0, 0, 1, 10])];
        packet.tcp_options = std::vec![1; 4 * self.pick(&[0, 0, 3, 10])];
        packet.payload = (0..self.below(40)).map(|octet| octet as u8).collect();
        let mut frame = packet.build();
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
