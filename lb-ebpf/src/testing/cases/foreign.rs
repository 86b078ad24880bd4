//! Packets that are none of ours, and those that look like it.

use std::{format, vec, vec::Vec};

use lb_common::{Reason, state};

use super::{BACK, BACKEND, CLIENT, NEW, PROVED, VIP, back, one, to_vip};
use crate::{
    header::SYN,
    testing::{Act, Case, NIC_A, NIC_B, TcpPacket, endpoint, mac_of, tcp},
};

const FOREIGN: &[(Reason, u64)] = &[(Reason::Foreign, 1)];
const DIRECT: &[(Reason, u64)] = &[(Reason::Direct, 1)];
const DIRECT_NEW: &[(Reason, u64)] = &[(Reason::Direct, 1), (Reason::HalfOpened, 1)];
const DIRECT_PROVED: &[(Reason, u64)] = &[(Reason::Direct, 1), (Reason::FlowCreated, 1)];

pub(super) fn cases() -> Vec<Case> {
    vec![
        others(),
        other_port(),
        other_protocols(),
        probes(),
        orphans(),
        direct(),
        direct_midlife(),
        direct_floods(),
        opened_by_backend(),
        opened_again(),
        opened_again_by_backend(),
        direct_state(),
        direct_beside_balanced(),
        direct_after_balanced(),
        fragments(),
    ]
}

fn others() -> Case {
    let mut arp = vec![0xff; 6];
    arp.extend(mac_of(NIC_A).0);
    arp.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    arp.resize(60, 0);
    let mut ipv6 = tcp(CLIENT, VIP).build();
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    let elsewhere = tcp(CLIENT, "198.51.100.1:80");
    let mut options = elsewhere.clone();
    options.ip_options = vec![1, 1, 1, 0];
    let mut piece = elsewhere.clone();
    piece.fragment = 0x00b9;
    Case::new("what is for nobody we know passes untouched", one)
        .passes(arp, NIC_A, FOREIGN)
        .passes(ipv6, NIC_A, FOREIGN)
        .passes(elsewhere.build(), NIC_A, FOREIGN)
        .passes(elsewhere.clone().ttl(1).build(), NIC_A, FOREIGN)
        .passes(options.build(), NIC_A, FOREIGN)
        .passes(piece.build(), NIC_A, FOREIGN)
        .passes(vec![0; 14], NIC_A, FOREIGN)
        .passes(elsewhere.build()[..30].to_vec(), NIC_A, FOREIGN)
        .then(Act::Halves(0))
}

fn other_port() -> Case {
    Case::new("another port of a VIP is not ours", one)
        .passes(tcp(CLIENT, "203.0.113.10:81").syn().build(), NIC_A, FOREIGN)
        .passes(tcp(CLIENT, "203.0.113.10:81").ttl(1).build(), NIC_A, FOREIGN)
        .passes(tcp("10.0.1.11:22", CLIENT).by_backend().build(), NIC_B, FOREIGN)
        .passes(tcp(CLIENT, "10.0.1.11:22").syn().build(), NIC_A, FOREIGN)
}

fn other_protocols() -> Case {
    let with_protocol = |protocol: u8| {
        let mut frame = tcp(CLIENT, VIP).build();
        frame[23] = protocol;
        frame
    };
    Case::new("UDP, ICMP and IPIP to a VIP with TCP services pass", one)
        .passes(with_protocol(17), NIC_A, FOREIGN)
        .passes(with_protocol(1), NIC_A, FOREIGN)
        .passes(with_protocol(4), NIC_A, FOREIGN)
}

fn probes() -> Case {
    let answer = tcp(BACKEND, "10.0.1.1:40000").by_backend();
    Case::new("a backend's answers to the gateway's own probes pass", |world| {
        one(world);
        world.locals.insert(endpoint("10.0.1.1:0").address);
    })
    .passes(answer.clone().syn_ack().build(), NIC_B, &[(Reason::ToGateway, 1)])
    .passes(answer.rst().build(), NIC_B, &[(Reason::ToGateway, 1)])
    .passes(tcp("10.0.1.1:40000", BACKEND).build(), NIC_A, DIRECT)
    .then(Act::Halves(0))
}

fn orphans() -> Case {
    let orphan = tcp(BACKEND, CLIENT).by_backend();
    Case::new("a backend's packet of no flow is dropped, not guessed at", one)
        .drops(orphan.build(), NIC_B, Reason::OrphanReply)
        .drops(orphan.clone().syn_ack().build(), NIC_B, Reason::OrphanReply)
        .drops(orphan.clone().fin().build(), NIC_B, Reason::OrphanReply)
        .drops(orphan.rst().build(), NIC_B, Reason::OrphanReply)
        .then(Act::Halves(0))
}

/// The client's packet to the backend's own address.
fn past() -> TcpPacket {
    tcp(CLIENT, BACKEND)
}

/// A connection opened directly to a backend.
fn connected(case: Case) -> Case {
    case.passes(past().syn().build(), NIC_A, DIRECT_NEW).passes(back().syn_ack().build(), NIC_B, DIRECT).passes(
        past().build(),
        NIC_A,
        DIRECT_PROVED,
    )
}

fn direct() -> Case {
    let data = past().payload(b"hello");
    Case::new("a connection opened directly to a backend passes both ways", one)
        .passes(past().syn().build(), NIC_A, DIRECT_NEW)
        .passes(back().syn_ack().ttl(1).build(), NIC_B, DIRECT)
        .passes(back().syn_ack().build(), NIC_B, DIRECT)
        // The right number proves nothing where a RST or a SYN has it.
        .passes(past().flags(SYN).build(), NIC_A, DIRECT)
        .passes(past().rst().build(), NIC_A, DIRECT)
        .then(Act::Flows(0))
        .passes(data.build(), NIC_A, DIRECT_PROVED)
        .then(Act::Halves(0))
        .passes(back().payload(b"hello").build(), NIC_B, DIRECT)
        .passes(back().ttl(1).build(), NIC_B, DIRECT)
        // A stump passes as well, but does not end the flow.
        .passes(data.build()[..40].to_vec(), NIC_A, DIRECT)
        .then(Act::Shows([state::SPOKE | state::DATA; 2], [4, 2], [165, 85]))
        .passes(past().rst().build(), NIC_A, DIRECT)
        .then(Act::Flows(1))
}

fn direct_midlife() -> Case {
    Case::new("a direct connection first seen in mid-life lives once its backend goes on with it", one)
        .passes(past().build(), NIC_A, DIRECT_NEW)
        .passes(back().syn_ack().build(), NIC_B, DIRECT)
        .then(Act::Flows(0))
        .passes(back().build(), NIC_B, DIRECT_PROVED)
        .then(Act::Shows([state::SPOKE; 2], [1, 2], [40, 80]))
        .passes(past().build(), NIC_A, DIRECT)
}

fn opened_by_backend() -> Case {
    Case::new("a connection that a backend opens from its own port passes both ways", one)
        .passes(back().syn().build(), NIC_B, DIRECT_NEW)
        .passes(past().syn_ack().build(), NIC_A, DIRECT)
        .then(Act::Flows(0))
        .passes(back().build(), NIC_B, DIRECT_PROVED)
        .passes(past().payload(b"hello").build(), NIC_A, DIRECT)
        .then(Act::Flows(1))
}

fn direct_floods() -> Case {
    let mut case = connected(Case::new("floods past the service fill no live table, and end no connection", one));
    let strangers: Vec<_> = (1..=64).map(|host| tcp(&format!("198.18.0.{host}:4321"), BACKEND)).collect();
    for packet in &strangers {
        case = case.passes(packet.clone().syn().build(), NIC_A, DIRECT_NEW);
    }
    for packet in &strangers {
        // What nobody has sent proves nothing.
        case = case.passes(packet.build(), NIC_A, DIRECT).passes(packet.clone().rst().build(), NIC_A, DIRECT);
    }
    case.then(Act::Flows(1))
        .passes(past().build(), NIC_A, DIRECT)
        .passes(back().build(), NIC_B, DIRECT)
        .then(Act::Flows(1))
}

/// How a case sees that a direct connection is not over: its port and backend are taken.
fn taken(case: Case) -> Case {
    case.drops(to_vip().syn().build(), NIC_A, Reason::TupleConflict)
}

fn opened_again() -> Case {
    let refused = Case::new("a direct connection opened again after a RST lives", one)
        .passes(past().syn().build(), NIC_A, DIRECT_NEW)
        .passes(back().rst().build(), NIC_B, DIRECT)
        .then(Act::Halves(0));
    let broken_off = taken(connected(refused)).passes(back().rst().build(), NIC_B, DIRECT);
    taken(connected(broken_off)).then(Act::Flows(1))
}

fn opened_again_by_backend() -> Case {
    let opened = |case: Case| {
        case.passes(back().syn().build(), NIC_B, DIRECT_NEW).passes(past().syn_ack().build(), NIC_A, DIRECT).passes(
            back().build(),
            NIC_B,
            DIRECT_PROVED,
        )
    };
    let case = opened(Case::new("a direct connection that its backend opens again after both FINs lives", one))
        .passes(back().fin().build(), NIC_B, DIRECT)
        .passes(past().fin().build(), NIC_A, DIRECT);
    taken(opened(case)).then(Act::Flows(1))
}

fn direct_state() -> Case {
    Case::new("a stray packet past a service ends no direct connection, nor begins one", one)
        .passes(tcp("192.0.2.9:4321", BACKEND).rst().build(), NIC_A, DIRECT)
        .passes(tcp("192.0.2.9:4321", BACKEND).fin().build(), NIC_A, DIRECT)
        .passes(tcp("192.0.2.9:4321", BACKEND).syn_ack().build(), NIC_A, DIRECT)
        .then(Act::Halves(0))
        .passes(tcp("192.0.2.8:4321", BACKEND).build(), NIC_A, DIRECT_NEW)
        .then(Act::Halves(1))
}

fn direct_beside_balanced() -> Case {
    Case::new("a stray direct packet does not take a service's flow away", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .passes(past().syn().build(), NIC_A, DIRECT)
        .returns(&back().syn_ack(), VIP, BACK)
        // Nor can what it acknowledges speak for the client of the VIP.
        .passes(past().build(), NIC_A, DIRECT)
        .then(Act::Flows(0))
        .sends(&to_vip(), BACKEND, PROVED)
        .passes(past().syn().build(), NIC_A, DIRECT)
        .passes(past().rst().build(), NIC_A, DIRECT)
        .returns(&back(), VIP, BACK)
        .then(Act::Shows([state::SPOKE; 2], [2, 2], [80, 80]))
}

fn direct_after_balanced() -> Case {
    let case = Case::new("a port whose connection through a service is over opens one directly", one)
        .connects(CLIENT, VIP, BACKEND)
        .returns(&back().rst(), VIP, BACK)
        .passes(past().build(), NIC_A, DIRECT);
    connected(case).then(Act::Flows(1))
}

fn fragments() -> Case {
    let mut first = tcp(CLIENT, "203.0.113.10:81").payload(&[0; 64]);
    first.fragment = 0x2000;
    Case::new("the first fragment for another port of a VIP is not ours", one).passes(first.build(), NIC_A, FOREIGN)
}
