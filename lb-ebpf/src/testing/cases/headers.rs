//! Headers that are short, long, or lie.

use std::{vec, vec::Vec};

use lb_common::{Reason, state};

use super::{BACK, BACKEND, CLIENT, NEW, ON, PROVED, TAKEN_IN, VIP, back, one, to_vip};
use crate::{
    forward::Verdict,
    testing::{Act, Case, NIC_A, NIC_B, checksum, tcp},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        options(),
        truncated(),
        truncated_options(),
        lying(),
        lying_replies(),
        ttl(),
        fragments(),
        fragments_with_data_like_ports(),
        stubs(),
        padded(),
    ]
}

fn options() -> Case {
    let mut case = Case::new("IPv4 options of every length work both ways", one);
    for words in 1..=10 {
        let mut there = tcp(CLIENT, VIP).payload(b"abc");
        there.ip_options = vec![1; words * 4];
        there.tcp_options = vec![1; 12];
        let mut back = tcp(BACKEND, CLIENT).by_backend();
        back.ip_options = vec![1; words * 4];
        let (towards, from) = if words == 1 { (NEW, TAKEN_IN) } else { (ON, BACK) };
        case = case.sends(&there, BACKEND, towards).returns(&back, VIP, from);
    }
    case
}

fn truncated() -> Case {
    let whole = tcp(CLIENT, VIP).payload(b"some data").build();
    let mut case = Case::new("a packet cut short at any length never reaches a backend", one);
    for length in 14..whole.len() {
        let frame = whole[..length].to_vec();
        // Without whole addresses nobody can say whose it was.
        case = if length < 34 {
            case.passes(frame, NIC_A, &[(Reason::Foreign, 1)])
        } else {
            case.drops(frame, NIC_A, Reason::Truncated)
        };
    }
    case.then(Act::Halves(0))
}

fn truncated_options() -> Case {
    let mut packet = tcp(CLIENT, VIP);
    packet.ip_options = vec![1; 40];
    let whole = packet.build();
    let mut case = Case::new("a packet with options cut short at any length never reaches a backend", one);
    for length in 34..whole.len() {
        case = case.drops(whole[..length].to_vec(), NIC_A, Reason::Truncated);
    }
    case.then(Act::Halves(0))
}

/// A packet with one octet changed, and its IPv4 checksum made right again.
fn changed(frame: &[u8], at: usize, octet: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at] = octet;
    frame[24..26].fill(0);
    let sum = checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

fn lying() -> Case {
    let frame = tcp(CLIENT, VIP).payload(b"some data").build();
    let mut case = Case::new("headers that contradict the packet never reach a backend", one);
    for words in 0..5 {
        case = case.drops(changed(&frame, 14, 0x40 | words), NIC_A, Reason::BadHeader);
    }
    case = case.drops(changed(&frame, 14, 0x65), NIC_A, Reason::BadHeader);
    for words in 0..5 {
        case = case.drops(changed(&frame, 46, words << 4), NIC_A, Reason::BadHeader);
    }
    // 40 octets of headers and nine of data: a TCP header of 32 octets goes past the end.
    case.drops(changed(&frame, 46, 8 << 4), NIC_A, Reason::BadHeader)
        .drops(changed(&frame, 17, 39), NIC_A, Reason::BadHeader)
        .drops(changed(&frame, 17, 0), NIC_A, Reason::BadHeader)
        .drops(changed(&frame, 17, 50), NIC_A, Reason::Truncated)
        .drops(changed(&frame, 16, 0xff), NIC_A, Reason::Truncated)
        .then(Act::Halves(0))
}

fn lying_replies() -> Case {
    let frame = tcp(BACKEND, CLIENT).by_backend().payload(b"some data").build();
    let lies = |case: Case| {
        case.drops(changed(&frame, 46, 4 << 4), NIC_B, Reason::BadHeader)
            .drops(changed(&frame, 17, 39), NIC_B, Reason::BadHeader)
            .drops(changed(&frame, 17, 50), NIC_B, Reason::Truncated)
            .drops(changed(&frame, 22, 1), NIC_B, Reason::TtlExpired)
    };
    // Neither in a handshake, nor of a flow in mid-life, which it must not take in, nor of one that lives.
    let case = Case::new("a backend's lying headers never reach the client", one).sends(&to_vip().syn(), BACKEND, NEW);
    let case = lies(case).returns(&back().rst(), VIP, BACK).sends(&to_vip(), BACKEND, NEW);
    lies(lies(case).then(Act::Flows(0)).returns(&back(), VIP, TAKEN_IN))
}

fn ttl() -> Case {
    let late = to_vip().ttl(1).build();
    let short = to_vip().payload(&[7; 8]).build()[..60].to_vec();
    let late_syn = tcp("192.0.2.8:4321", VIP).syn().ttl(1).build();
    Case::new("a packet whose TTL ends here ends here", one)
        .drops(to_vip().ttl(0).build(), NIC_A, Reason::TtlExpired)
        .drops(late.clone(), NIC_A, Reason::TtlExpired)
        .drops(late_syn, NIC_A, Reason::TtlExpired)
        .then(Act::Halves(0))
        .sends(&to_vip().ttl(2), BACKEND, NEW)
        // Nor is anything noted of such a packet on a flow that waits for its backend, or lives.
        .drops(late.clone(), NIC_A, Reason::TtlExpired)
        .drops(short.clone(), NIC_A, Reason::Truncated)
        .returns(&back(), VIP, TAKEN_IN)
        .drops(late, NIC_A, Reason::TtlExpired)
        .drops(short, NIC_A, Reason::Truncated)
        .drops(back().ttl(1).build(), NIC_B, Reason::TtlExpired)
        .then(Act::Shows([state::SPOKE; 2], [1, 1], [40, 40]))
}

fn fragments() -> Case {
    let piece = |fragment: u16| {
        let mut packet = tcp(CLIENT, VIP).payload(&[7; 64]);
        packet.fragment = fragment;
        packet.build()
    };
    let mut fragment = back();
    fragment.fragment = 0x2000;
    Case::new("no fragment for a service passes, and none is read as if it had ports", one)
        .drops(piece(0x2000), NIC_A, Reason::Fragment)
        .drops(piece(0x2008), NIC_A, Reason::Fragment)
        .drops(piece(0x0010), NIC_A, Reason::Fragment)
        .drops(piece(0x1fff), NIC_A, Reason::Fragment)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .drops(piece(0x2000), NIC_A, Reason::Fragment)
        .drops(fragment.build(), NIC_B, Reason::Fragment)
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
        .drops(piece(0x2000), NIC_A, Reason::Fragment)
        .drops(piece(0x0010), NIC_A, Reason::Fragment)
        .drops(fragment.build(), NIC_B, Reason::Fragment)
        .then(Act::Shows([state::SPOKE; 2], [2, 1], [80, 40]))
}

/// What stands where ports would be is data: here it reads as a port that no service has.
fn fragments_with_data_like_ports() -> Case {
    let piece = |source: &str, target: &str, fragment: u16| {
        let mut packet = tcp(source, target).payload(&[7; 64]);
        packet.fragment = fragment;
        packet.build()
    };
    let mut case = Case::new("a later fragment for a VIP is dropped, whatever its data looks like", one);
    for fragment in [0x0001, 0x0100, 0x2001, 0x2100] {
        case = case
            .drops(piece(CLIENT, "203.0.113.10:81", fragment), NIC_A, Reason::Fragment)
            .passes(piece(CLIENT, BACKEND, fragment), NIC_A, &[(Reason::Foreign, 1)])
            .passes(piece(BACKEND, CLIENT, fragment), NIC_B, &[(Reason::Foreign, 1)]);
    }
    case.then(Act::Halves(0))
}

fn stubs() -> Case {
    let (there, back) = (tcp(CLIENT, BACKEND).build(), tcp(BACKEND, CLIENT).by_backend().build());
    let mut case = Case::new("a packet without a whole TCP header makes no flow past us", one);
    for length in 38..there.len() {
        case = case.passes(there[..length].to_vec(), NIC_A, &[(Reason::Direct, 1)]).drops(
            back[..length].to_vec(),
            NIC_B,
            Reason::OrphanReply,
        );
    }
    let mut short = tcp(CLIENT, VIP).build()[..42].to_vec();
    short[12..14].copy_from_slice(&[8, 6]);
    case.passes(short, NIC_A, &[(Reason::Foreign, 1)]).then(Act::Halves(0))
}

fn padded() -> Case {
    let packet = tcp(CLIENT, VIP).syn();
    let pad = |mut frame: Vec<u8>| {
        frame.resize(60, 0);
        frame
    };
    Case::new("a frame padded to Ethernet's least keeps its padding", one).arrives(
        pad(packet.build()),
        NIC_A,
        Verdict::Redirect(NIC_B),
        pad(packet.clone().to(BACKEND).towards_backend().build()),
        NEW,
    )
}
