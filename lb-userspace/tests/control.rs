//! The controller over memory: every step failing in turn, and what a large reload costs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lb_common::Limits;
use lb_userspace::{
    config,
    control::{Controller, Event, Settings, Surroundings},
    datapath::{Datapath as _, Snapshot, memory::MemoryDatapath},
    model::Model,
    net::{Address, GroundFault, NextHop},
    time::Now,
};
use tokio::sync::oneshot;

fn model(yaml: &str) -> Model {
    config::parse(yaml, "test.yaml").unwrap_or_else(|faults| panic!("{faults}")).0
}

/// A controller whose file is `file`, and whose backends are all one hop away.
fn controller(datapath: MemoryDatapath, file: &Arc<Mutex<Model>>, now: Now) -> Controller<MemoryDatapath> {
    let model = file.lock().unwrap().clone();
    let file = Arc::clone(file);
    let settings = Settings {
        file: "test.yaml".into(),
        node: model.node.clone(),
        interfaces_by_flag: true,
        xdp_by_flag: false,
        socket_by_flag: true,
        socket: None,
        http_by_flag: true,
        http: None,
    };
    let load = Box::new(move || Ok(file.lock().unwrap().clone()));
    Controller::new(datapath, settings, model, load, now).ok().unwrap()
}

fn surroundings(models: &[&Model]) -> Event {
    let own = Ipv4Addr::new(10, 0, 0, 1);
    let own = Address { address: own, ifindex: 2, subnet: (own, 24), is_marked: false };
    let mut found = Surroundings { addresses: [own].into(), ..Surroundings::default() };
    for backend in models.iter().flat_map(|model| model.services.values()).flat_map(|service| &service.backends) {
        found.hops.insert(*backend.address.ip(), NextHop::Known { ifindex: 2, mac: [2; 6] });
    }
    Event::Surroundings(Ok(found))
}

const BEFORE: &str = "
version: 1
defaults: {health: none}
services:
  api:
    listen: 203.0.113.11:80
    backends: [10.0.1.11:80, 10.0.1.12:80]
    limits: {rate: 10/s, per_source: 7}
    allow: [10.0.0.0/8, 192.0.2.0/24]
    deny: [10.66.0.0/16]
  old: {listen: 203.0.113.12:80, backends: [10.0.1.13:80], limits: {rate: 9/s}, deny: 198.51.100.0/24}
  web: {listen: [203.0.113.10:80, 203.0.113.10:443], slots: 65537, backends: [10.0.1.11:80, 10.0.1.14:80]}
";
const AFTER: &str = "
version: 1
defaults: {health: none}
services:
  api:
    listen: 203.0.113.10:443
    backends: [10.0.1.12:80, {address: 10.0.1.15:80, weight: 7}]
    limits: {per_source: 5}
    timeouts: {established: 1h}
    all_down: drop
    deny: [10.66.6.0/24, 10.0.0.0/8]
  new: {listen: 203.0.113.12:80, slots: 65537, backends: [10.0.1.16:80]}
  web: {listen: [203.0.113.10:80, 203.0.113.13:80], backends: [10.0.1.11:80, 10.0.1.14:80, 10.0.1.17:80]}
";

/// What clients see: every endpoint with what its table holds, by the backends' addresses.
fn served(maps: &Snapshot) -> BTreeMap<String, Vec<String>> {
    let address = |id: &u16| match maps.backends.get(id) {
        Some(backend) => format!("{:?}:{:?}", backend.address, backend.port),
        None => "nobody".to_owned(),
    };
    maps.services
        .iter()
        .map(|(listen, service)| {
            let table = &maps.tables[&(service.slots, service.table)];
            (format!("{:?}:{:?}", listen.address, listen.port), table.iter().map(address).collect())
        })
        .collect()
}

/// What is said of clients, by the service's name.
fn policy(maps: &Snapshot) -> BTreeMap<String, (Option<Limits>, BTreeMap<String, u32>)> {
    let said = |id: u16| {
        let access = maps.access.iter().filter(move |(prefix, _)| prefix.service == id);
        access.map(|(prefix, verdict)| (prefix.clients.to_string(), *verdict)).collect()
    };
    maps.names.iter().map(|(id, name)| (name.clone(), (maps.limits.get(id).copied(), said(*id)))).collect()
}

/// From `BEFORE` to `AFTER` with a step that fails after `good` ones; the controller is replaced by
/// another where `restarted`. The maps after the failure, and at the end.
fn changed(good: usize, restarted: bool) -> (Snapshot, Snapshot, bool) {
    let mut now = Now::read();
    let (before, after) = (model(BEFORE), model(AFTER));
    let file = Arc::new(Mutex::new(before.clone()));
    let mut first = controller(MemoryDatapath::new(), &file, now);
    first.absorb(surroundings(&[&before, &after]), now);
    first.turn(now);
    assert!(first.is_ready());
    *file.lock().unwrap() = after.clone();
    first.datapath_mut().failing_after = Some(good);
    first.absorb(Event::FileChanged, now);
    first.turn(now);
    let failed = first.datapath_mut().snapshot().unwrap();
    let has_failed = first.datapath().failing_after == Some(0);
    let mut second = if restarted {
        let mut second = controller(first.into_datapath(), &file, now);
        second.absorb(surroundings(&[&before, &after]), now);
        second
    } else {
        first
    };
    second.datapath_mut().failing_after = None;
    for _ in 0..100 {
        now = now.after(Duration::from_millis(100));
        second.turn(now);
    }
    assert_eq!(second.have().backends, second.datapath().maps.backends, "the controller's copy is wrong");
    let end = second.datapath_mut().snapshot().unwrap();
    (failed, end, has_failed)
}

#[test]
fn whichever_step_fails_every_endpoint_is_served_as_before_or_after_and_in_the_end_as_after() {
    let (old, _, _) = changed(0, false);
    let (_, new, _) = changed(usize::MAX, false);
    let (old, served_new) = (served(&old), served(&new));
    assert_eq!(old.keys().len(), 4);
    for restarted in [false, true] {
        let mut good = 0;
        while let (failed, end, true) = changed(good, restarted) {
            for (listen, table) in served(&failed) {
                let is_whole = [&old, &served_new].iter().any(|side| side.get(&listen) == Some(&table));
                // An endpoint of both that moves to another table may lead to that table's old backends
                // for a step, as its service does.
                let is_known = old.values().chain(served_new.values()).any(|known| *known == table);
                assert!(is_whole || is_known, "after {good} steps {listen} leads to neither");
            }
            for listen in old.keys().filter(|listen| served_new.contains_key(*listen)) {
                assert!(served(&failed).contains_key(listen), "after {good} steps {listen} is not served");
            }
            assert_eq!(served(&end), served_new, "after {good} steps and a new try");
            assert_eq!(end.backends.len(), new.backends.len(), "after {good} steps and a new try");
            assert_eq!((&end.endpoints, &end.locals), (&new.endpoints, &new.locals));
            assert_eq!(policy(&end), policy(&new), "after {good} steps and a new try");
            good += 1;
        }
        assert!(good > 25, "only {good} steps");
    }
}

#[test]
fn a_nic_that_vanishes_is_said_to_be_gone_and_is_taken_back_when_it_returns() {
    let mut now = Now::read();
    let model = model(BEFORE);
    let mut controller = controller(MemoryDatapath::new(), &Arc::new(Mutex::new(model.clone())), now);
    let with = |nics: &[(u32, &str)], bare: &[u32], hop: NextHop| {
        let Event::Surroundings(Ok(mut found)) = surroundings(&[&model]) else { panic!("surroundings") };
        found.names = nics.iter().map(|(ifindex, name)| (*ifindex, (*name).to_owned())).collect();
        // The VIPs are the host's own.
        let listens = model.services.values().flat_map(|service| &service.listen).map(|listen| *listen.ip());
        found.addresses.extend(listens.map(|vip| Address {
            address: vip,
            ifindex: 1,
            subnet: (vip, 32),
            is_marked: false,
        }));
        found.bare = bare.iter().copied().collect();
        found.hops.values_mut().for_each(|way| *way = hop.clone());
        Event::Surroundings(Ok(found))
    };
    let known = |ifindex| NextHop::Known { ifindex, mac: [2; 6] };
    let eligible = |controller: &Controller<MemoryDatapath>| {
        controller.datapath().maps.tables.values().flatten().filter(|id| **id != 0).count()
    };
    controller.absorb(with(&[(1, "lo"), (2, "eth0")], &[1], known(2)), now);
    controller.turn(now);
    assert!(controller.is_ready() && eligible(&controller) > 0);
    controller.absorb(with(&[(1, "lo")], &[1], NextHop::NoRoute), now);
    controller.turn(now);
    assert!(!controller.is_ready(), "no NIC is left");
    assert_eq!(eligible(&controller), 0, "no backend is reached");
    // It is back, and something keeps us off it.
    controller.absorb(with(&[(1, "lo"), (7, "eth0")], &[1, 7], known(7)), now);
    controller.turn(now);
    assert_eq!(controller.datapath().attached[0].ifindex, 2);
    controller.datapath_mut().returned.insert("eth0".into(), 7);
    controller.turn(now);
    assert_eq!(controller.datapath().attached[0].ifindex, 2, "not before the pause is over");
    while controller.datapath().attached[0].ifindex == 2 {
        let wake = controller.turn(now).expect("another try is due");
        now = now.after((wake - now.at).max(Duration::from_millis(1)));
    }
    controller.turn(now);
    assert!(controller.is_ready() && eligible(&controller) > 0);
}

/// What has happened, without times.
fn happened(controller: &mut Controller<MemoryDatapath>, now: Now) -> Vec<String> {
    let (send, mut following) = oneshot::channel();
    controller.absorb(Event::Follow(usize::MAX, send), now);
    let past = following.try_recv().unwrap().past;
    let state = |state: &Option<String>| state.clone().unwrap_or_default();
    past.iter()
        .map(|event| format!("{} {}>{} {}", event.kind, state(&event.from), state(&event.to), event.reason))
        .collect()
}

#[test]
fn what_stands_in_the_way_of_this_host_is_an_event_when_it_comes_and_when_it_goes() {
    let now = Now::read();
    let before = model(BEFORE);
    let mut controller = controller(MemoryDatapath::new(), &Arc::new(Mutex::new(before.clone())), now);
    controller.absorb(surroundings(&[&before]), now);
    controller.turn(now);
    let start = happened(&mut controller, now).len();
    let fault = GroundFault { what: "ip_forward is 0".into(), remedy: "sysctl".into(), fatal: true };
    let warning = GroundFault { what: "rp_filter is 1".into(), remedy: "sysctl".into(), fatal: false };
    for ground in [vec![fault.clone(), warning.clone()], vec![fault, warning.clone()], vec![warning]] {
        controller.absorb(Event::Ground(ground), now);
        controller.turn(now);
    }
    let wanted = [
        "ground >fault ip_forward is 0; `sysctl`",
        "ground >warning rp_filter is 1; `sysctl`",
        "ready ready>not ready ip_forward is 0; `sysctl`",
        "ready not ready>ready packets are balanced",
        "ground fault> ip_forward is 0; `sysctl`",
    ];
    assert_eq!(happened(&mut controller, now)[start..], wanted);
}

/// A thousand services with ten backends each.
fn thousand(weight: u32) -> Model {
    let mut yaml = "version: 1\ndefaults: {health: none}\nservices:\n".to_owned();
    for service in 0..1000 {
        let (high, low) = (service / 250, service % 250 + 1);
        writeln!(yaml, "  s{service}:\n    listen: 203.0.{high}.{low}:80\n    backends:").unwrap();
        for backend in 1..=10 {
            writeln!(yaml, "      - {{address: 10.{high}.{low}.{backend}:8080, weight: {}}}", 1 + backend % weight)
                .unwrap();
        }
    }
    model(&yaml)
}

/// `cargo test --release -p lb-userspace --test control thousand -- --nocapture` prints figures that count.
#[test]
fn a_reload_of_a_thousand_services_with_ten_backends_each() {
    let now = Now::read();
    let (one, two) = (thousand(1), thousand(3));
    let file = Arc::new(Mutex::new(one.clone()));
    let mut controller = controller(MemoryDatapath::new(), &file, now);
    controller.absorb(surroundings(&[&one]), now);
    let start = Instant::now();
    controller.turn(now);
    let first = start.elapsed();
    assert!(controller.is_ready());
    controller.datapath_mut().applied.clear();
    *file.lock().unwrap() = two;
    let start = Instant::now();
    controller.absorb(Event::FileChanged, now);
    controller.turn(now);
    let all = start.elapsed();
    assert_eq!(controller.datapath().applied.len(), 1000, "one table for each service");
    let start = Instant::now();
    controller.absorb(Event::FileChanged, now);
    controller.turn(now);
    let none = start.elapsed();
    let start = Instant::now();
    let parsed = thousand(2);
    let read = start.elapsed();
    assert_eq!(parsed.services.len(), 1000);
    println!(
        "1,000 x 10: first plan {first:?}, all weights changed {all:?}, nothing changed {none:?}; reading the file {read:?}"
    );
    if !cfg!(debug_assertions) {
        assert!(all < Duration::from_millis(200));
    }
}

#[test]
fn a_sweep_that_fails_holds_no_change_up() {
    let (before, now) = (model(BEFORE), Now::read());
    let file = Arc::new(Mutex::new(before.clone()));
    let mut controller = controller(MemoryDatapath::new(), &file, now);
    controller.absorb(surroundings(&[&before, &model(AFTER)]), now);
    controller.turn(now);
    controller.datapath_mut().failing_sweeps = true;
    let later = now.after(Duration::from_secs(11));
    let wake = controller.turn(later).unwrap();
    assert!(wake > later.at, "it is not tried again at once");
    *file.lock().unwrap() = model(AFTER);
    controller.absorb(Event::FileChanged, later);
    controller.turn(later);
    let listen = "203.0.113.10:443".parse::<std::net::SocketAddrV4>().unwrap().into();
    let names = |controller: &Controller<MemoryDatapath>| {
        let have = controller.have();
        have.services.get(&listen).and_then(|service| have.names.get(&service.id)).cloned()
    };
    assert_eq!(names(&controller).as_deref(), Some("api"));
}
