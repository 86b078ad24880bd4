//! How long backends take, for services that ask.

use std::{vec, vec::Vec};

use lb_common::{Reason, Service};

use super::{BACK, BACKEND, CLIENT, NEW, ON, OTHER, PROVED, TAKEN_IN, VIP, back, beside, one, other, to_vip};
use crate::testing::{Act, Case, World};

pub(super) fn cases() -> Vec<Case> {
    vec![
        handshake(),
        handshake_that_moved(),
        first_byte(),
        first_byte_with_the_proof(),
        server_speaks_first(),
        midlife(),
        not_asked(),
    ]
}

/// A service that measures.
fn timed(name: &'static str, flag: u32) -> Case {
    Case::new(name, |world| {
        one(world);
        world.flag(1, flag);
    })
}

fn handshake() -> Case {
    timed("from the first SYN to the first SYN-ACK a backend is timed once", Service::HANDSHAKE)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Idle(2000))
        .sends(&to_vip().syn(), BACKEND, ON)
        .then(Act::Idle(1000))
        .then(Act::Times(1, 0, 0))
        .returns(&back().syn_ack(), VIP, BACK)
        .then(Act::Idle(5000))
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip().payload(b"GET /"), BACKEND, PROVED)
        .returns(&back().payload(b"200"), VIP, BACK)
        .then(Act::Times(1, 1, 3_000_000))
}

fn handshake_that_moved() -> Case {
    Case::new("a backend that a handshake moved to is timed from there on", |world| *world = beside(Service::HANDSHAKE))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Idle(World::PATIENCE + 2100))
        .sends(&to_vip().syn(), OTHER, &[(Reason::ToBackend, 1), (Reason::Redispatched, 1)])
        .then(Act::Idle(700))
        .returns(&other().syn_ack(), VIP, BACK)
        .then(Act::Times(1, 0, 0))
        .then(Act::Times(2, 1, 700_000))
}

fn first_byte() -> Case {
    timed("from the client's first payload to the backend's first a backend is timed once", Service::FIRST_BYTE)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Idle(4000))
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
        .then(Act::Idle(4000))
        .sends(&to_vip().payload(b"GET /"), BACKEND, ON)
        .then(Act::Idle(1000))
        .returns(&back(), VIP, BACK)
        .sends(&to_vip().payload(b" HTTP/1.1"), BACKEND, ON)
        .then(Act::Idle(1000))
        .then(Act::Times(1, 0, 0))
        .returns(&back().payload(b"200"), VIP, BACK)
        .then(Act::Times(1, 1, 2_000_000))
        .sends(&to_vip().payload(b"GET /"), BACKEND, ON)
        .then(Act::Idle(5000))
        .returns(&back().payload(b"200"), VIP, BACK)
        .then(Act::Times(1, 1, 2_000_000))
}

fn first_byte_with_the_proof() -> Case {
    timed("a client's first payload may come with what proves it", Service::FIRST_BYTE)
        .shakes(CLIENT, VIP, BACKEND)
        .sends(&to_vip().payload(b"GET /"), BACKEND, PROVED)
        .then(Act::Idle(3000))
        .returns(&back().payload(b"200"), VIP, BACK)
        .then(Act::Times(1, 1, 3_000_000))
}

fn server_speaks_first() -> Case {
    timed("a backend that speaks first answers nothing, and is not timed", Service::FIRST_BYTE)
        .connects(CLIENT, VIP, BACKEND)
        .returns(&back().payload(b"220 ready"), VIP, BACK)
        .then(Act::Idle(1000))
        .sends(&to_vip().payload(b"EHLO"), BACKEND, ON)
        .then(Act::Idle(1000))
        .returns(&back().payload(b"250"), VIP, BACK)
        .then(Act::Times(1, 0, 0))
}

fn midlife() -> Case {
    timed("a flow first seen in mid-life is not timed", Service::FIRST_BYTE | Service::HANDSHAKE)
        .sends(&to_vip().payload(b"GET /"), BACKEND, NEW)
        .then(Act::Idle(1000))
        .returns(&back().payload(b"200"), VIP, TAKEN_IN)
        .sends(&to_vip().payload(b"GET /"), BACKEND, ON)
        .returns(&back().payload(b"200"), VIP, BACK)
        .then(Act::Times(1, 0, 0))
}

fn not_asked() -> Case {
    timed("a service that does not ask has no times", 0)
        .connects(CLIENT, VIP, BACKEND)
        .sends(&to_vip().payload(b"GET /"), BACKEND, ON)
        .returns(&back().payload(b"200"), VIP, BACK)
        .then(Act::Times(1, 0, 0))
}
