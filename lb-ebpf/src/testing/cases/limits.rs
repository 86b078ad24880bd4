//! Who may open a connection, how often, and how many.

use std::{format, vec, vec::Vec};

use lb_common::{Address4, Backend, Limits, Origin, Reason, Service};

use super::{BACK, BACKEND, CLIENT, NEW, ON, OTHER, PROVED, VIP, back, beside, one, refusal, to_vip};
use crate::testing::{Act, Case, NIC_A, NIC_B, World, endpoint, tcp};

pub(super) fn cases() -> Vec<Case> {
    vec![
        nested_prefixes(),
        only_new_flows_are_denied(),
        no_filter(),
        rate(),
        what_the_rate_does_not_count(),
        per_source(),
        per_source_after_each_end(),
        per_source_after_a_refusal(),
        per_source_of_a_service(),
        per_source_of_what_the_operator_ends(),
        a_stray_evades_nothing(),
    ]
}

/// Jiffies between two connections: far more than any floor needs for a case.
const PACE: u32 = 100_000;

fn limited(flags: u32, burst: u32, per_source: u32) -> World {
    let mut world = World::new();
    one(&mut world);
    world.flag(1, flags);
    let interval = u64::from(PACE) << 20;
    world.limits.insert(1, Limits { interval, burst: interval * u64::from(burst), per_source, zero: 0 });
    world
}

fn case(name: &'static str, wanted: World) -> Case {
    Case::new(name, |world| *world = wanted)
}

/// A prefix of a service's clients.
fn says(world: &mut World, service: u16, prefix: &str, bits: u32, verdict: u32) {
    let Address4([a, b, c, d]) = endpoint(&format!("{prefix}:0")).address;
    world.access.insert((Origin::SERVICE_BITS + bits, Origin::new(service, Address4([a, b, c, d]))), verdict);
}

fn nested_prefixes() -> Case {
    let mut world = limited(Service::FILTERED, 0, 0);
    says(&mut world, 1, "0.0.0.0", 0, Origin::DENIED);
    says(&mut world, 1, "192.0.2.0", 24, Origin::ALLOWED);
    says(&mut world, 1, "192.0.2.64", 26, Origin::DENIED);
    says(&mut world, 1, "192.0.2.65", 32, Origin::ALLOWED);
    // What another service says is nothing to this one.
    says(&mut world, 2, "192.0.2.7", 32, Origin::DENIED);
    let mut case = case("of nested prefixes the longest says who may open connections", world);
    for (client, may) in [
        ("192.0.2.7:80", true),
        ("192.0.2.64:80", false),
        ("192.0.2.65:80", true),
        ("192.0.2.127:80", false),
        ("192.0.2.128:80", true),
        ("192.0.3.7:80", false),
    ] {
        let syn = tcp(client, VIP).syn();
        case = if may { case.sends(&syn, BACKEND, NEW) } else { case.drops(syn.build(), NIC_A, Reason::Denied) };
    }
    case
}

fn only_new_flows_are_denied() -> Case {
    let mut denies = limited(Service::FILTERED, 0, 0);
    says(&mut denies, 1, "192.0.2.0", 24, Origin::DENIED);
    Case::new("who is denied keeps what is open, and gets nothing new", one)
        .connects(CLIENT, VIP, BACKEND)
        .shakes("192.0.2.8:80", VIP, BACKEND)
        .then(Act::Change(denies))
        .sends(&to_vip(), BACKEND, ON)
        .sends(&tcp("192.0.2.8:80", VIP), BACKEND, PROVED)
        .drops(tcp("192.0.2.9:80", VIP).build(), NIC_A, Reason::Denied)
        .drops(tcp("192.0.2.9:80", VIP).fin().build(), NIC_A, Reason::Denied)
        .drops(tcp("192.0.2.9:80", VIP).rst().build(), NIC_A, Reason::Denied)
        .then(Act::Halves(0))
}

fn no_filter() -> Case {
    let mut world = limited(0, 0, 0);
    says(&mut world, 1, "0.0.0.0", 0, Origin::DENIED);
    case("a service without allow, deny and limits asks nobody", world).sends(&to_vip().syn(), BACKEND, NEW)
}

/// A client of its own for each number.
fn client(number: u32) -> std::string::String {
    format!("192.0.2.{number}:4321")
}

fn rate() -> Case {
    let mut case = case("a burst of connections, and then one at a time", limited(Service::RATED, 2, 0));
    for number in 1..=3 {
        case = case.sends(&tcp(&client(number), VIP).syn(), BACKEND, NEW);
    }
    let late = tcp(&client(4), VIP).syn();
    case = case.drops(late.build(), NIC_A, Reason::RateLimited).drops(late.build(), NIC_A, Reason::RateLimited);
    case.then(Act::Idle(PACE))
        .sends(&late, BACKEND, NEW)
        .drops(tcp(&client(5), VIP).syn().build(), NIC_A, Reason::RateLimited)
        // However long nothing came, no more than a burst was saved.
        .then(Act::Idle(10 * PACE))
        .sends(&tcp(&client(5), VIP).syn(), BACKEND, NEW)
        .sends(&tcp(&client(6), VIP).syn(), BACKEND, NEW)
        .sends(&tcp(&client(7), VIP).syn(), BACKEND, NEW)
        .drops(tcp(&client(8), VIP).syn().build(), NIC_A, Reason::RateLimited)
}

fn what_the_rate_does_not_count() -> Case {
    case("neither repeated SYNs nor flows in mid-life are new connections", limited(Service::RATED, 0, 0))
        .sends(&to_vip().syn(), BACKEND, NEW)
        .sends(&to_vip().syn(), BACKEND, ON)
        .returns(&back().syn_ack(), VIP, BACK)
        .sends(&to_vip(), BACKEND, PROVED)
        .sends(&to_vip().syn(), BACKEND, ON)
        .sends(&tcp("192.0.2.8:4321", VIP), BACKEND, NEW)
        .drops(tcp("192.0.2.9:4321", VIP).syn().build(), NIC_A, Reason::RateLimited)
}

const PORTS: [&str; 3] = ["192.0.2.7:1001", "192.0.2.7:1002", "192.0.2.7:1003"];

fn counts(case: Case, connections: u32) -> Case {
    case.then(Act::Connections(endpoint(CLIENT).address, 1, connections))
}

fn per_source() -> Case {
    let case =
        case("a client has so many connections and no more, from its first SYN on", limited(Service::PER_SOURCE, 0, 2))
            .sends(&tcp(PORTS[0], VIP).syn(), BACKEND, NEW)
            .sends(&tcp(PORTS[0], VIP).syn(), BACKEND, ON);
    counts(counts(case, 1).connects(PORTS[1], VIP, BACKEND), 2)
        .drops(tcp(PORTS[2], VIP).syn().build(), NIC_A, Reason::SourceLimited)
        // Others have their own.
        .sends(&tcp("192.0.2.8:1001", VIP).syn(), BACKEND, NEW)
        .then(Act::Halves(2))
}

fn per_source_after_each_end() -> Case {
    let (there, back) = (tcp(PORTS[0], VIP), tcp(BACKEND, PORTS[0]).by_backend());
    let case = case("a client's connection counts until it has ended", limited(Service::PER_SOURCE, 0, 1))
        .connects(PORTS[0], VIP, BACKEND)
        .sends(&there.clone().fin(), BACKEND, ON)
        .drops(tcp(PORTS[1], VIP).syn().build(), NIC_A, Reason::SourceLimited)
        .returns(&back.clone().fin(), VIP, BACK)
        // The last packets of a connection that has ended count nothing.
        .sends(&there, BACKEND, ON)
        .returns(&back, VIP, BACK);
    let case = counts(case, 0).connects(PORTS[0], VIP, BACKEND).returns(&back.clone().rst(), VIP, BACK).returns(
        &back.clone().rst(),
        VIP,
        BACK,
    );
    // A RST that was none is undone.
    let case = counts(counts(case, 0).returns(&back, VIP, BACK), 1).sends(&there.clone().rst(), BACKEND, ON);
    let case = counts(counts(case, 0).sends(&there, BACKEND, ON), 1).sends(&there.rst(), BACKEND, ON);
    counts(case, 0).connects(PORTS[1], VIP, BACKEND)
}

fn per_source_after_a_refusal() -> Case {
    let name = "a handshake that fails counts no longer: refused, broken off by its client, or too old";
    let refuses = |case: Case| case.sends(&to_vip().syn(), BACKEND, NEW).returns(&refused_by(BACKEND), VIP, BACK);
    let mut case = refuses(case(name, limited(Service::PER_SOURCE, 0, 1)));
    case = counts(case, 0).shakes(CLIENT, VIP, BACKEND);
    case = counts(case, 1).sends(&to_vip().rst(), BACKEND, ON);
    case = counts(case, 0).sends(&to_vip().syn(), BACKEND, NEW).then(Act::Idle(World::TIMEOUTS.syn + 1000));
    counts(counts(case, 1).drops(back().syn_ack().build(), NIC_B, Reason::OrphanReply), 0)
}

fn refused_by(backend: &str) -> crate::testing::TcpPacket {
    refusal(&to_vip().syn().to(backend)).by_backend().numbers(0, 1000)
}

fn per_source_of_a_service() -> Case {
    let mut world = beside(Service::PER_SOURCE | Service::RETRIES);
    world.limits.insert(1, Limits { interval: 0, burst: 0, per_source: 1, zero: 0 });
    let case = case("a handshake that moves to another backend is one connection", world)
        .sends(&to_vip().syn(), BACKEND, NEW)
        .drops(refused_by(BACKEND).build(), NIC_B, Reason::Refused)
        .sends(&to_vip().syn(), OTHER, &[(Reason::ToBackend, 1), (Reason::Redispatched, 1)]);
    let answer = tcp(OTHER, CLIENT).by_backend();
    let case = counts(case, 1).returns(&answer.clone().syn_ack(), VIP, BACK).sends(&to_vip(), OTHER, PROVED);
    counts(counts(case, 1).returns(&answer.rst(), VIP, BACK), 0)
}

fn per_source_of_what_the_operator_ends() -> Case {
    let world = limited(Service::PER_SOURCE, 0, 2);
    let mut resets = world.clone();
    resets.backends.get_mut(&1).expect("the backend").flags |= Backend::RESETS;
    let case = case("connections that the operator ends count no longer", world)
        .connects(PORTS[0], VIP, BACKEND)
        .shakes(PORTS[1], VIP, BACKEND)
        .then(Act::Change(resets));
    let case = counts(case, 2).refused(&tcp(PORTS[0], VIP), NIC_A, Reason::BackendReset);
    counts(counts(case, 1).refused(&tcp(PORTS[1], VIP), NIC_A, Reason::BackendReset), 0)
}

fn a_stray_evades_nothing() -> Case {
    let flags = Service::PER_SOURCE | Service::RATED;
    let case = case("a stray packet before the SYN evades no limit", limited(flags, 10, 1))
        .sends(&to_vip(), BACKEND, NEW)
        .connects(CLIENT, VIP, BACKEND)
        .sends(&tcp(PORTS[0], VIP), BACKEND, NEW)
        .drops(tcp(PORTS[0], VIP).syn().build(), NIC_A, Reason::SourceLimited);
    counts(case, 1)
}
