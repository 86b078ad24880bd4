//! Handshakes, and what proves them: only then is a flow in the live table.

use std::{vec, vec::Vec};

use lb_common::{Reason, state};

use super::{BACK, BACKEND, CLIENT, NEW, ON, PROVED, TAKEN_IN, VIP, back, one, refusal, same_half_set, to_vip, two};
use crate::{
    header::{FIN, SYN},
    testing::{Act, Case, NIC_B, TcpPacket, tcp},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        repeated(),
        repeated_after_the_proof(),
        numbers_that_prove_nothing(),
        unanswered(),
        cookies(),
        fast_open(),
        fast_open_and_finished(),
        early_data_survives_a_repeated_answer(),
        early_data_beyond_sixteen_bits(),
        data_from_before_the_answer(),
        proof_that_says_more(),
        client_breaks_off(),
        backend_breaks_off(),
        midlife_needs_more_than_an_answer(),
        midlife_taken_in_by_fin(),
        midlife_of_a_stray(),
        lost(),
        lost_before_the_answer(),
    ]
}

/// The backend's SYN-ACK with an initial sequence number.
fn answer(isn: u32) -> TcpPacket {
    back().syn_ack().numbers(isn, 1000)
}

fn acknowledges(number: u32) -> TcpPacket {
    to_vip().numbers(1000, number)
}

fn repeated() -> Case {
    Case::new("a SYN and its answer may come more than once", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&answer(1999), VIP, BACK)
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&answer(1999), VIP, BACK)
        .returns(&answer(1999), VIP, BACK)
        .then(Act::Halves(1))
        .then(Act::Flows(0))
        .sends(&to_vip(), BACKEND, PROVED)
        .then(Act::Halves(0))
        .then(Act::Shows([state::SPOKE; 2], [4, 3], [160, 120]))
}

fn repeated_after_the_proof() -> Case {
    Case::new("a SYN-ACK repeated because the ACK was lost behind us changes nothing", one)
        .connects(CLIENT, VIP, BACKEND)
        .returns(&answer(1999), VIP, BACK)
        .sends(&to_vip(), BACKEND, ON)
        .then(Act::Shows([state::SPOKE; 2], [3, 2], [120, 80]))
}

fn numbers_that_prove_nothing() -> Case {
    let mut case = Case::new("an ACK of what no backend has sent is forwarded and proves nothing", |world| {
        *world = two(1);
    })
    .shakes(CLIENT, VIP, BACKEND)
    .then(Act::Change(two(2)));
    // 1 would be right for a number that was never set.
    for number in [0, 1, 1998, 1999, 2001, 2002, 2000 + 0x1_0000, 1999_u32.wrapping_sub(0x8000_0000), u32::MAX] {
        case = case.sends(&acknowledges(number), BACKEND, ON);
    }
    case.then(Act::Flows(0)).sends(&acknowledges(2000), BACKEND, PROVED)
}

fn unanswered() -> Case {
    Case::new("before the backend has answered nothing proves a client", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .sends(&acknowledges(1), BACKEND, ON)
        .sends(&acknowledges(0), BACKEND, ON)
        .sends(&to_vip(), BACKEND, ON)
        // An ACK by the backend, as for a connection that it still has, is no answer.
        .returns(&back(), VIP, BACK)
        .sends(&to_vip(), BACKEND, ON)
        .then(Act::Flows(0))
        .then(Act::Halves(1))
}

fn cookies() -> Case {
    let mut case = Case::new("of a backend that answers with another number each time, the last two prove", one);
    for (client, number, proves) in
        [("192.0.2.1:80", 2000, false), ("192.0.2.2:80", 5001, true), ("192.0.2.3:80", 7001, true)]
    {
        case = case.sends(&tcp(client, VIP).syn(), BACKEND, NEW);
        for isn in [1999, 5000, 7000] {
            let answer = tcp(BACKEND, client).by_backend().syn_ack().numbers(isn, 1000);
            case = case.returns(&answer, VIP, BACK).sends(&tcp(client, VIP).syn(), BACKEND, ON);
        }
        case = case.sends(&tcp(client, VIP).numbers(1000, number), BACKEND, if proves { PROVED } else { ON });
    }
    case.then(Act::Flows(2)).then(Act::Halves(1))
}

fn fast_open() -> Case {
    let early = back().numbers(2000, 1100).payload(&[7; 50]);
    Case::new("with fast open data comes before the proof, both ways", one)
        .sends(&to_vip().syn().payload(&[1; 100]), BACKEND, NEW)
        .returns(&back().syn_ack().numbers(1999, 1100), VIP, BACK)
        .returns(&early, VIP, BACK)
        .returns(&early, VIP, BACK)
        .sends(&to_vip().numbers(1100, 2051), BACKEND, ON)
        .then(Act::Flows(0))
        .sends(&to_vip().numbers(1100, 2050), BACKEND, PROVED)
        .then(Act::Shows([state::SPOKE; 2], [3, 3], [220, 220]))
}

fn fast_open_and_finished() -> Case {
    let last = back().numbers(2000, 1100).payload(&[7; 50]).fin();
    Case::new("a backend that has finished before the proof is known to have", one)
        .sends(&to_vip().syn().payload(&[1; 100]), BACKEND, NEW)
        .returns(&back().syn_ack().numbers(1999, 1100), VIP, BACK)
        // Of an earlier connection.
        .returns(&back().numbers(0x4000_0000, 1100).fin(), VIP, BACK)
        .returns(&last, VIP, BACK)
        .sends(&to_vip().numbers(1100, 2051), BACKEND, PROVED)
        .then(Act::Shows([state::SPOKE, state::SPOKE | state::FIN], [2, 3], [180, 170]))
        .sends(&to_vip().numbers(1100, 2051).fin(), BACKEND, ON)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Flows(0))
}

fn early_data_survives_a_repeated_answer() -> Case {
    Case::new("a repeated SYN-ACK takes nothing back of what the backend has sent", one)
        .shakes(CLIENT, VIP, BACKEND)
        .returns(&back().payload(&[7; 50]), VIP, BACK)
        .returns(&answer(1999), VIP, BACK)
        .sends(&acknowledges(2050), BACKEND, PROVED)
}

fn early_data_beyond_sixteen_bits() -> Case {
    let data = |sequence: u32| back().numbers(sequence, 1000).payload(&[7; 50]);
    Case::new("of early data beyond 64 KiB nothing is believed, and what was before it is", one)
        .shakes(CLIENT, VIP, BACKEND)
        .returns(&data(2000), VIP, BACK)
        .returns(&data(1999 + 0x1_0000), VIP, BACK)
        .sends(&acknowledges(2049 + 0x1_0000), BACKEND, ON)
        .returns(&data(1990), VIP, BACK)
        .sends(&acknowledges(2050), BACKEND, PROVED)
}

fn data_from_before_the_answer() -> Case {
    Case::new("what a backend sends from before its SYN-ACK proves nothing", one)
        .shakes(CLIENT, VIP, BACKEND)
        .returns(&back().numbers(900, 1000).payload(&[7; 50]), VIP, BACK)
        .sends(&acknowledges(3000), BACKEND, ON)
        .sends(&acknowledges(950), BACKEND, ON)
        .sends(&acknowledges(2000), BACKEND, PROVED)
}

fn proof_that_says_more() -> Case {
    let mut case = Case::new("what proves a flow may carry data or end its side at once", one);
    for (client, packet, shows) in [
        ("192.0.2.1:80", to_vip().payload(b"GET /"), state::SPOKE | state::DATA),
        ("192.0.2.2:80", to_vip().fin(), state::SPOKE | state::FIN),
        ("192.0.2.3:80", to_vip().payload(b"GET /").fin(), state::SPOKE | state::DATA | state::FIN),
    ] {
        let backend_breaks_off = tcp(BACKEND, client).by_backend().rst();
        case = case
            .shakes(client, VIP, BACKEND)
            .sends(&packet.clone().from(client), BACKEND, PROVED)
            .then(Act::Shows([shows, state::SPOKE], [2, 1], [80 + packet.payload.len() as u64, 40]))
            // It makes room for the next one.
            .returns(&backend_breaks_off, VIP, BACK)
            .sends(&tcp(client, VIP).syn(), BACKEND, NEW)
            .then(Act::Flows(0));
    }
    case
}

fn client_breaks_off() -> Case {
    Case::new("a client's RST ends its handshake if it comes from where the client is", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .sends(&to_vip().rst(), BACKEND, ON)
        .sends(&to_vip().rst().numbers(0, 0), BACKEND, ON)
        .then(Act::Halves(1))
        .returns(&answer(1999), VIP, BACK)
        .sends(&to_vip().rst().numbers(1001, 2000), BACKEND, ON)
        .sends(&to_vip().rst().numbers(999, 2000), BACKEND, ON)
        .then(Act::Halves(1))
        .sends(&to_vip().rst(), BACKEND, ON)
        .then(Act::Halves(0))
        .then(Act::Flows(0))
}

fn backend_breaks_off() -> Case {
    Case::new("a backend that refuses, or breaks off in the handshake, ends it", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .returns(&refusal(&to_vip().syn().to(BACKEND).towards_backend()).by_backend().numbers(0, 1000), VIP, BACK)
        .then(Act::Halves(0))
        .shakes(CLIENT, VIP, BACKEND)
        .returns(&back().rst(), VIP, BACK)
        .then(Act::Halves(0))
}

fn midlife_needs_more_than_an_answer() -> Case {
    Case::new("neither SYN-ACK nor RST of a backend takes in a flow that was first seen in mid-life", one)
        .sends(&to_vip().payload(b"forged?"), BACKEND, NEW)
        .returns(&back().syn_ack(), VIP, BACK)
        .returns(&back().flags(SYN), VIP, BACK)
        .then(Act::Flows(0))
        .returns(&back().rst(), VIP, BACK)
        .then(Act::Flows(0))
        .then(Act::Halves(0))
        .drops(back().build(), NIC_B, Reason::OrphanReply)
}

fn midlife_taken_in_by_fin() -> Case {
    Case::new("a flow in mid-life whose backend ends its side is taken in, half closed", one)
        .sends(&to_vip(), BACKEND, NEW)
        .returns(&back().fin(), VIP, TAKEN_IN)
        .then(Act::Shows([state::SPOKE, state::SPOKE | state::FIN], [1, 1], [40, 40]))
        .sends(&to_vip().fin(), BACKEND, ON)
        .sends(&to_vip().syn(), BACKEND, NEW)
}

fn midlife_of_a_stray() -> Case {
    Case::new("a stray packet does not spoil the handshake that comes after it", one)
        .sends(&to_vip(), BACKEND, NEW)
        .sends(&to_vip().flags(FIN), BACKEND, ON)
        .connects(CLIENT, VIP, BACKEND)
        .then(Act::Halves(0))
        // The handshake alone was carried over.
        .then(Act::Shows([state::SPOKE; 2], [2, 1], [80, 40]))
}

/// The handshake of `CLIENT` is lost: seven others took the places of its set.
fn crowded_out(case: Case) -> Case {
    let others = same_half_set(CLIENT, 7);
    others.iter().enumerate().fold(case, |case, (number, client)| {
        let evicts = [NEW, &[(Reason::HalfEvicted, 1)]].concat();
        case.sends(&tcp(client, VIP).syn(), BACKEND, if number < 6 { NEW } else { &evicts })
    })
}

fn lost() -> Case {
    let evicts = [NEW, &[(Reason::HalfEvicted, 1)]].concat();
    let case = Case::new("a handshake whose entry is lost under a flood is found again by its hash", one);
    crowded_out(case.shakes(CLIENT, VIP, BACKEND))
        .sends(&to_vip(), BACKEND, &evicts)
        .then(Act::Flows(0))
        .sends(&to_vip().payload(b"GET /"), BACKEND, ON)
        .returns(&back(), VIP, TAKEN_IN)
        .then(Act::Shows([state::SPOKE; 2], [2, 1], [85, 40]))
}

fn lost_before_the_answer() -> Case {
    let evicts = [NEW, &[(Reason::HalfEvicted, 1)]].concat();
    let case = Case::new("a handshake whose entry is lost before the answer goes on with the repeated SYN", one);
    crowded_out(case.sends(&to_vip().syn(), BACKEND, NEW))
        .drops(answer(1999).build(), NIC_B, Reason::OrphanReply)
        .sends(&to_vip().syn(), BACKEND, &evicts)
        .returns(&answer(1999), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
}
