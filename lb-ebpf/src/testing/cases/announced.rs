//! A VIP that we put on the gateway ourselves: nothing but services and ICMP is reached through it.

use std::{vec, vec::Vec};

use lb_common::Reason;

use super::{BACKEND, CLIENT, NEW, VIP, back, one, refusal, to_vip};
use crate::{
    forward::Verdict,
    header::{FIN, SYN},
    testing::{Act, Case, NIC_A, TcpPacket, World, endpoint, tcp},
};

pub(super) fn cases() -> Vec<Case> {
    vec![other_port(), other_port_broken(), other_protocols(), pieces(), others_are_left_alone(), withdrawn()]
}

const FOREIGN: &[(Reason, u64)] = &[(Reason::Foreign, 1)];
/// A port of the VIP that no service has.
const CLOSED: &str = "203.0.113.10:22";

fn announced(world: &mut World) {
    one(world);
    world.announced.insert(endpoint(VIP).address);
}

fn closed() -> TcpPacket {
    tcp(CLIENT, CLOSED)
}

fn with_protocol(packet: &TcpPacket, protocol: u8) -> Vec<u8> {
    let mut frame = packet.build();
    frame[23] = protocol;
    frame
}

fn other_port() -> Case {
    let mut with_options = closed().syn();
    with_options.tcp_options = vec![1; 20];
    Case::new("a TCP port of an announced VIP that no service has is refused", announced)
        .arrives(
            closed().syn().build(),
            NIC_A,
            Verdict::Transmit,
            refusal(&closed().syn()).rst().numbers(0, 1000).build(),
            &[(Reason::UnservedReset, 1)],
        )
        .refused(&with_options, NIC_A, Reason::UnservedReset)
        .refused(&closed().payload(b"hello"), NIC_A, Reason::UnservedReset)
        .refused(&closed().flags(FIN).payload(b"bye"), NIC_A, Reason::UnservedReset)
        .refused(&closed().syn_ack(), NIC_A, Reason::UnservedReset)
        .drops(closed().rst().build(), NIC_A, Reason::Unserved)
        .drops(closed().flags(SYN).rst().build(), NIC_A, Reason::Unserved)
        // The port of the service is served.
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Halves(1))
}

fn other_port_broken() -> Case {
    let syn = closed().syn().build();
    let mut first = closed().payload(&[7; 64]);
    first.fragment = 0x2000;
    let mut offset = syn.clone();
    offset[46] = 4 << 4;
    Case::new("what is broken is not answered, were it for a port that no service has", announced)
        .drops(closed().ttl(1).build(), NIC_A, Reason::TtlExpired)
        .drops(closed().payload(b"cut short").build()[..60].to_vec(), NIC_A, Reason::Truncated)
        .drops(syn[..44].to_vec(), NIC_A, Reason::Truncated)
        .drops(syn[..36].to_vec(), NIC_A, Reason::Truncated)
        .drops(offset, NIC_A, Reason::BadHeader)
        .drops(first.build(), NIC_A, Reason::Fragment)
}

fn other_protocols() -> Case {
    let mut with_options = to_vip();
    with_options.ip_options = vec![1; 8];
    let mut case = Case::new("of other protocols only ICMP reaches an announced VIP", announced)
        .passes(with_protocol(&to_vip(), 1), NIC_A, FOREIGN)
        .passes(with_protocol(&with_options, 1), NIC_A, FOREIGN);
    // IGMP, IPIP, UDP, GRE, ESP, SCTP.
    for protocol in [2, 4, 17, 47, 50, 132] {
        case = case.drops(with_protocol(&to_vip(), protocol), NIC_A, Reason::Unserved).drops(
            with_protocol(&with_options, protocol),
            NIC_A,
            Reason::Unserved,
        );
    }
    // Were it cut short after the addresses.
    case.drops(with_protocol(&to_vip(), 17)[..34].to_vec(), NIC_A, Reason::Unserved)
        .passes(with_protocol(&tcp(CLIENT, BACKEND), 17), NIC_A, FOREIGN)
        .passes(with_protocol(&back(), 17), NIC_A, FOREIGN)
}

fn pieces() -> Case {
    let piece = |fragment: u16| {
        let mut packet = to_vip().payload(&[7; 64]);
        packet.fragment = fragment;
        packet
    };
    let mut case =
        Case::new("pieces of a datagram to an announced VIP end as the whole would, TCP's always", announced);
    for fragment in [0x2000, 0x2001, 0x0010] {
        case = case
            .passes(with_protocol(&piece(fragment), 1), NIC_A, FOREIGN)
            .drops(with_protocol(&piece(fragment), 17), NIC_A, Reason::Unserved)
            .drops(piece(fragment).build(), NIC_A, Reason::Fragment);
    }
    case
}

fn others_are_left_alone() -> Case {
    let own = "203.0.113.99:80";
    Case::new("an address that the gateway had before keeps what no service has", |world| {
        announced(world);
        world.serve(&[own], &["10.0.1.13:80"]);
    })
    .passes(tcp(CLIENT, "203.0.113.99:22").syn().build(), NIC_A, FOREIGN)
    .passes(with_protocol(&tcp(CLIENT, own), 17), NIC_A, FOREIGN)
    .passes(tcp(CLIENT, "203.0.113.98:22").syn().build(), NIC_A, FOREIGN)
}

/// The address stays ours while its flows live, but its service is no more.
fn withdrawn() -> Case {
    let mut without = World::new();
    without.announced.insert(endpoint(VIP).address);
    let piece = {
        let mut packet = to_vip().payload(&[7; 64]);
        packet.fragment = 0x0010;
        packet
    };
    Case::new("an announced VIP whose service is withdrawn refuses its port", announced)
        .then(Act::Change(without))
        .refused(&to_vip().syn(), NIC_A, Reason::UnservedReset)
        .drops(piece.build(), NIC_A, Reason::Fragment)
        .drops(with_protocol(&to_vip(), 17), NIC_A, Reason::Unserved)
}
