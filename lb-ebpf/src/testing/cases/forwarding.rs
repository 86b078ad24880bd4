//! Packets of services, there and back.

use std::{vec, vec::Vec};

use lb_common::{Backend, Reason, state};

use super::{
    BACK, BACKEND, CLIENT, NEW, ON, OTHER, PROVED, TAKEN_IN, TO_A, TO_B, VIP, back, one, refusal, to_vip, two,
};
use crate::{
    forward::Verdict,
    header::SYN,
    testing::{Act, Case, Memory, NIC_A, NIC_B, ROUTER_A, TcpPacket, World, endpoint, mac_of, mac_of_address, tcp},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        connection(),
        golden_there(),
        golden_back(),
        one_nic(),
        mid_life(),
        unresolved(),
        nobody(),
        nobody_fin(),
        nobody_data(),
        far_numbers(),
        nobody_rst(),
        two_vips_share_a_backend(),
        two_vips_share_the_only_backend(),
        client_moves(),
        forged_move(),
        stays_when_the_table_changes(),
        several_listens(),
        checksum_edges(),
    ]
}

fn connection() -> Case {
    let data = to_vip().payload(b"GET / HTTP/1.0\r\n\r\n");
    let answer = back().payload(b"HTTP/1.0 200 OK\r\n\r\nodd");
    Case::new("a connection goes to its backend and comes back from the VIP", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .returns(&back().syn_ack(), VIP, BACK)
        .then(Act::Flows(0))
        .sends(&to_vip(), BACKEND, PROVED)
        .then(Act::Halves(0))
        .sends(&data, BACKEND, ON)
        .returns(&answer, VIP, BACK)
        .then(Act::Flows(1))
        .then(Act::Traffic(1, [3, 2], [40 + 40 + 58, 40 + 62]))
}

/// The packet of the golden vectors.
fn vector(source: &str, target: &str) -> TcpPacket {
    let mut packet = tcp(source, target).flags(SYN).numbers(0x40e2_0100, 0).payload(b"Should not change!!\0");
    packet.fragment = 0;
    packet
}

/// The frame, with these checksums of IP and TCP, which were computed independently.
fn with_checksums(frame: Vec<u8>, ip: u16, tcp: u16) -> Vec<u8> {
    let mut frame = frame;
    frame[24..26].copy_from_slice(&ip.to_be_bytes());
    frame[50..52].copy_from_slice(&tcp.to_be_bytes());
    frame
}

fn golden_there() -> Case {
    let packet = vector("110.0.11.1:111", "172.16.10.1:80").ttl(65);
    let out = with_checksums(packet.clone().to("192.168.0.1:8080").towards_backend().build(), 0x4112, 0xd7d0);
    Case::new("the golden vector of a rewritten target", |world| {
        world.serve(&["172.16.10.1:80"], &["192.168.0.1:8080"]);
    })
    .arrives(packet.build(), NIC_A, TO_B, out, NEW)
}

fn golden_back() -> Case {
    let packet = vector("192.168.0.2:8080", "110.0.11.1:111").by_backend().numbers(0x40e2_0100, 0);
    let out = with_checksums(packet.clone().from("172.16.10.2:80").towards_client().build(), 0x4ca9, 0x01a8);
    Case::new("the golden vector of a restored source", |world| {
        world.serve(&["172.16.10.2:80"], &["192.168.0.2:8080"]);
    })
    .arrives(vector("110.0.11.1:111", "172.16.10.2:80").build(), NIC_A, TO_B, None, NEW)
    .arrives(packet.build(), NIC_B, TO_A, out, BACK)
}

fn one_nic() -> Case {
    let syn = to_vip().syn();
    let out = syn.clone().to(BACKEND).ttl(63).macs(mac_of(NIC_A), mac_of_address(endpoint(BACKEND).address));
    let answer = back().syn_ack();
    Case::new("one NIC with both subnets sends packets out where they came in", |world| {
        one(world);
        world.nics.remove(&NIC_B);
        for backend in world.backends.values_mut() {
            backend.nic = NIC_A;
        }
    })
    .arrives(syn.build(), NIC_A, Verdict::Transmit, out.build(), NEW)
    .arrives(answer.build(), NIC_A, Verdict::Transmit, answer.clone().from(VIP).towards_client().build(), BACK)
}

fn mid_life() -> Case {
    let data = to_vip().payload(b"still here");
    Case::new("a flow first seen in mid-life goes where the hash says, and lives once its backend goes on with it", one)
        .sends(&data, BACKEND, NEW)
        .sends(&data, BACKEND, ON)
        .then(Act::Flows(0))
        .returns(&back(), VIP, TAKEN_IN)
        .then(Act::Halves(0))
        .sends(&data, BACKEND, ON)
        .then(Act::Shows([state::SPOKE | state::DATA, state::SPOKE], [3, 1], [150, 40]))
}

fn unresolved() -> Case {
    let syn = to_vip().syn();
    let counts = &[(Reason::ToBackendByKernel, 1), (Reason::HalfOpened, 1)];
    let proved = &[(Reason::ToBackendByKernel, 1), (Reason::FlowCreated, 1)];
    Case::new(
        "a backend whose neighbour is unknown is reached through the kernel, which counts down the TTL",
        |world| {
            one(world);
            for backend in world.backends.values_mut() {
                backend.flags = Backend::PRESENT | Backend::ELIGIBLE;
            }
        },
    )
    .arrives(syn.build(), NIC_A, Verdict::Pass, syn.clone().to(BACKEND).build(), counts)
    .returns(&back().syn_ack(), VIP, BACK)
    .arrives(to_vip().build(), NIC_A, Verdict::Pass, to_vip().to(BACKEND).build(), proved)
    .arrives(
        to_vip().build(),
        NIC_A,
        Verdict::Pass,
        to_vip().to(BACKEND).build(),
        &[(Reason::ToBackendByKernel, 1)],
    )
}

fn without_backends(world: &mut World) {
    one(world);
    world.fill(1, &[]);
}

fn nobody() -> Case {
    let mut syn = to_vip().syn();
    syn.tcp_options = vec![2, 4, 5, 0xb4];
    syn.ip_options = vec![1, 1, 1, 0];
    Case::new("a SYN for a service without backends is answered with RST", without_backends)
        .arrives(
            syn.build(),
            NIC_A,
            Verdict::Transmit,
            refusal(&syn).rst().numbers(0, 1000).build(),
            &[(Reason::NoBackendReset, 1)],
        )
        .then(Act::Halves(0))
}

fn nobody_fin() -> Case {
    let mut fin = to_vip().flags(crate::header::FIN).payload(b"bye").ttl(9);
    fin.id = 0x1234;
    Case::new("a RST acknowledges data and FIN, and has a life of its own", without_backends).arrives(
        fin.build(),
        NIC_A,
        Verdict::Transmit,
        refusal(&fin).rst().numbers(0, 1004).build(),
        &[(Reason::NoBackendReset, 1)],
    )
}

fn far_numbers() -> Case {
    let data = to_vip().payload(b"more");
    Case::new("a NIC whose place is taken stands in one after it", |world| {
        one(world);
        world.nics.get_mut(&NIC_A).expect("NIC A").ifindex = 65;
        world.nics.get_mut(&NIC_B).expect("NIC B").ifindex = 129;
    })
    .arrives(to_vip().syn().build(), NIC_B, Verdict::Transmit, None, NEW)
    .arrives(back().syn_ack().build(), NIC_B, Verdict::Transmit, None, BACK)
    .sends(&data, BACKEND, PROVED)
    .returns(&back(), VIP, BACK)
}

fn nobody_data() -> Case {
    let data = to_vip().payload(b"anyone?");
    Case::new("an ACK for a service without backends is answered where it acknowledges", without_backends).arrives(
        data.build(),
        NIC_A,
        Verdict::Transmit,
        refusal(&data).flags(crate::header::RST).numbers(2000, 0).build(),
        &[(Reason::NoBackendReset, 1)],
    )
}

fn nobody_rst() -> Case {
    Case::new("a RST is never answered by a RST", without_backends).drops(
        to_vip().rst().build(),
        NIC_A,
        Reason::NoBackend,
    )
}

const SECOND_VIP: &str = "203.0.113.11:80";

fn two_vips_share_a_backend() -> Case {
    // On the slot of this client both services have their first backend, which is the same.
    let client = endpoint(CLIENT).address;
    let slot = Memory::slot_of(client, lb_common::slots::SMALL) as usize;
    Case::new("a port that talks to a backend through one VIP gets another backend through the second", |world| {
        world.serve(&[VIP], &[BACKEND]);
        world.serve(&[SECOND_VIP], &[BACKEND, OTHER]);
        let table = world.tables.get_mut(&2).expect("the second service");
        (table[slot], table[slot + 1]) = (2, 3);
    })
    .connects(CLIENT, VIP, BACKEND)
    .connects(CLIENT, SECOND_VIP, OTHER)
    .returns(&back(), VIP, BACK)
    .returns(&tcp(OTHER, CLIENT).by_backend(), SECOND_VIP, BACK)
    .then(Act::Flows(2))
}

fn two_vips_share_the_only_backend() -> Case {
    let syn = tcp(CLIENT, SECOND_VIP).syn();
    Case::new(
        "a port that talks to the only backend through one VIP cannot through the second, until it is done",
        |world| {
            world.serve(&[VIP], &[BACKEND]);
            world.serve(&[SECOND_VIP], &[BACKEND]);
        },
    )
    .sends(&to_vip().syn(), BACKEND, NEW)
    // Not while the handshake is under way, and not after it.
    .drops(syn.build(), NIC_A, Reason::TupleConflict)
    .returns(&back().syn_ack(), VIP, BACK)
    .sends(&to_vip(), BACKEND, PROVED)
    .drops(syn.build(), NIC_A, Reason::TupleConflict)
    .connects("192.0.2.7:4322", SECOND_VIP, BACKEND)
    .returns(&back().rst(), VIP, BACK)
    .then(Act::Flows(2))
    .connects(CLIENT, SECOND_VIP, BACKEND)
    .then(Act::Flows(2))
}

fn client_moves() -> Case {
    let other = lb_common::Mac([2, 0, 0, 0, 0xaa, 2]);
    let data = to_vip().macs(other, mac_of(NIC_A));
    let out = back().from(VIP).ttl(63).macs(mac_of(NIC_A), other);
    let answer = back().syn_ack().from(VIP).ttl(63).macs(mac_of(NIC_A), other);
    Case::new("replies leave the way the client's last packet came", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        // In the handshake.
        .arrives(to_vip().syn().macs(other, mac_of(NIC_A)).build(), NIC_A, TO_B, None, ON)
        .arrives(back().syn_ack().build(), NIC_B, TO_A, answer.build(), BACK)
        .sends(&to_vip(), BACKEND, PROVED)
        .returns(&back(), VIP, BACK)
        // And in the live flow.
        .arrives(data.build(), NIC_A, TO_B, None, ON)
        .arrives(back().build(), NIC_B, TO_A, out.build(), BACK)
        .arrives(to_vip().macs(ROUTER_A, mac_of(NIC_B)).build(), NIC_B, Verdict::Transmit, None, ON)
        .arrives(back().build(), NIC_B, Verdict::Transmit, None, BACK)
        // The same router, on the NIC before.
        .arrives(to_vip().build(), NIC_A, TO_B, None, ON)
        .arrives(back().build(), NIC_B, TO_A, None, BACK)
}

fn forged_move() -> Case {
    let forger = lb_common::Mac([2, 0, 0, 0, 0xaa, 3]);
    let mut forged = to_vip().macs(forger, mac_of(NIC_A));
    // Far from anything that the backend has acknowledged.
    forged.sequence = forged.sequence.wrapping_add(0x4000_0000);
    let handshake = to_vip().numbers(1000, 77).macs(forger, mac_of(NIC_A));
    Case::new("a forged packet does not lead replies away", one)
        .shakes(CLIENT, VIP, BACKEND)
        .arrives(handshake.build(), NIC_A, TO_B, None, ON)
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
        .arrives(forged.build(), NIC_A, TO_B, None, ON)
        .returns(&back(), VIP, BACK)
        .arrives(forged.macs(forger, mac_of(NIC_B)).build(), NIC_B, Verdict::Transmit, None, ON)
        .returns(&back(), VIP, BACK)
}

fn stays_when_the_table_changes() -> Case {
    Case::new("a live flow stays where it is when the table changes, a new one follows the table", |world| {
        *world = two(1);
    })
    .connects(CLIENT, VIP, BACKEND)
    .then(Act::Change(two(2)))
    .sends(&to_vip().payload(b"more"), BACKEND, ON)
    .connects("192.0.2.7:9999", VIP, OTHER)
}

fn several_listens() -> Case {
    let second = tcp(CLIENT, "203.0.113.12:8443").syn();
    Case::new("a service with several listens serves all of them", |world| {
        world.serve(&[VIP, "203.0.113.12:8443"], &[BACKEND]);
    })
    .arrives(second.build(), NIC_A, TO_B, second.clone().to(BACKEND).towards_backend().build(), NEW)
}

/// Values at the edges of the TCP checksum, in either order of octets (the machine's is summed), by a payload that steers it there.
fn checksum_edges() -> Case {
    let mut case = Case::new("checksums are right at their edges", one);
    let mut first = true;
    for wanted in [0x0000u16, 0x0001, 0x00ff, 0x0100, 0x7fff, 0x8000, 0xfcff, 0xfdff, 0xfeff, 0xfffd, 0xfffe, 0xffff] {
        for steer_after in [false, true] {
            let mut packet = to_vip().payload(&[0, 0]);
            // The word that makes the sum of the packet, before or after the rewrite, what is wanted.
            let probe = if steer_after { packet.clone().to(BACKEND).towards_backend() } else { packet.clone() };
            let frame = probe.build();
            let sum = u16::from_be_bytes([frame[50], frame[51]]);
            let word = (u32::from(sum) + u32::from(!wanted)) as u64;
            let word = ((word & 0xffff) + (word >> 16)) as u16;
            packet = packet.payload(&word.to_be_bytes());
            let out = packet.clone().to(BACKEND).towards_backend().build();
            case = case.arrives(packet.build(), NIC_A, TO_B, out, if first { NEW } else { ON });
            first = false;
        }
    }
    case
}
