//! How flows end, and what only seems to end them.

use std::{vec, vec::Vec};

use lb_common::state::{FIN, RESET, SPOKE};

use super::{BACK, BACKEND, CLIENT, NEW, ON, OTHER, PROVED, TAKEN_IN, VIP, back, one, out_of_the_table, to_vip, two};
use crate::testing::{Act, Case, World};

pub(super) fn cases() -> Vec<Case> {
    vec![
        half_close(),
        half_close_by_backend(),
        simultaneous(),
        reset_by_backend(),
        reset_by_client(),
        forged_reset_and_syn(),
        reopened_elsewhere(),
        resets_outside(),
        ends_outside(),
        the_window_moves(),
        the_window_from_the_handshake_on(),
        reset_that_was_none(),
        reset_that_was_none_to_the_client(),
        forged_on_a_live_flow(),
    ]
}

fn live(name: &'static str) -> Case {
    Case::new(name, one).connects(CLIENT, VIP, BACKEND)
}

fn live_in(name: &'static str, world: World) -> Case {
    Case::new(name, |known| *known = world).connects(CLIENT, VIP, BACKEND)
}

fn shows(case: Case, state: [u8; 2], packets: [u32; 2]) -> Case {
    case.then(Act::Shows(state, packets, packets.map(|packets| u64::from(packets) * 40)))
}

fn half_close() -> Case {
    let case = live("a connection of which one side has finished is as good as any other")
        .sends(&to_vip().fin(), BACKEND, ON)
        .returns(&back(), VIP, BACK);
    shows(case, [SPOKE | FIN, SPOKE], [3, 2])
        .then(Act::Idle(World::TIMEOUTS.established - 1000))
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&back().payload(b"the rest"), VIP, BACK)
        .then(Act::Idle(World::TIMEOUTS.fin + 1000))
        .returns(&back().fin(), VIP, BACK)
        .sends(&to_vip(), BACKEND, ON)
        .sends(&to_vip().syn(), BACKEND, NEW)
}

fn half_close_by_backend() -> Case {
    let case = live("a backend that has finished still hears its client").returns(&back().fin(), VIP, BACK);
    shows(case, [SPOKE, SPOKE | FIN], [2, 2])
        .then(Act::Idle(World::TIMEOUTS.fin + 1000))
        .sends(&to_vip().payload(b"more"), BACKEND, ON)
        .sends(&to_vip().syn(), BACKEND, ON)
        .then(Act::Flows(1))
}

fn simultaneous() -> Case {
    let case = live("both sides finish at once")
        .sends(&to_vip().fin(), BACKEND, ON)
        .returns(&back().fin(), VIP, BACK)
        .sends(&to_vip().numbers(1001, 2001), BACKEND, ON)
        .returns(&back().numbers(2001, 1001), VIP, BACK);
    shows(case, [SPOKE | FIN; 2], [4, 3]).connects(CLIENT, VIP, BACKEND).then(Act::Flows(1))
}

fn reset_by_backend() -> Case {
    let case = live("a backend's RST ends the connection, wherever it lies").returns(
        &back().rst().numbers(0x8000_0000, 0),
        VIP,
        BACK,
    );
    shows(case, [SPOKE, SPOKE | RESET], [2, 2]).sends(&to_vip().syn(), BACKEND, NEW).then(Act::Flows(0))
}

fn reset_by_client() -> Case {
    let case = live("a client's RST from where the client is ends the connection").sends(&to_vip().rst(), BACKEND, ON);
    let case = reopens(shows(case, [SPOKE | RESET, SPOKE], [3, 1]));
    shows(case, [SPOKE; 2], [1, 1]).then(Act::Flows(1))
}

/// A client connects again from the port of a connection that it broke off.
fn reopens(case: Case) -> Case {
    case.sends(&to_vip().syn(), BACKEND, ON).returns(&back().syn_ack(), VIP, TAKEN_IN).sends(&to_vip(), BACKEND, ON)
}

/// A lucky forger: its RST was believed, and its SYN comes before the client speaks.
fn forged_reset_and_syn() -> Case {
    let case = live_in("a forged RST and a forged SYN move nobody", two(1))
        .then(Act::Change(two(2)))
        .sends(&to_vip().rst(), BACKEND, ON)
        .sends(&to_vip().syn().numbers(77, 0), BACKEND, ON)
        .then(Act::Idle(2000))
        .sends(&to_vip().syn().numbers(77, 0), BACKEND, ON)
        // A connection that lives answers a SYN with a mere acknowledgment (RFC 5961, section 4).
        .returns(&back(), VIP, BACK)
        .sends(&to_vip(), BACKEND, ON);
    shows(case, [SPOKE; 2], [6, 2]).then(Act::Halves(0))
}

/// Nobody goes on with a connection whose SYN went to a backend that is not to have any.
fn reopened_elsewhere() -> Case {
    live_in("a SYN after a RST goes elsewhere where its backend takes no new connections", two(1))
        .sends(&to_vip().rst(), BACKEND, ON)
        .then(Act::Change(out_of_the_table()))
        .sends(&to_vip().syn(), OTHER, NEW)
        .then(Act::Flows(0))
}

/// Half a MiB beyond what the backend has acknowledged, and what came just before it.
const FAR: [u32; 4] = [0x0008_0000, 0xfffe_ffff, 0x8000_0000, 0x7fff_ffff];
const NEAR: [u32; 3] = [0, 0x0007_ffff, 0xffff_0000];

fn resets_outside() -> Case {
    let mut case = live("a RST from where no client can be is forwarded and not believed");
    for (number, sequence) in FAR.into_iter().enumerate() {
        case = case.sends(&to_vip().rst().numbers(sequence, 2000), BACKEND, ON);
        case = shows(case, [SPOKE; 2], [3 + number as u32, 1]);
    }
    case = case.sends(&to_vip().syn(), BACKEND, ON);
    for sequence in NEAR {
        case = case.sends(&to_vip().rst().numbers(sequence, 2000), BACKEND, ON);
        case = reopens(case);
    }
    case.then(Act::Flows(1))
}

fn ends_outside() -> Case {
    let mut case = live("a FIN from where no client can be is forwarded and not believed");
    // 64 MiB: what was lost before it may hold the backend's acknowledgments back.
    for sequence in [0x0400_0000, 0xfffe_ffff, 0x8000_0000, 0x7fff_ffff] {
        case = case.sends(&to_vip().fin().numbers(sequence, 2000), BACKEND, ON);
    }
    case = shows(case, [SPOKE; 2], [6, 1]).returns(&back().fin(), VIP, BACK).sends(&to_vip().syn(), BACKEND, ON);
    for sequence in [0, 0x03ff_ffff, 0xffff_0000] {
        case = case.sends(&to_vip().fin().numbers(sequence, 2000), BACKEND, ON).connects(CLIENT, VIP, BACKEND).returns(
            &back().fin(),
            VIP,
            BACK,
        );
    }
    shows(case, [SPOKE, SPOKE | FIN], [2, 2])
}

fn the_window_moves() -> Case {
    let case = live("where a client can be follows what its backend acknowledges")
        .returns(&back().numbers(2000, 0x0050_0000), VIP, BACK)
        .sends(&to_vip().rst(), BACKEND, ON)
        .sends(&to_vip().rst().numbers(0x004e_ffff, 2000), BACKEND, ON)
        .sends(&to_vip().rst().numbers(0x0058_0000, 2000), BACKEND, ON);
    let case = shows(case, [SPOKE; 2], [5, 2]).sends(&to_vip().rst().numbers(0x0057_ffff, 2000), BACKEND, ON);
    shows(case, [SPOKE | RESET, SPOKE], [6, 2])
}

fn the_window_from_the_handshake_on() -> Case {
    let begins = to_vip().syn().numbers(0x5000_0000, 0);
    let case = Case::new("where a client can be is known as soon as it has proved itself", one)
        .sends(&begins, BACKEND, NEW)
        .returns(&back().syn_ack().numbers(1999, 0x5000_0001), VIP, BACK)
        .sends(&to_vip().numbers(0x5000_0001, 2000), BACKEND, PROVED)
        .sends(&to_vip().rst().numbers(1000, 2000), BACKEND, ON);
    let case = shows(case, [SPOKE; 2], [3, 1]).sends(&to_vip().rst().numbers(0x5000_0001, 2000), BACKEND, ON);
    shows(case, [SPOKE | RESET, SPOKE], [4, 1])
}

fn reset_that_was_none() -> Case {
    let case = live("a client's RST that was believed is forgotten when its backend goes on")
        .sends(&to_vip().rst(), BACKEND, ON)
        .returns(&back(), VIP, BACK);
    let case = shows(case, [SPOKE; 2], [3, 2])
        .sends(&to_vip().rst(), BACKEND, ON)
        // Or when the client does.
        .sends(&to_vip(), BACKEND, ON);
    shows(case, [SPOKE; 2], [5, 2]).sends(&to_vip().syn(), BACKEND, ON).then(Act::Flows(1))
}

fn reset_that_was_none_to_the_client() -> Case {
    let case = live("a backend's RST that was believed is forgotten when either side goes on")
        .returns(&back().rst(), VIP, BACK)
        .sends(&to_vip(), BACKEND, ON);
    let case = shows(case, [SPOKE; 2], [3, 2]).returns(&back().rst(), VIP, BACK).returns(&back(), VIP, BACK);
    shows(case, [SPOKE; 2], [3, 4])
        // A SYN is no sign of life.
        .returns(&back().rst(), VIP, BACK)
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip().syn(), BACKEND, NEW)
}

fn forged_on_a_live_flow() -> Case {
    let case = live("what anybody can forge on a live flow is forwarded and changes nothing")
        .sends(&to_vip().syn(), BACKEND, ON)
        .sends(&to_vip().syn_ack(), BACKEND, ON)
        .sends(&to_vip().rst().numbers(0x8000_0000, 0), BACKEND, ON)
        .sends(&to_vip().fin().numbers(0x8000_0000, 0), BACKEND, ON)
        .sends(&to_vip().numbers(0x8000_0000, 0x8000_0000), BACKEND, ON);
    shows(case, [SPOKE; 2], [7, 1]).then(Act::Halves(0))
}
