//! Flows that the operator ends, and services that nobody serves.

use std::{vec, vec::Vec};

use lb_common::{Backend, Reason, Service};

use super::{BACK, BACKEND, CLIENT, NEW, ON, OTHER, VIP, back, one, to_vip, two};
use crate::testing::{Act, Case, NIC_A, World, tcp};

pub(super) fn cases() -> Vec<Case> {
    vec![
        ended_by_the_operator(),
        reset_is_passed_on(),
        handshakes_end_too(),
        syn_on_an_ended_flow(),
        what_the_backend_sends_still_passes(),
        nobody_and_dropped(),
    ]
}

/// The first backend is out, and its flows are to end.
fn resets() -> World {
    let mut world = two(2);
    let first = world.backends.get_mut(&1).expect("the first backend");
    first.flags = Backend::PRESENT | Backend::REACHABLE | Backend::RESETS;
    world
}

fn live(name: &'static str) -> Case {
    Case::new(name, |world| *world = two(1)).connects(CLIENT, VIP, BACKEND).then(Act::Change(resets()))
}

fn ended_by_the_operator() -> Case {
    live("the next packet of a flow that is to end is answered with RST, and the client opens another")
        .refused(&to_vip().payload(b"more"), NIC_A, Reason::BackendReset)
        .refused(&to_vip().fin(), NIC_A, Reason::BackendReset)
        .connects(CLIENT, VIP, OTHER)
        .then(Act::Flows(1))
        // The first backend has seen nothing of it.
        .then(Act::Traffic(1, [2, 1], [80, 40]))
}

fn reset_is_passed_on() -> Case {
    live("a RST is not answered by a RST, but passed on to the backend that is to forget the flow")
        .sends(&to_vip().rst(), BACKEND, ON)
        .sends(&to_vip().syn(), OTHER, NEW)
        .then(Act::Flows(0))
}

fn handshakes_end_too() -> Case {
    let second = "192.0.2.8:4321";
    Case::new("a handshake with a backend whose flows are to end is over, or moves", |world| *world = two(1))
        .shakes(CLIENT, VIP, BACKEND)
        .sends(&tcp(second, VIP).syn(), BACKEND, NEW)
        .then(Act::Change(resets()))
        // No RST is answered by a RST.
        .sends(&to_vip().rst().numbers(0, 0), BACKEND, ON)
        .refused(&to_vip(), NIC_A, Reason::BackendReset)
        .then(Act::Halves(1))
        .sends(&tcp(second, VIP).syn(), OTHER, &[(Reason::ToBackend, 1), (Reason::Redispatched, 1)])
        .then(Act::Halves(1))
        .then(Act::Flows(0))
}

fn syn_on_an_ended_flow() -> Case {
    live("a SYN on a flow that is to end is refused once, and then opens another")
        .refused(&to_vip().syn(), NIC_A, Reason::BackendReset)
        .connects(CLIENT, VIP, OTHER)
        .then(Act::Flows(1))
}

fn what_the_backend_sends_still_passes() -> Case {
    live("what the backend of such a flow still sends reaches its client")
        .returns(&back().payload(b"the last words"), VIP, BACK)
        .refused(&to_vip(), NIC_A, Reason::BackendReset)
        .returns(&back().rst(), VIP, BACK)
}

fn nobody_and_dropped() -> Case {
    Case::new("a service without backends that is to drop gives no answer", |world| {
        one(world);
        world.flag(1, Service::DROPS);
        world.fill(1, &[]);
    })
    .drops(to_vip().syn().build(), NIC_A, Reason::NoBackend)
    .drops(to_vip().build(), NIC_A, Reason::NoBackend)
    .then(Act::Halves(0))
}
