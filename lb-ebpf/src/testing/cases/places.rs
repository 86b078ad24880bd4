//! Which flow is whose, where tags, sets, addresses and ports coincide.

use std::{collections::HashMap, format, string::String, vec, vec::Vec};

use lb_common::{Address4, Port, Reason, flow_hash, limits, protocol, slots, state};

use super::{BACK, BACKEND, CLIENT, NEW, ON, OTHER, PROVED, VIP, back, one, to_vip};
use crate::testing::{Act, Case, Memory, NIC_A, NIC_B, World, endpoint, tcp};

pub(super) fn cases() -> Vec<Case> {
    vec![
        same_tag_other_port(),
        same_tag_other_address(),
        tags_that_mean_nothing(),
        two_ports_of_a_vip(),
        two_ports_of_a_backend(),
        three_vips(),
        five_vips(),
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

/// The first two of these clients with the same tag, the same near set and the same half-open set.
fn twins(clients: impl Iterator<Item = String>) -> (String, String) {
    let sets = limits::flow_sets(World::MAX_FLOWS);
    let (near, half) = (u64::from(sets / 8), u64::from(limits::half_sets(sets)));
    let mut seen = HashMap::new();
    for client in clients {
        let hash = hash(&client);
        let places = (((hash & 0xffff_ffff) * near) >> 32, ((hash >> 24 & 0xffff_ffff) * half) >> 32);
        if let Some(twin) = seen.insert((hash >> 48 | 2, places), client.clone()) {
            return (twin, client);
        }
    }
    panic!("no two of these clients look alike");
}

fn apart(name: &'static str, (one_client, other): &(String, String)) -> Case {
    let (first, second) = (tcp(one_client, VIP), tcp(other, VIP));
    let stray = tcp(BACKEND, other).by_backend();
    Case::new(name, one)
        .sends(&first.clone().syn(), BACKEND, NEW)
        .drops(stray.clone().syn_ack().build(), NIC_B, Reason::OrphanReply)
        .sends(&second.clone().syn(), BACKEND, NEW)
        .then(Act::Halves(2))
        .returns(&tcp(BACKEND, one_client).by_backend().syn_ack(), VIP, BACK)
        // What one backend's answer says proves nothing for the other client.
        .sends(&second, BACKEND, ON)
        .sends(&first, BACKEND, PROVED)
        .then(Act::Halves(1))
        .returns(&stray.syn_ack(), VIP, BACK)
        .sends(&second, BACKEND, PROVED)
        .then(Act::Flows(2))
        .sends(&first, BACKEND, ON)
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
            .sends(&tcp(&client, VIP).syn(), BACKEND, NEW)
            .then(Act::Halves(1))
            .returns(&tcp(BACKEND, &client).by_backend().syn_ack(), VIP, BACK)
            .sends(&tcp(&client, VIP), BACKEND, PROVED)
            .then(Act::Flows(tag as usize + 1))
            .returns(&tcp(BACKEND, &client).by_backend(), VIP, BACK);
    }
    case
}

fn two_ports_of_a_vip() -> Case {
    let (other, second) = ("203.0.113.10:443", "10.0.1.12:8443");
    Case::new("one client port talks to two ports of a VIP", |world| {
        world.serve(&[VIP], &[BACKEND]);
        world.serve(&[other], &[second]);
    })
    .shakes(CLIENT, VIP, BACKEND)
    .shakes(CLIENT, other, second)
    .then(Act::Halves(2))
    .sends(&to_vip(), BACKEND, PROVED)
    .sends(&tcp(CLIENT, other), second, PROVED)
    .sends(&to_vip(), BACKEND, ON)
    .then(Act::Flows(2))
}

fn two_ports_of_a_backend() -> Case {
    let (other, second) = ("203.0.113.11:80", "10.0.1.11:8081");
    Case::new("one client port talks to two ports of a backend's address", |world| {
        world.serve(&[VIP], &[BACKEND]);
        world.serve(&[other], &[second]);
    })
    .sends(&to_vip().syn(), BACKEND, NEW)
    .connects(CLIENT, other, second)
    .returns(&back().syn_ack(), VIP, BACK)
    .sends(&to_vip(), BACKEND, PROVED)
    .returns(&tcp(second, CLIENT).by_backend(), other, BACK)
    .returns(&back(), VIP, BACK)
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

/// The place in the list of [`shared`], as an address.
fn at(place: usize) -> String {
    format!("10.0.1.{}:80", 11 + place)
}

fn three_vips() -> Case {
    let mut world = shared(3);
    name(&mut world, 1, &[0]);
    name(&mut world, 2, &[1]);
    name(&mut world, 3, &[1, 0, 2]);
    Case::new("a port that talks to two backends gets a third one through a third VIP", |w| *w = world)
        .connects(CLIENT, &vip(0), &at(0))
        .sends(&tcp(CLIENT, &vip(1)).syn(), &at(1), NEW)
        .connects(CLIENT, &vip(2), &at(2))
        .then(Act::Flows(2))
        .then(Act::Halves(1))
}

fn five_vips() -> Case {
    let mut world = shared(5);
    for (service, places) in [(1, [0; 4]), (2, [1; 4]), (3, [2; 4]), (4, [0, 1, 2, 3]), (5, [3, 2, 1, 0])] {
        name(&mut world, service, &places);
    }
    let mut case = Case::new("a port that talks to every backend gets none of them twice", |w| *w = world);
    for number in 0..4 {
        case = case.connects(CLIENT, &vip(number), &at(number));
    }
    case.drops(tcp(CLIENT, &vip(4)).syn().build(), NIC_A, Reason::TupleConflict).then(Act::Flows(4))
}

fn eighth_slot() -> Case {
    let mut world = shared(3);
    name(&mut world, 1, &[0]);
    name(&mut world, 2, &[0, 0, 0, 0, 0, 0, 0, 1]);
    name(&mut world, 3, &[0, 0, 0, 0, 0, 0, 0, 0, 2]);
    Case::new("eight slots are tried for a port, and no more", |w| *w = world)
        .sends(&tcp(CLIENT, &vip(0)).syn(), &at(0), NEW)
        .sends(&tcp(CLIENT, &vip(1)).syn(), &at(1), NEW)
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
    Case::new("after the last slot comes the first", |w| *w = world)
        .sends(&tcp(&client, &vip(0)).syn(), &at(0), NEW)
        .sends(&tcp(&client, &vip(1)).syn(), &at(1), NEW)
}

/// The slots at both ends of a table of 65,537, the last of which no sixteen bits can name.
fn large_table() -> Case {
    let mut world = World::new();
    let ids = world.serve(&[VIP], &[BACKEND, OTHER, "10.0.1.13:8080"]);
    let vip = world.services.get_mut(&endpoint(VIP)).expect("the service");
    vip.slots = slots::LARGE;
    let last = slots::LARGE - 1;
    let mut table = vec![ids[0]; slots::LARGE_ELEMENT];
    (table[0], table[last as usize]) = (ids[1], ids[2]);
    world.tables.insert(1, table);
    let mut case = Case::new("a table of 65,537 slots is used from the first to the last", |w| *w = world);
    for (slot, backend) in [(0, OTHER), (last, "10.0.1.13:8080"), (last / 2, BACKEND)] {
        let mut clients = (0..=0xff_ffff_u32).map(|number| Address4((0x0b00_0000 | number).to_be_bytes()));
        let client = clients.find(|client| Memory::slot_of(*client, slots::LARGE) == slot).expect("slots have clients");
        case = case.sends(&tcp(&format!("{client:?}:4321"), VIP).syn(), backend, NEW);
    }
    case
}

fn counted() -> Case {
    Case::new("a flow shows who has spoken, and counts packets and octets from its first SYN on", one)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .sends(&to_vip().syn(), BACKEND, ON)
        // A stray packet past the service changes nothing.
        .passes(tcp(CLIENT, BACKEND).rst().build(), NIC_A, &[(Reason::Direct, 1)])
        .returns(&back().syn_ack().payload(b"odd"), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
        .then(Act::Shows([state::SPOKE; 2], [3, 1], [120, 43]))
        .returns(&back().payload(b"hello"), VIP, BACK)
        .then(Act::Shows([state::SPOKE, state::SPOKE | state::DATA], [3, 2], [120, 88]))
        .sends(&to_vip().payload(b"hi"), BACKEND, ON)
        .then(Act::Shows([state::SPOKE | state::DATA; 2], [4, 2], [162, 88]))
        .sends(&to_vip().syn(), BACKEND, ON)
        .then(Act::Shows([state::SPOKE | state::DATA; 2], [5, 2], [202, 88]))
        .then(Act::Traffic(1, [5, 2], [202, 88]))
}

fn kept_by_packets() -> Case {
    Case::new("each packet of either side begins the idle time of a live flow anew", one)
        .connects(CLIENT, VIP, BACKEND)
        .then(Act::Idle(World::TIMEOUTS.established - 2000))
        .sends(&to_vip(), BACKEND, ON)
        .then(Act::Idle(World::TIMEOUTS.established - 2000))
        .returns(&back(), VIP, BACK)
        .then(Act::Idle(World::TIMEOUTS.established - 2000))
        .sends(&to_vip().syn(), BACKEND, ON)
        .then(Act::Idle(World::TIMEOUTS.established + 1000))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .then(Act::Flows(0))
}
