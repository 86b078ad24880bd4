//! Packets that are none of ours, and those that look like it.

use std::{vec, vec::Vec};

use lb_common::{Reason, state};

use super::{BACKEND, CLIENT, VIP, one};
use crate::{
    forward::Verdict,
    testing::{Act, Case, NIC_A, NIC_B, World, endpoint, mac_of, tcp},
};

const FOREIGN: &[(Reason, u64)] = &[(Reason::Foreign, 1)];
const DIRECT: &[(Reason, u64)] = &[(Reason::Direct, 1)];
const DIRECT_NEW: &[(Reason, u64)] = &[(Reason::Direct, 1), (Reason::FlowCreated, 1)];

pub(super) fn cases() -> Vec<Case> {
    vec![
        others(),
        other_port(),
        other_protocols(),
        probes(),
        orphans(),
        direct(),
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
        .then(Act::Flows(0))
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
    .then(Act::Flows(0))
}

fn orphans() -> Case {
    let orphan = tcp(BACKEND, CLIENT).by_backend();
    Case::new("a backend's packet of no flow is dropped, not guessed at", one)
        .drops(orphan.build(), NIC_B, Reason::OrphanReply)
        .drops(orphan.clone().syn_ack().build(), NIC_B, Reason::OrphanReply)
        .drops(orphan.clone().fin().build(), NIC_B, Reason::OrphanReply)
        .drops(orphan.rst().build(), NIC_B, Reason::OrphanReply)
        .then(Act::Flows(0))
}

fn direct() -> Case {
    let request = tcp(CLIENT, BACKEND);
    let answer = tcp(BACKEND, CLIENT).by_backend();
    Case::new("a connection opened directly to a backend passes both ways", one)
        .passes(request.clone().syn().build(), NIC_A, DIRECT_NEW)
        .passes(answer.clone().syn_ack().build(), NIC_B, DIRECT)
        .passes(request.clone().payload(b"hello").build(), NIC_A, DIRECT)
        .passes(answer.clone().payload(b"hello").build(), NIC_B, DIRECT)
        .passes(answer.ttl(1).build(), NIC_B, DIRECT)
        // A stump passes as well, but does not end the flow.
        .passes(request.build()[..40].to_vec(), NIC_A, DIRECT)
        .then(Act::Shows([state::SPOKE; 2], [1, 2], [45, 85]))
        .passes(request.rst().build(), NIC_A, DIRECT)
        .then(Act::Flows(1))
}

fn opened_by_backend() -> Case {
    let request = tcp(BACKEND, CLIENT).by_backend();
    Case::new("a connection that a backend opens from its own port passes both ways", one)
        .passes(request.clone().syn().build(), NIC_B, DIRECT_NEW)
        .passes(tcp(CLIENT, BACKEND).syn_ack().build(), NIC_A, DIRECT)
        .passes(request.build(), NIC_B, DIRECT)
}

/// How a case sees that a direct flow is not over: its port and backend are taken.
fn taken(case: Case) -> Case {
    case.drops(tcp(CLIENT, VIP).syn().build(), NIC_A, Reason::TupleConflict).then(Act::Flows(1))
}

fn opened_again() -> Case {
    let request = tcp(CLIENT, BACKEND);
    let answer = tcp(BACKEND, CLIENT).by_backend();
    taken(
        Case::new("a direct connection opened again after a RST lives", one)
            .passes(request.clone().syn().build(), NIC_A, DIRECT_NEW)
            .passes(answer.clone().rst().build(), NIC_B, DIRECT)
            .passes(request.syn().build(), NIC_A, DIRECT)
            .passes(answer.syn_ack().build(), NIC_B, DIRECT),
    )
}

fn opened_again_by_backend() -> Case {
    let request = tcp(BACKEND, CLIENT).by_backend();
    let answer = tcp(CLIENT, BACKEND);
    taken(
        Case::new("a direct connection that its backend opens again after both FINs lives", one)
            .passes(request.clone().syn().build(), NIC_B, DIRECT_NEW)
            .passes(answer.clone().syn_ack().build(), NIC_A, DIRECT)
            .passes(request.clone().fin().build(), NIC_B, DIRECT)
            .passes(answer.fin().build(), NIC_A, DIRECT)
            .passes(request.syn().build(), NIC_B, DIRECT),
    )
}

fn direct_state() -> Case {
    let request = tcp(CLIENT, BACKEND);
    let answer = tcp(BACKEND, CLIENT).by_backend();
    Case::new("a direct flow shows who has spoken", one)
        .passes(request.clone().syn().build(), NIC_A, DIRECT_NEW)
        .then(Act::Shows([0; 2], [0; 2], [0; 2]))
        .passes(answer.syn_ack().build(), NIC_B, DIRECT)
        .then(Act::Shows([0, state::SPOKE], [0, 1], [0, 40]))
        .passes(request.clone().build(), NIC_A, DIRECT)
        .then(Act::Shows([state::SPOKE; 2], [1, 1], [40, 40]))
        .passes(tcp("192.0.2.9:4321", BACKEND).rst().build(), NIC_A, DIRECT)
        .then(Act::Flows(1))
        .passes(tcp("192.0.2.8:4321", BACKEND).build(), NIC_A, DIRECT_NEW)
        .then(Act::Flows(2))
}

fn direct_beside_balanced() -> Case {
    let answer = tcp(BACKEND, CLIENT).by_backend();
    let new = &[(Reason::ToBackend, 1), (Reason::FlowCreated, 1)];
    Case::new("a stray direct packet does not take a service's flow away", one)
        .arrives(tcp(CLIENT, VIP).syn().build(), NIC_A, Verdict::Redirect(NIC_B), None, new)
        .passes(tcp(CLIENT, BACKEND).syn().build(), NIC_A, DIRECT)
        .arrives(
            answer.build(),
            NIC_B,
            Verdict::Redirect(NIC_A),
            answer.clone().from(VIP).towards_client().build(),
            &[(Reason::ToClient, 1)],
        )
        .then(Act::Flows(1))
}

fn direct_after_balanced() -> Case {
    let answer = tcp(BACKEND, CLIENT).by_backend();
    let new = &[(Reason::ToBackend, 1), (Reason::FlowCreated, 1)];
    Case::new("a port whose connection through a service is over opens one directly", one)
        .arrives(tcp(CLIENT, VIP).syn().build(), NIC_A, Verdict::Redirect(NIC_B), None, new)
        .arrives(answer.clone().rst().build(), NIC_B, Verdict::Redirect(NIC_A), None, &[(Reason::ToClient, 1)])
        .passes(tcp(CLIENT, BACKEND).build(), NIC_A, DIRECT)
        .passes(tcp(CLIENT, BACKEND).syn().build(), NIC_A, DIRECT_NEW)
        .passes(answer.syn_ack().build(), NIC_B, DIRECT)
        .then(Act::Flows(1))
}

fn fragments() -> Case {
    let vip_of_another_port = |world: &mut World| one(world);
    let mut first = tcp(CLIENT, "203.0.113.10:81").payload(&[0; 64]);
    first.fragment = 0x2000;
    Case::new("the first fragment for another port of a VIP is not ours", vip_of_another_port).passes(
        first.build(),
        NIC_A,
        FOREIGN,
    )
}
