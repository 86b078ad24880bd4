//! What a flow remembers, and when its place is free again.

use std::{format, string::String, vec, vec::Vec};

use lb_common::{Port, Reason, flow_hash, protocol};

use super::{BACK, BACKEND, CLIENT, NEW, ON, OTHER, PROVED, VIP, back, one, to_vip, two};
use crate::{
    header::{FIN, RST, SYN},
    testing::{Act, Case, NIC_A, NIC_B, TcpPacket, World, endpoint, tcp},
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        founders(),
        new_connection_after_fin(),
        new_connection_after_rst(),
        answered_syn_stays(),
        idle_flow_lives_on(),
        idle_syn_begins_anew(),
        idle_handshake_begins_anew(),
        handshake_seen_in_the_future(),
        seen_in_the_future(),
        crowd_seen_in_the_future(),
        retired_backend(),
        reused_id(),
        named_but_gone(),
        same_id_another_port(),
        crowd(),
        crowd_near(),
        crowd_with_one_that_ended(),
        crowd_with_one_that_ends(),
        crowd_with_one_half_closed(),
    ]
}

fn founders() -> Case {
    Case::new("SYN-ACK, FIN and RST of no flow are forwarded and make none", one)
        .sends(&to_vip().syn_ack(), BACKEND, ON)
        .sends(&to_vip().fin(), BACKEND, ON)
        .sends(&to_vip().flags(FIN), BACKEND, ON)
        .sends(&to_vip().flags(RST), BACKEND, ON)
        .sends(&to_vip().flags(SYN | RST), BACKEND, ON)
        .then(Act::Halves(0))
        .then(Act::Flows(0))
}

fn established(name: &'static str) -> Case {
    Case::new(name, |world| *world = two(1)).connects(CLIENT, VIP, BACKEND)
}

fn new_connection_after_fin() -> Case {
    established("a SYN on a flow that both sides finished is a new connection")
        .sends(&to_vip().fin(), BACKEND, ON)
        .then(Act::Change(two(2)))
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&back().fin(), VIP, BACK)
        .sends(&to_vip(), BACKEND, ON)
        .sends(&to_vip().syn(), OTHER, NEW)
        .then(Act::Flows(0))
        .then(Act::Halves(1))
}

fn new_connection_after_rst() -> Case {
    established("a SYN on a flow that was broken off is a new connection")
        .returns(&back().rst(), VIP, BACK)
        .then(Act::Change(two(2)))
        .connects(CLIENT, VIP, OTHER)
        .then(Act::Flows(1))
}

fn answered_syn_stays() -> Case {
    Case::new("a repeated SYN that was answered stays with its backend, however late it is", |world| *world = two(1))
        .shakes(CLIENT, VIP, BACKEND)
        .then(Act::Change(two(2)))
        .then(Act::Idle(World::PATIENCE * 2))
        .sends(&to_vip().syn(), BACKEND, ON)
}

fn idle_flow_lives_on() -> Case {
    established("an established flow outlives every idle time while its place is not needed")
        .then(Act::Change(two(2)))
        .then(Act::Idle(World::TIMEOUTS.established + 1000))
        .sends(&to_vip(), BACKEND, ON)
        .returns(&back(), VIP, BACK)
}

fn idle_syn_begins_anew() -> Case {
    established("a SYN on a flow idle beyond its timeout is a new connection, before it is not")
        .then(Act::Change(two(2)))
        .then(Act::Idle(World::TIMEOUTS.established - 1000))
        .sends(&to_vip().syn(), BACKEND, ON)
        .then(Act::Idle(World::TIMEOUTS.established + 1000))
        .sends(&to_vip().syn(), OTHER, NEW)
        .then(Act::Flows(0))
}

fn idle_handshake_begins_anew() -> Case {
    Case::new("a handshake has its time once: no packet of it begins the time anew", |world| *world = two(1))
        .shakes(CLIENT, VIP, BACKEND)
        .then(Act::Change(two(2)))
        .then(Act::Idle(World::TIMEOUTS.syn - 1000))
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&back().syn_ack(), VIP, BACK)
        .then(Act::Idle(2000))
        // Too late to prove anything: it is a flow in mid-life, of the backend that the table names now.
        .sends(&to_vip(), OTHER, NEW)
        .drops(back().syn_ack().build(), NIC_B, Reason::OrphanReply)
        .then(Act::Idle(World::TIMEOUTS.syn + 1000))
        .sends(&to_vip().syn(), OTHER, NEW)
        .then(Act::Idle(World::TIMEOUTS.syn + 1000))
        // An answer to what is over finds nobody, and leaves nothing.
        .drops(tcp(OTHER, CLIENT).by_backend().syn_ack().build(), NIC_B, Reason::OrphanReply)
        .then(Act::Halves(0))
}

/// Another CPU notes a flow in the jiffy after the one that this CPU has asked for.
fn seen_in_the_future() -> Case {
    established("a flow that another CPU saw a moment later is not idle")
        .then(Act::Change(two(2)))
        .then(Act::Idle(0_u32.wrapping_sub(5000)))
        .sends(&to_vip().syn(), BACKEND, ON)
        .then(Act::Flows(1))
}

fn handshake_seen_in_the_future() -> Case {
    Case::new("a handshake that another CPU began a moment later is not over", |world| *world = two(1))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Change(two(2)))
        .then(Act::Idle(0_u32.wrapping_sub(5000)))
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
}

fn retired_backend() -> Case {
    let mut without = two(2);
    without.backends.remove(&1);
    established("a flow or a handshake whose backend is no more goes where the table says")
        .shakes("192.0.2.8:4321", VIP, BACKEND)
        .then(Act::Change(without))
        .sends(&to_vip(), OTHER, NEW)
        .sends(&tcp("192.0.2.8:4321", VIP), OTHER, NEW)
        .then(Act::Flows(0))
        .then(Act::Halves(2))
}

fn reused_id() -> Case {
    let mut reused = two(2);
    let newcomer = reused.backends[&2];
    reused.backends.insert(1, newcomer);
    established("a flow or a handshake is not sent to the new owner of its backend's id")
        .shakes("192.0.2.8:4321", VIP, BACKEND)
        .then(Act::Change(reused))
        .sends(&to_vip(), OTHER, NEW)
        .sends(&tcp("192.0.2.8:4321", VIP), OTHER, NEW)
}

fn named_but_gone() -> Case {
    Case::new("a backend that a table names and that is no more is never sent to", |world| {
        *world = two(1);
        world.backends.remove(&1);
    })
    .drops(to_vip().syn().build(), NIC_A, Reason::Inconsistent)
    .then(Act::Halves(0))
}

fn same_id_another_port() -> Case {
    let mut moved = two(1);
    moved.backends.get_mut(&1).expect("the first backend").port = 9090.into();
    established("a flow or a handshake is not sent to another port of its backend")
        .shakes("192.0.2.8:4321", VIP, BACKEND)
        .then(Act::Change(moved))
        .sends(&to_vip(), "10.0.1.11:9090", NEW)
        .sends(&tcp("192.0.2.8:4321", VIP), "10.0.1.11:9090", NEW)
        .then(Act::Flows(0))
}

/// Thirty VIPs, each with a backend of its own.
struct Crowd {
    vips: Vec<String>,
    backends: Vec<String>,
    client: String,
}

impl Crowd {
    fn of(client: &str) -> Self {
        Self {
            vips: (0..30).map(|n| format!("203.0.113.{}:80", 20 + n)).collect(),
            backends: (0..30).map(|n| format!("10.0.2.{}:80", n + 1)).collect(),
            client: String::from(client),
        }
    }

    fn case(&self, name: &'static str) -> Case {
        Case::new(name, |world| {
            for (vip, backend) in self.vips.iter().zip(&self.backends) {
                world.serve(&[vip.as_str()], &[backend.as_str()]);
            }
        })
    }

    /// The connection with one VIP.
    fn connects(&self, case: Case, number: usize) -> Case {
        case.connects(&self.client, &self.vips[number], &self.backends[number])
    }

    /// The same, where another flow makes room.
    fn evicts(&self, case: Case, number: usize) -> Case {
        let (vip, backend) = (&self.vips[number], &self.backends[number]);
        let counts = [PROVED, &[(Reason::FlowEvicted, 1)]].concat();
        case.shakes(&self.client, vip, backend).sends(&tcp(&self.client, vip), backend, &counts)
    }

    /// A flow that is still there.
    fn stays(&self, case: Case, number: usize) -> Case {
        case.returns(&tcp(&self.backends[number], &self.client).by_backend(), &self.vips[number], BACK)
    }

    /// A flow that made room.
    fn left(&self, case: Case, number: usize) -> Case {
        let packet = tcp(&self.backends[number], &self.client).by_backend();
        case.drops(packet.build(), NIC_B, Reason::OrphanReply)
    }
}

fn crowd_seen_in_the_future() -> Case {
    let crowd = Crowd::of(CLIENT);
    let mut case = crowd.case("of more flows than places, the one that another CPU sees now stays");
    for number in 0..22 {
        case = crowd.connects(case, number);
    }
    case = crowd.connects(crowd.connects(case.then(Act::Idle(10_000)), 22), 23);
    case = crowd.evicts(case.then(Act::Idle(0_u32.wrapping_sub(5000))), 24);
    crowd.stays(case, 22)
}

/// A client whose tag says that its evictions are near: one in eight.
fn near_client() -> String {
    let address = endpoint(CLIENT).address;
    let hash = |port: u16| flow_hash(address, Port::from(port), protocol::TCP, World::SEED);
    let near = |port: &u16| (hash(*port) >> 52).is_multiple_of(8);
    format!("192.0.2.7:{}", (1024..u16::MAX).find(near).expect("one port in eight"))
}

/// Of the near set the first flow is the oldest, for those clients whose evictions are near.
fn crowd_near() -> Case {
    let crowd = Crowd::of(&near_client());
    let mut case = crowd.case("the near part of the table gives its oldest too, for one client in eight");
    for number in 0..24 {
        case = crowd.connects(case, number).then(Act::Idle(10));
    }
    crowd.stays(crowd.left(crowd.evicts(case, 24), 0), 8)
}

/// More flows of one client port than its three sets hold: the idle ones go first.
fn crowd() -> Case {
    let crowd = Crowd::of(CLIENT);
    let mut case = crowd.case("more flows than places: expired ones go first, then the one idle longest");
    for number in 0..24 {
        case = crowd.connects(case, number).then(Act::Idle(10));
    }
    case = crowd.evicts(case.then(Act::Flows(24)), 24).then(Act::Flows(24));
    // Eight stood near, then the far sets took turns: the ninth was idle longest of the set that is asked.
    case = crowd.stays(crowd.left(case, 8), 10).then(Act::Idle(World::TIMEOUTS.established + 1000));
    crowd.connects(case, 25).then(Act::Flows(24))
}

/// The connection of one place in the crowd ends, by these packets of its client's and its backend's.
fn one_ends(name: &'static str, ends: &[fn(TcpPacket) -> TcpPacket], idle: u32) -> (Crowd, Case) {
    let crowd = Crowd::of(CLIENT);
    let mut case = crowd.case(name);
    for number in 0..24 {
        case = crowd.connects(case, number).then(Act::Idle(10));
    }
    let (vip, backend) = (&crowd.vips[12], &crowd.backends[12]);
    case = case.sends(&tcp(&crowd.client, vip).fin(), backend, ON);
    for end in ends {
        case = case.returns(&end(tcp(backend, &crowd.client).by_backend()), vip, BACK);
    }
    (crowd, case.then(Act::Idle(idle)))
}

fn crowd_with_one_that_ended() -> Case {
    let name = "a flow that both sides finished makes room first, and nobody counts it as evicted";
    let (crowd, case) = one_ends(name, &[TcpPacket::fin], World::TIMEOUTS.fin + 1000);
    crowd.stays(crowd.left(crowd.connects(case, 24), 12), 8)
}

fn crowd_with_one_that_ends() -> Case {
    let name = "a flow that both sides finished a moment ago does not";
    let (crowd, case) = one_ends(name, &[TcpPacket::fin], World::TIMEOUTS.fin - 1000);
    crowd.stays(crowd.left(crowd.evicts(case, 24), 8), 12)
}

fn crowd_with_one_half_closed() -> Case {
    let name = "a flow of which one side has finished makes room no sooner than any other";
    let (crowd, case) = one_ends(name, &[], World::TIMEOUTS.fin + 1000);
    crowd.stays(crowd.left(crowd.evicts(case, 24), 8), 12)
}
