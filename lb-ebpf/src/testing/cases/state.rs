//! What a flow remembers, and when its place is free again.

use std::{format, string::String, vec, vec::Vec};

use lb_common::{Port, Reason, flow_hash, protocol};

use super::{BACK, BACKEND, CLIENT, NEW, ON, TO_A, TO_B, VIP, one};
use crate::{
    header::{FIN, RST, SYN},
    testing::{Act, Case, NIC_A, NIC_B, TcpPacket, World, endpoint, tcp},
};

const OTHER: &str = "10.0.1.12:8080";

pub(super) fn cases() -> Vec<Case> {
    vec![
        founders(),
        new_connection_after_fin(),
        new_connection_after_rst(),
        unanswered_syn_follows_the_table(),
        answered_syn_stays(),
        idle_flow_lives_on(),
        idle_syn_begins_anew(),
        seen_in_the_future(),
        crowd_seen_in_the_future(),
        retired_backend(),
        reused_id(),
        named_but_gone(),
        same_id_another_port(),
        crowd(),
        crowd_near(),
    ]
}

fn to_vip() -> TcpPacket {
    tcp(CLIENT, VIP)
}

fn back() -> TcpPacket {
    tcp(BACKEND, CLIENT).by_backend()
}

/// Two backends, of which the table names only one.
fn two(named: u16) -> World {
    let mut world = World::new();
    world.serve(&[VIP], &[BACKEND, OTHER]);
    world.fill(1, &[named]);
    world
}

fn goes_to(packet: &TcpPacket, backend: &str) -> Vec<u8> {
    packet.clone().to(backend).towards_backend().build()
}

fn founders() -> Case {
    Case::new("SYN-ACK, FIN and RST of no flow are forwarded and make none", one)
        .arrives(to_vip().syn_ack().build(), NIC_A, TO_B, goes_to(&to_vip().syn_ack(), BACKEND), ON)
        .arrives(to_vip().fin().build(), NIC_A, TO_B, goes_to(&to_vip().fin(), BACKEND), ON)
        .arrives(to_vip().flags(FIN).build(), NIC_A, TO_B, None, ON)
        .arrives(to_vip().flags(RST).build(), NIC_A, TO_B, goes_to(&to_vip().flags(RST), BACKEND), ON)
        .arrives(to_vip().flags(SYN | RST).build(), NIC_A, TO_B, None, ON)
        .then(Act::Flows(0))
}

fn established(case: Case) -> Case {
    case.arrives(to_vip().syn().build(), NIC_A, TO_B, None, NEW)
        .arrives(back().syn_ack().build(), NIC_B, TO_A, None, BACK)
        .arrives(to_vip().build(), NIC_A, TO_B, None, ON)
}

fn new_connection_after_fin() -> Case {
    established(Case::new("a SYN on a flow that both sides finished is a new connection", |world| *world = two(1)))
        .arrives(to_vip().fin().build(), NIC_A, TO_B, goes_to(&to_vip().fin(), BACKEND), ON)
        .then(Act::Change(two(2)))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), BACKEND), ON)
        .arrives(back().fin().build(), NIC_B, TO_A, None, BACK)
        .arrives(to_vip().build(), NIC_A, TO_B, goes_to(&to_vip(), BACKEND), ON)
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), OTHER), NEW)
        .then(Act::Flows(1))
}

fn new_connection_after_rst() -> Case {
    established(Case::new("a SYN on a flow that was broken off is a new connection", |world| *world = two(1)))
        .arrives(back().rst().build(), NIC_B, TO_A, back().rst().from(VIP).towards_client().build(), BACK)
        .then(Act::Change(two(2)))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), OTHER), NEW)
        .then(Act::Flows(1))
}

fn unanswered_syn_follows_the_table() -> Case {
    Case::new("a repeated SYN that no backend answered follows the table", |world| *world = two(1))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), BACKEND), NEW)
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), BACKEND), ON)
        .then(Act::Change(two(2)))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), OTHER), NEW)
        .drops(back().syn_ack().build(), NIC_B, Reason::OrphanReply)
        .then(Act::Flows(1))
}

fn answered_syn_stays() -> Case {
    Case::new("a repeated SYN that was answered stays with its backend", |world| *world = two(1))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, None, NEW)
        .arrives(back().syn_ack().build(), NIC_B, TO_A, None, BACK)
        .then(Act::Change(two(2)))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), BACKEND), ON)
}

fn idle_flow_lives_on() -> Case {
    established(Case::new("an established flow outlives every idle time while its place is not needed", |world| {
        *world = two(1);
    }))
    .then(Act::Change(two(2)))
    .then(Act::Idle(World::TIMEOUTS.established + 1000))
    .arrives(to_vip().build(), NIC_A, TO_B, goes_to(&to_vip(), BACKEND), ON)
    .arrives(back().build(), NIC_B, TO_A, None, BACK)
}

fn idle_syn_begins_anew() -> Case {
    Case::new("a SYN on a flow idle beyond its timeout is a new connection", |world| *world = two(1))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, None, NEW)
        .arrives(back().syn_ack().build(), NIC_B, TO_A, None, BACK)
        .then(Act::Idle(World::TIMEOUTS.syn + 1000))
        .then(Act::Change(two(2)))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), OTHER), NEW)
        .then(Act::Flows(1))
}

/// Another CPU notes a flow in the jiffy after the one that this CPU has asked for.
fn seen_in_the_future() -> Case {
    established(Case::new("a flow that another CPU saw a moment later is not idle", |world| *world = two(1)))
        .then(Act::Change(two(2)))
        .then(Act::Idle(0_u32.wrapping_sub(5000)))
        .arrives(to_vip().syn().build(), NIC_A, TO_B, goes_to(&to_vip().syn(), BACKEND), ON)
        .then(Act::Flows(1))
}

fn retired_backend() -> Case {
    let mut without = two(2);
    without.backends.remove(&1);
    established(Case::new("a flow whose backend is no more goes where the table says", |world| *world = two(1)))
        .then(Act::Change(without))
        .arrives(to_vip().build(), NIC_A, TO_B, goes_to(&to_vip(), OTHER), NEW)
        .then(Act::Flows(1))
}

fn reused_id() -> Case {
    let mut reused = two(2);
    let newcomer = reused.backends[&2];
    reused.backends.insert(1, newcomer);
    established(Case::new("a flow is not sent to the new owner of its backend's id", |world| *world = two(1)))
        .then(Act::Change(reused))
        .arrives(to_vip().build(), NIC_A, TO_B, goes_to(&to_vip(), OTHER), NEW)
}

fn named_but_gone() -> Case {
    Case::new("a backend that a table names and that is no more is never sent to", |world| {
        *world = two(1);
        world.backends.remove(&1);
    })
    .drops(to_vip().syn().build(), NIC_A, Reason::Inconsistent)
    .then(Act::Flows(0))
}

fn same_id_another_port() -> Case {
    let mut moved = two(1);
    moved.backends.get_mut(&1).expect("the first backend").port = 9090.into();
    established(Case::new("a flow is not sent to another port of its backend", |world| *world = two(1)))
        .then(Act::Change(moved))
        .arrives(to_vip().build(), NIC_A, TO_B, goes_to(&to_vip(), "10.0.1.11:9090"), NEW)
        .then(Act::Flows(1))
}

/// Thirty VIPs, each with a backend of its own.
fn thirty() -> (Vec<String>, World) {
    let vips: Vec<_> = (0..30).map(|n| format!("203.0.113.{}:80", 20 + n)).collect();
    let mut world = World::new();
    for (number, vip) in vips.iter().enumerate() {
        world.serve(&[vip.as_str()], &[format!("10.0.2.{}:80", number + 1).as_str()]);
    }
    (vips, world)
}

fn crowd_seen_in_the_future() -> Case {
    let (vips, world) = thirty();
    let mut case = Case::new("of more flows than places, the one that another CPU sees now stays", |w| *w = world);
    for vip in vips.iter().take(22) {
        case = case.arrives(tcp(CLIENT, vip).syn().build(), NIC_A, TO_B, None, NEW);
    }
    let evicts = &[(Reason::ToBackend, 1), (Reason::FlowCreated, 1), (Reason::FlowEvicted, 1)];
    case.then(Act::Idle(10_000))
        .arrives(tcp(CLIENT, &vips[22]).syn().build(), NIC_A, TO_B, None, NEW)
        .arrives(tcp(CLIENT, &vips[23]).syn().build(), NIC_A, TO_B, None, NEW)
        .then(Act::Idle(0_u32.wrapping_sub(5000)))
        .arrives(tcp(CLIENT, &vips[24]).syn().build(), NIC_A, TO_B, None, evicts)
        .arrives(tcp("10.0.2.23:80", CLIENT).by_backend().syn_ack().build(), NIC_B, TO_A, None, BACK)
}

/// More flows of one client port than its three sets hold: the idle ones go first.
/// A client whose tag says that its evictions are near: one in eight.
fn near_client() -> String {
    let address = endpoint(CLIENT).address;
    let hash = |port: u16| flow_hash(address, Port::from(port), protocol::TCP, World::SEED);
    let near = |port: &u16| (hash(*port) >> 52).is_multiple_of(8);
    format!("192.0.2.7:{}", (1024..u16::MAX).find(near).expect("one port in eight"))
}

/// Of the near set the first flow is the oldest, for those clients whose evictions are near.
fn crowd_near() -> Case {
    let (vips, world) = thirty();
    let client = near_client();
    let mut case =
        Case::new("the near part of the table gives its oldest too, for one client in eight", |w| *w = world);
    for vip in vips.iter().take(24) {
        case = case.arrives(tcp(&client, vip).syn().build(), NIC_A, TO_B, None, NEW).then(Act::Idle(10));
    }
    let evicts = &[(Reason::ToBackend, 1), (Reason::FlowCreated, 1), (Reason::FlowEvicted, 1)];
    case.arrives(tcp(&client, &vips[24]).syn().build(), NIC_A, TO_B, None, evicts)
        .drops(tcp("10.0.2.1:80", &client).by_backend().syn_ack().build(), NIC_B, Reason::OrphanReply)
        .arrives(tcp("10.0.2.9:80", &client).by_backend().syn_ack().build(), NIC_B, TO_A, None, BACK)
}

fn crowd() -> Case {
    let (vips, world) = thirty();
    let mut case =
        Case::new("more flows than places: expired ones go first, then the one idle longest", |w| *w = world);
    for vip in vips.iter().take(24) {
        case = case.arrives(tcp(CLIENT, vip).syn().build(), NIC_A, TO_B, None, NEW).then(Act::Idle(10));
    }
    let evicts = &[(Reason::ToBackend, 1), (Reason::FlowCreated, 1), (Reason::FlowEvicted, 1)];
    case = case
        .then(Act::Flows(24))
        .arrives(tcp(CLIENT, &vips[24]).syn().build(), NIC_A, TO_B, None, evicts)
        .then(Act::Flows(24))
        // Eight stood near, then the far sets took turns: the ninth was idle longest of the set that is asked.
        .drops(tcp("10.0.2.9:80", CLIENT).by_backend().syn_ack().build(), NIC_B, Reason::OrphanReply)
        .arrives(tcp("10.0.2.11:80", CLIENT).by_backend().syn_ack().build(), NIC_B, TO_A, None, BACK)
        .then(Act::Idle(World::TIMEOUTS.syn + 1000));
    case.arrives(tcp(CLIENT, &vips[25]).syn().build(), NIC_A, TO_B, None, NEW)
}
