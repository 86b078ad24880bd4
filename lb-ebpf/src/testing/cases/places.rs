//! Which flow is whose, where tags, sets, addresses and ports coincide.

use std::{collections::HashMap, format, string::String, vec, vec::Vec};

use lb_common::{Address4, Port, Reason, flow_hash, limits, protocol, slots, state};

use super::{BACK, BACKEND, CLIENT, NEW, ON, TO_A, TO_B, VIP, one};
use crate::testing::{Act, Case, Memory, NIC_A, NIC_B, World, endpoint, tcp};

pub(super) fn cases() -> Vec<Case> {
    vec![
        same_tag_other_port(),
        same_tag_other_address(),
        tags_that_mean_nothing(),
        two_ports_of_a_vip(),
        two_ports_of_a_backend(),
        three_vips(),
        four_vips(),
        eighth_slot(),
        last_slot(),
        large_table(),
        counted(),
        kept_by_packets(),
    ]
}

fn hash(client: &str) -> u64 {
    let client = endpoint(client);
    flow_hash(client.address, client.port, protocol::TCP, World::SEED)
}

/// The first two of these clients with the same tag and the same near set.
fn twins(clients: impl Iterator<Item = String>) -> (String, String) {
    let near = u64::from(limits::flow_sets(World::MAX_FLOWS) / 8);
    let mut seen = HashMap::new();
    for client in clients {
        let hash = hash(&client);
        if let Some(twin) = seen.insert((hash >> 48 | 2, ((hash & 0xffff_ffff) * near) >> 32), client.clone()) {
            return (twin, client);
        }
    }
    panic!("no two of these clients look alike");
}

fn apart(name: &'static str, (one_client, other): &(String, String)) -> Case {
    let (first, second) = (tcp(one_client, VIP), tcp(other, VIP));
    let moved = |world: &mut World| {
        world.serve(&[VIP], &[BACKEND]);
    };
    Case::new(name, moved)
        .arrives(first.clone().syn().build(), NIC_A, TO_B, None, NEW)
        .drops(tcp(BACKEND, other).by_backend().build(), NIC_B, Reason::OrphanReply)
        .arrives(second.syn().build(), NIC_A, TO_B, None, NEW)
        .then(Act::Flows(2))
        .arrives(first.build(), NIC_A, TO_B, None, ON)
}

fn same_tag_other_port() -> Case {
    let twins = twins((1024..=65_535).map(|port| format!("192.0.2.7:{port}")));
    apart("two ports of a client with the same tag in the same set are two flows", &twins)
}

fn same_tag_other_address() -> Case {
    let twins = twins((0..=65_535).map(|number| format!("198.18.{}.{}:4321", number >> 8, number & 255)));
    apart("two clients with the same tag in the same set are two flows", &twins)
}

fn tags_that_mean_nothing() -> Case {
    let mut case = Case::new("no flow looks like an empty place or a claimed one", one);
    for tag in [0, 1] {
        let mut clients = (0..=0xf_ffff).map(|n| format!("198.18.{}.{}:{}", n >> 8 & 255, n & 255, 5000 + (n >> 16)));
        let client = clients.find(|client| hash(client) >> 48 == tag).unwrap_or_else(|| panic!("no hash has {tag}"));
        case = case
            .arrives(tcp(&client, VIP).syn().build(), NIC_A, TO_B, None, NEW)
            .then(Act::Flows(tag as usize + 1))
            .arrives(tcp(BACKEND, &client).by_backend().syn_ack().build(), NIC_B, TO_A, None, BACK);
    }
    case
}

fn two_ports_of_a_vip() -> Case {
    let other = "203.0.113.10:443";
    let packet = tcp(CLIENT, other);
    Case::new("one client port talks to two ports of a VIP", |world| {
        world.serve(&[VIP], &[BACKEND]);
        world.serve(&[other], &["10.0.1.12:8443"]);
    })
    .arrives(tcp(CLIENT, VIP).syn().build(), NIC_A, TO_B, None, NEW)
    .arrives(packet.build(), NIC_A, TO_B, packet.clone().to("10.0.1.12:8443").towards_backend().build(), NEW)
    .then(Act::Flows(2))
}

fn two_ports_of_a_backend() -> Case {
    let (other, second) = ("203.0.113.11:80", "10.0.1.11:8081");
    let answer = tcp(second, CLIENT).by_backend();
    Case::new("one client port talks to two ports of a backend's address", |world| {
        world.serve(&[VIP], &[BACKEND]);
        world.serve(&[other], &[second]);
    })
    .arrives(tcp(CLIENT, VIP).syn().build(), NIC_A, TO_B, None, NEW)
    .arrives(tcp(CLIENT, other).syn().build(), NIC_A, TO_B, None, NEW)
    .arrives(answer.build(), NIC_B, TO_A, answer.clone().from(other).towards_client().build(), BACK)
}

/// Services on so many VIPs, each with the same four backends.
fn shared(vips: usize) -> World {
    let mut world = World::new();
    let backends = ["10.0.1.11:80", "10.0.1.12:80", "10.0.1.13:80", "10.0.1.14:80"];
    for number in 0..vips {
        world.serve(&[vip(number).as_str()], &backends);
    }
    world
}

fn vip(number: usize) -> String {
    format!("203.0.113.{}:80", 10 + number)
}

/// The slot of a client in an ordinary table.
fn slot(client: &str) -> usize {
    Memory::slot_of(endpoint(client).address, slots::SMALL) as usize
}

/// Makes the services of [`shared`] name these backends, by their place in the list, from the client's slot on.
fn name(world: &mut World, service: u16, places: &[u16]) {
    let table = world.tables.get_mut(&service).expect("a service");
    for (step, place) in places.iter().enumerate() {
        table[(slot(CLIENT) + step) % slots::SMALL as usize] = (service - 1) * 4 + place + 1;
    }
}

fn three_vips() -> Case {
    let mut world = shared(3);
    name(&mut world, 1, &[0]);
    name(&mut world, 2, &[1]);
    name(&mut world, 3, &[1, 0, 2]);
    let third = tcp(CLIENT, &vip(2)).syn();
    Case::new("a port that talks to two backends gets a third one through a third VIP", |w| *w = world)
        .arrives(tcp(CLIENT, &vip(0)).syn().build(), NIC_A, TO_B, None, NEW)
        .arrives(tcp(CLIENT, &vip(1)).syn().build(), NIC_A, TO_B, None, NEW)
        .arrives(third.build(), NIC_A, TO_B, third.clone().to("10.0.1.13:80").towards_backend().build(), NEW)
        .then(Act::Flows(3))
}

fn four_vips() -> Case {
    let mut world = shared(4);
    for (service, place) in [(1, 0), (2, 1), (3, 2), (4, 0)] {
        name(&mut world, service, &[place]);
    }
    let mut case = Case::new("a backend that a port has talked to longest is not given to it again", |w| *w = world);
    for number in 0..3 {
        case = case.arrives(tcp(CLIENT, &vip(number)).syn().build(), NIC_A, TO_B, None, NEW);
    }
    case.drops(tcp(CLIENT, &vip(3)).syn().build(), NIC_A, Reason::TupleConflict).then(Act::Flows(3))
}

fn eighth_slot() -> Case {
    let mut world = shared(3);
    name(&mut world, 1, &[0]);
    name(&mut world, 2, &[0, 0, 0, 0, 0, 0, 0, 1]);
    name(&mut world, 3, &[0, 0, 0, 0, 0, 0, 0, 0, 2]);
    let eighth = tcp(CLIENT, &vip(1)).syn();
    Case::new("eight slots are tried for a port, and no more", |w| *w = world)
        .arrives(tcp(CLIENT, &vip(0)).syn().build(), NIC_A, TO_B, None, NEW)
        .arrives(eighth.build(), NIC_A, TO_B, eighth.clone().to("10.0.1.12:80").towards_backend().build(), NEW)
        .drops(tcp(CLIENT, &vip(2)).syn().build(), NIC_A, Reason::TupleConflict)
}

fn last_slot() -> Case {
    let mut clients = (0..=0xf_ffff_u32).map(|number| Address4((0xc612_0000 | number).to_be_bytes()));
    let last = slots::SMALL - 1;
    let client = clients.find(|client| Memory::slot_of(*client, slots::SMALL) == last).expect("every slot has clients");
    let client = format!("{client:?}:{}", u16::from(Port([16, 225])));
    let mut world = shared(2);
    world.fill(1, &[1]);
    world.fill(2, &[5]);
    world.tables.get_mut(&2).expect("the second service")[0] = 6;
    let second = tcp(&client, &vip(1)).syn();
    Case::new("after the last slot comes the first", |w| *w = world)
        .arrives(tcp(&client, &vip(0)).syn().build(), NIC_A, TO_B, None, NEW)
        .arrives(second.build(), NIC_A, TO_B, second.clone().to("10.0.1.12:80").towards_backend().build(), NEW)
}

/// The slots at both ends of a table of 65,537, the last of which no sixteen bits can name.
fn large_table() -> Case {
    let mut world = World::new();
    let ids = world.serve(&[VIP], &[BACKEND, "10.0.1.12:8080", "10.0.1.13:8080"]);
    let vip = world.services.get_mut(&endpoint(VIP)).expect("the service");
    vip.slots = slots::LARGE;
    let last = slots::LARGE - 1;
    let mut table = vec![ids[0]; slots::LARGE_ELEMENT];
    (table[0], table[last as usize]) = (ids[1], ids[2]);
    world.tables.insert(1, table);
    let mut case = Case::new("a table of 65,537 slots is used from the first to the last", |w| *w = world);
    for (slot, backend) in [(0, "10.0.1.12:8080"), (last, "10.0.1.13:8080"), (last / 2, BACKEND)] {
        let mut clients = (0..=0xff_ffff_u32).map(|number| Address4((0x0b00_0000 | number).to_be_bytes()));
        let client = clients.find(|client| Memory::slot_of(*client, slots::LARGE) == slot).expect("slots have clients");
        let syn = tcp(&format!("{client:?}:4321"), VIP).syn();
        case = case.arrives(syn.build(), NIC_A, TO_B, syn.clone().to(backend).towards_backend().build(), NEW);
    }
    case
}

fn counted() -> Case {
    let back = tcp(BACKEND, CLIENT).by_backend();
    Case::new("a flow shows who has spoken, and counts packets and octets", one)
        .arrives(tcp(CLIENT, VIP).syn().build(), NIC_A, TO_B, None, NEW)
        .then(Act::Shows([0; 2], [1, 0], [40, 0]))
        .arrives(tcp(CLIENT, VIP).syn().build(), NIC_A, TO_B, None, ON)
        .then(Act::Shows([0; 2], [2, 0], [80, 0]))
        // A stray packet past the service changes nothing.
        .passes(tcp(CLIENT, BACKEND).rst().build(), NIC_A, &[(Reason::Direct, 1)])
        .arrives(back.syn_ack().payload(b"odd").build(), NIC_B, TO_A, None, BACK)
        .then(Act::Shows([0, state::SPOKE], [2, 1], [80, 43]))
        .arrives(tcp(CLIENT, VIP).build(), NIC_A, TO_B, None, ON)
        .then(Act::Shows([state::SPOKE; 2], [3, 1], [120, 43]))
}

fn kept_by_packets() -> Case {
    let mut world = World::new();
    world.serve(&[VIP], &[BACKEND]);
    let packet = tcp(CLIENT, VIP);
    Case::new("each packet begins the idle time anew, which is short until both have spoken", |w| *w = world)
        .arrives(packet.build(), NIC_A, TO_B, None, NEW)
        .then(Act::Shows([state::SPOKE, 0], [1, 0], [40, 0]))
        .then(Act::Idle(World::TIMEOUTS.syn - 2000))
        .arrives(packet.build(), NIC_A, TO_B, None, ON)
        .then(Act::Idle(World::TIMEOUTS.syn - 2000))
        .arrives(packet.clone().syn().build(), NIC_A, TO_B, None, ON)
        .then(Act::Idle(World::TIMEOUTS.syn + 1000))
        .arrives(packet.syn().build(), NIC_A, TO_B, None, NEW)
        .then(Act::Flows(1))
}
