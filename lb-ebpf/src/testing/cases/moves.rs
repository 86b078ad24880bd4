//! Handshakes that go to another backend, because the first is silent, refuses, or is taken out.

use std::{vec, vec::Vec};

use lb_common::{Reason, Service};

use super::{
    BACK, BACKEND, CLIENT, NEW, ON, OTHER, PROVED, VIP, back, beside, one, other, out_of_the_table, slot, to_vip, two,
};
use crate::testing::{Act, Case, NIC_A, NIC_B, TcpPacket, World, tcp};

pub(super) fn cases() -> Vec<Case> {
    vec![
        silent(),
        silent_again(),
        silent_but_alone(),
        slow_to_answer(),
        late_answers(),
        late_answer_of_no_move(),
        taken_out(),
        busy_elsewhere(),
        over_elsewhere(),
        refused(),
        refused_by_all(),
        refused_by_the_only_one(),
        refused_while_busy_elsewhere(),
        refused_after_an_answer(),
        refused_without_retry(),
    ]
}

/// What counts when a repeated SYN goes to another backend.
const MOVED: &[(Reason, u64)] = &[(Reason::ToBackend, 1), (Reason::Redispatched, 1)];

/// Longer than a client waits before it repeats its SYN.
const LONG: u32 = World::PATIENCE + 100;

/// Who is not there and says so.
fn refusal_of(backend: &str) -> TcpPacket {
    tcp(backend, CLIENT).by_backend().rst().numbers(0, 1000)
}

fn in_world(name: &'static str, wanted: World) -> Case {
    Case::new(name, |world| *world = wanted)
}

fn silent() -> Case {
    in_world("a repeated SYN goes to another backend when the first was silent for long", beside(0))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Idle(World::PATIENCE - 200))
        .sends(&to_vip().syn(), BACKEND, ON)
        .then(Act::Idle(300))
        .sends(&to_vip().syn(), OTHER, MOVED)
        .sends(&to_vip().syn(), OTHER, ON)
        .returns(&other().syn_ack(), VIP, BACK)
        .sends(&to_vip(), OTHER, PROVED)
        .returns(&other(), VIP, BACK)
        .then(Act::Traffic(1, [2, 0], [80, 0]))
        .then(Act::Traffic(2, [3, 2], [120, 80]))
}

fn silent_again() -> Case {
    let mut both = two(1);
    both.fill(1, &[1, 2]);
    // Which of the two comes first is the hash's.
    let syn = to_vip().syn();
    let mut case = in_world("a handshake moves as often as backends are silent", both);
    case = case.arrives(syn.build(), NIC_A, super::TO_B, None, NEW);
    for _ in 0..5 {
        case = case
            .then(Act::Idle(LONG))
            .arrives(syn.build(), NIC_A, super::TO_B, None, MOVED)
            // The new one has its time too.
            .arrives(syn.build(), NIC_A, super::TO_B, None, ON);
    }
    // But all of them together have no more than a handshake has.
    case.then(Act::Idle(World::TIMEOUTS.syn - 3 * LONG))
        .arrives(syn.build(), NIC_A, super::TO_B, None, NEW)
        .then(Act::Halves(1))
}

fn silent_but_alone() -> Case {
    Case::new("a repeated SYN stays where it is when there is no other backend", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Idle(LONG))
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
}

fn slow_to_answer() -> Case {
    in_world("a repeated SYN stays with a backend that has answered, were it out of the table", beside(0))
        .shakes(CLIENT, VIP, BACKEND)
        .then(Act::Change(out_of_the_table()))
        .then(Act::Idle(LONG))
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
}

fn late_answers() -> Case {
    let late = back().syn_ack();
    in_world("the backend that was too late is told so, and the client hears nothing of it", beside(0))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Idle(LONG))
        .sends(&to_vip().syn(), OTHER, MOVED)
        .refused(&late, NIC_B, Reason::LateAnswer)
        .returns(&other().syn_ack(), VIP, BACK)
        .refused(&late, NIC_B, Reason::LateAnswer)
        .drops(late.clone().ttl(1).build(), NIC_B, Reason::OrphanReply)
        .drops(back().build(), NIC_B, Reason::OrphanReply)
        .drops(back().rst().build(), NIC_B, Reason::OrphanReply)
        .sends(&to_vip(), OTHER, PROVED)
        .then(Act::Flows(1))
        // Also when the connection with the other one stands.
        .refused(&late, NIC_B, Reason::LateAnswer)
}

fn late_answer_of_no_move() -> Case {
    in_world("a SYN-ACK to a client that was not moved is an orphan and gets no answer", beside(0))
        .shakes(CLIENT, VIP, BACKEND)
        .drops(other().syn_ack().build(), NIC_B, Reason::OrphanReply)
}

/// The first backend takes no new flows any more.
fn taken_out() -> Case {
    in_world("a repeated SYN goes to another backend at once when the first is taken out", beside(0))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Change(out_of_the_table()))
        .sends(&to_vip().syn(), OTHER, MOVED)
        .returns(&other().syn_ack(), VIP, BACK)
        .sends(&to_vip(), OTHER, PROVED)
}

const SECOND_VIP: &str = "203.0.113.11:80";

/// Beside the first service a second one with the second backend alone.
fn shared() -> World {
    let mut world = beside(0);
    world.serve(&[SECOND_VIP], &[OTHER]);
    world
}

fn busy_elsewhere() -> Case {
    in_world("a handshake does not move to a backend that the port talks to through another VIP", shared())
        .connects(CLIENT, SECOND_VIP, OTHER)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Idle(LONG))
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&other(), SECOND_VIP, BACK)
        // Nor while the other one is under way; once it is over, it does.
        .returns(&other().rst(), SECOND_VIP, BACK)
        .shakes(CLIENT, SECOND_VIP, OTHER)
        .then(Act::Idle(LONG))
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&other().rst(), SECOND_VIP, BACK)
        .sends(&to_vip().syn(), OTHER, MOVED)
        .returns(&other().syn_ack(), VIP, BACK)
}

fn over_elsewhere() -> Case {
    in_world("a handshake that is over keeps no backend from its client's port", shared())
        .sends(&tcp(CLIENT, SECOND_VIP).syn(), OTHER, NEW)
        .then(Act::Change({
            let mut world = shared();
            world.fill(1, &[2]);
            world
        }))
        .drops(to_vip().syn().build(), NIC_A, Reason::TupleConflict)
        .then(Act::Idle(World::TIMEOUTS.syn + 1000))
        .connects(CLIENT, VIP, OTHER)
        .then(Act::Halves(0))
}

fn refused() -> Case {
    in_world("a client never hears of a refusal where its next SYN can go elsewhere", beside(Service::RETRIES))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .drops(refusal_of(BACKEND).build(), NIC_B, Reason::Refused)
        .sends(&to_vip().syn(), OTHER, MOVED)
        .returns(&other().syn_ack(), VIP, BACK)
        .sends(&to_vip(), OTHER, PROVED)
}

fn refused_by_all() -> Case {
    let mut both = two(1);
    both.fill(1, &[1, 2]);
    both.flag(1, Service::RETRIES);
    // The first backend is the one on the client's slot, and they take turns.
    let turns =
        if slot().is_multiple_of(2) { [BACKEND, OTHER, BACKEND, OTHER] } else { [OTHER, BACKEND, OTHER, BACKEND] };
    let mut case = in_world("a handshake that everybody refuses is refused after three moves", both);
    // The second time nothing is left of the first.
    for _ in 0..2 {
        for (number, backend) in turns.into_iter().enumerate() {
            case = case.sends(&to_vip().syn(), backend, if number == 0 { NEW } else { MOVED });
            case = if number < 3 {
                case.drops(refusal_of(backend).build(), NIC_B, Reason::Refused)
            } else {
                case.returns(&refusal_of(backend), VIP, BACK).then(Act::Halves(0))
            };
        }
    }
    case
}

fn refused_by_the_only_one() -> Case {
    Case::new("a refusal passes where there is nobody else to ask", |world| {
        one(world);
        world.flag(1, Service::RETRIES);
    })
    .sends(&to_vip().syn(), BACKEND, NEW)
    .returns(&refusal_of(BACKEND), VIP, BACK)
    .then(Act::Halves(0))
}

fn refused_while_busy_elsewhere() -> Case {
    let mut world = shared();
    world.flag(1, Service::RETRIES);
    in_world("a refusal is kept from a client once: where its next SYN could not move, it hears", world)
        .connects(CLIENT, SECOND_VIP, OTHER)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .drops(refusal_of(BACKEND).build(), NIC_B, Reason::Refused)
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&refusal_of(BACKEND), VIP, BACK)
        .then(Act::Halves(0))
}

fn refused_after_an_answer() -> Case {
    in_world("a backend that has answered and breaks off has not refused", beside(Service::RETRIES))
        .shakes(CLIENT, VIP, BACKEND)
        .returns(&back().rst(), VIP, BACK)
        .then(Act::Halves(0))
        // Nor one that does not know a flow in mid-life.
        .sends(&to_vip(), BACKEND, NEW)
        .returns(&back().rst(), VIP, BACK)
}

fn refused_without_retry() -> Case {
    in_world("without a retry a refusal passes", beside(0))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .returns(&refusal_of(BACKEND), VIP, BACK)
        .then(Act::Halves(0))
        .sends(&to_vip().syn(), BACKEND, NEW)
}
