//! Single frames from the client, made by hand, and what came back before the gateway did all of them.

use std::net::Ipv4Addr;

use lb_common::Mac;
use lb_ebpf::testing::{TcpPacket, checksum};
use testkit::{Topology, Wire};

use crate::stage::SOON;

/// A client that sends what it likes.
#[derive(Debug)]
pub(crate) struct Forger {
    wire: Wire,
    macs: (Mac, Mac),
    fences: u16,
}

impl Forger {
    /// On the client's NIC, towards the gateway's first.
    pub(crate) fn new(topology: &Topology) -> Self {
        let wire = Wire::open(&topology.client, "eth0").unwrap();
        let macs = [&topology.client, &topology.gateway.host].map(|host| Mac(host.mac("eth0").unwrap()));
        Self { wire, macs: macs.into(), fences: 0 }
    }

    /// Sends a packet to the gateway.
    pub(crate) fn send(&self, packet: &TcpPacket) {
        self.wire.send(&self.built(packet)).unwrap();
    }

    /// Sends a packet as two fragments, the first with so many octets, a multiple of eight.
    pub(crate) fn send_in_two(&self, packet: &TcpPacket, first: usize) {
        let frame = self.built(packet);
        let (head, segment) = frame.split_at(34);
        let parts = [(&segment[..first], 0x2000), (&segment[first..], (first / 8) as u16)];
        for (octets, fragment) in parts {
            let mut head = head.to_vec();
            head[16..18].copy_from_slice(&(20 + octets.len() as u16).to_be_bytes());
            head[20..22].copy_from_slice(&u16::to_be_bytes(fragment));
            self.wire.send(&[&seal(head)[..], octets].concat()).unwrap();
        }
    }

    /// Waits until the gateway has done all that was sent before, and returns what the client received meanwhile.
    pub(crate) fn fence(&mut self) -> Vec<Vec<u8>> {
        self.ping(Topology::GATEWAY_OF_CLIENTS)
    }

    /// Pings a host, and returns what the client received before the answer.
    pub(crate) fn ping(&mut self, target: Ipv4Addr) -> Vec<Vec<u8>> {
        self.fences += 1;
        let (source, number) = (Topology::sources()[0], self.fences.to_be_bytes());
        let ethernet = [&self.macs.1.0[..], &self.macs.0.0, &[8, 0]].concat();
        let ip = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0][..], &source.octets(), &target.octets()].concat();
        let mut icmp = vec![8, 0, 0, 0, 0xfe, 0xce, number[0], number[1]];
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let is_answer = |frame: &[u8]| {
            frame.len() >= 42
                && frame[23] == 1
                && frame[26..30] == target.octets()
                && frame[34] == 0
                && frame[38..42] == icmp[4..8]
        };
        self.wire.send(&[seal([ethernet, ip].concat()), icmp.clone()].concat()).unwrap();
        let mut seen = Vec::new();
        loop {
            let frame = self.wire.next(SOON, |_| true).unwrap();
            let frame = frame.unwrap_or_else(|| panic!("{target} does not answer pings; seen before: {seen:x?}"));
            if is_answer(&frame) {
                return seen;
            }
            seen.push(frame);
        }
    }

    /// Asks who has an address, and waits for the answer.
    pub(crate) fn resolve(&self, target: Ipv4Addr) -> Mac {
        let source = Topology::sources()[0];
        let head = [&[0xff; 6][..], &self.macs.0.0, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
        let body = [&self.macs.0.0[..], &source.octets(), &[0; 6], &target.octets()].concat();
        self.wire.send(&[head, body].concat()).unwrap();
        let is_answer = |frame: &[u8]| {
            frame.len() >= 42 && frame[12..14] == [8, 6] && frame[20..22] == [0, 2] && frame[28..32] == target.octets()
        };
        let answer = self.wire.next(SOON, is_answer).unwrap().unwrap_or_else(|| panic!("nobody has {target}"));
        Mac(answer[22..28].try_into().unwrap())
    }

    fn built(&self, packet: &TcpPacket) -> Vec<u8> {
        packet.clone().macs(self.macs.0, self.macs.1).build()
    }
}

/// TCP flags of the frames that come from this address and port.
pub(crate) fn flags_from(frames: &[Vec<u8>], address: Ipv4Addr, port: u16) -> Vec<u8> {
    let is_from = |frame: &&Vec<u8>| {
        frame.len() >= 54
            && frame[12..14] == [8, 0]
            && frame[23] == 6
            && frame[26..30] == address.octets()
            && frame[34..36] == port.to_be_bytes()
    };
    frames.iter().filter(is_from).map(|frame| frame[47]).collect()
}

/// Ethernet and IPv4 headers with the checksum made anew.
fn seal(mut head: Vec<u8>) -> Vec<u8> {
    head[24..26].fill(0);
    let sum = checksum(&head[14..34]);
    head[24..26].copy_from_slice(&sum.to_be_bytes());
    head
}
