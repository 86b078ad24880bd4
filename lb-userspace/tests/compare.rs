//! What `diff` foretells, and that it comes true: over memory, against the tables that the change really makes.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::{
    collections::BTreeMap,
    net::SocketAddrV4,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use lb_userspace::{
    config,
    control::{Controller, Event, Question, Settings, Surroundings},
    datapath::memory::MemoryDatapath,
    health::{Outcome, prober::Probed},
    model::Model,
    net::NextHop,
    observe::documents::{Change, Diff},
    plan::endpoint,
    time::Now,
};
use tokio::sync::oneshot;

fn model(yaml: &str) -> Model {
    config::parse(yaml, "test.yaml").unwrap_or_else(|faults| panic!("{faults}")).0
}

/// A controller that serves this file, and the file.
struct Stage {
    controller: Controller<MemoryDatapath>,
    file: Arc<Mutex<Model>>,
    now: Now,
}

impl Stage {
    fn new(yaml: &str) -> Self {
        let (model, now) = (model(yaml), Now::read());
        let file = Arc::new(Mutex::new(model.clone()));
        let settings = Settings {
            file: "test.yaml".into(),
            node: model.node.clone(),
            interfaces_by_flag: false,
            xdp_by_flag: false,
            socket_by_flag: true,
            socket: None,
            http_by_flag: true,
            http: None,
        };
        let loaded = Arc::clone(&file);
        let load = Box::new(move || Ok(loaded.lock().unwrap().clone()));
        let controller = Controller::new(MemoryDatapath::new(), settings, model, load, now).ok().unwrap();
        let mut stage = Self { controller, file, now };
        let known = NextHop::Known { ifindex: 2, mac: [2; 6] };
        let hops = (0..100).map(|last| ([10, 0, 1, last].into(), known.clone())).collect();
        stage.controller.absorb(Event::Surroundings(Ok(Surroundings { hops, ..Surroundings::default() })), now);
        stage.controller.turn(now);
        stage
    }

    fn probed(&mut self, address: &str, outcome: Outcome) {
        let key = ("web".into(), address.parse().unwrap());
        let probed = Probed { key, outcome, sent: Instant::now(), took: Duration::ZERO };
        self.controller.absorb(Event::Probed(probed), self.now);
        self.controller.turn(self.now);
    }

    fn diff(&mut self, yaml: &str) -> Diff {
        let (answer, mut answered) = oneshot::channel();
        self.controller.absorb(Event::Ask(Question::Diff(Box::new(model(yaml))), answer), self.now);
        serde_json::from_value(answered.try_recv().unwrap().unwrap()).unwrap()
    }

    fn apply(&mut self, yaml: &str) {
        *self.file.lock().unwrap() = model(yaml);
        self.controller.absorb(Event::FileChanged, self.now);
        self.controller.turn(self.now);
    }

    /// Who stands in the slots of `web`.
    fn table(&self) -> Vec<Option<SocketAddrV4>> {
        let maps = &self.controller.datapath().maps;
        let id = maps.names.iter().find(|(_, name)| *name == "web").unwrap().0;
        let service = maps.services.values().find(|service| service.id == *id).unwrap();
        let address = |id: &u16| maps.backends.get(id).map(|backend| endpoint(backend).into());
        maps.tables[&(service.slots, service.table)].iter().map(address).collect()
    }
}

const BEFORE: &str = "
version: 1
node: {interfaces: [eth0]}
services:
  gone: {listen: 203.0.113.12:80, health: none, backends: [10.0.1.21:80]}
  web:
    listen: 203.0.113.10:80
    backends: [10.0.1.11:80, 10.0.1.12:80, {address: 10.0.1.13:80, name: c}, {address: 10.0.1.14:80, name: d}]
";
const AFTER: &str = "
version: 1
node: {interfaces: [eth0], xdp: native}
log: {level: debug, connections: 1/100}
admin: {http: none}
services:
  web:
    listen: [203.0.113.10:80, 203.0.113.10:81]
    health: none
    drain: {for: 1m, then: reset}
    allow: [192.0.2.0/24, 198.51.100.0/24]
    limits: {rate: 20/s}
    measure: handshake
    timeouts: {fin: 90s}
    backends: [{address: 10.0.1.12:80, weight: 3}, {address: 10.0.1.13:80, name: c}, {address: 10.0.1.14:80, name: d}, 10.0.1.15:80]
  new: {listen: 203.0.113.13:80, health: none, backends: [10.0.1.22:80]}
";

/// Keys as `key: from > to`.
fn lines(keys: &[lb_userspace::observe::documents::KeyDiff]) -> Vec<String> {
    let state = |state: &Option<String>| state.clone().unwrap_or_default();
    keys.iter().map(|diff| format!("{}: {} > {}", diff.key, state(&diff.from), state(&diff.to))).collect()
}

#[test]
fn every_kind_of_change_is_told() {
    let mut stage = Stage::new(BEFORE);
    for last in 11..=14 {
        stage.probed(&format!("10.0.1.{last}:80"), Outcome::Answered);
    }
    let ids: BTreeMap<SocketAddrV4, u16> =
        stage.controller.have().backends.iter().map(|(id, backend)| (endpoint(backend).into(), *id)).collect();
    let flows = [("10.0.1.11:80", 5), ("10.0.1.12:80", 7), ("10.0.1.21:80", 2)];
    stage.controller.datapath_mut().flows.by_backend =
        flows.iter().map(|(address, flows)| (ids[&address.parse().unwrap()], *flows)).collect();
    // A sweep of before is still news for half a second.
    stage.now = stage.now.after(Duration::from_secs(1));
    let diff = stage.diff(AFTER);
    assert!(diff.changed);
    assert_eq!(
        lines(&diff.keys),
        [
            "admin.http: the default > none",
            "log.connections: off > 1/100",
            "log.level: the default > debug",
            "node.xdp: auto > native"
        ]
    );
    assert!(diff.needs_restart[0].starts_with("node.xdp: to change auto to native, restart"), "{diff:?}");
    let services: Vec<_> = diff.services.iter().map(|service| (service.name.as_str(), service.change)).collect();
    assert_eq!(services, [("gone", Change::Removed), ("new", Change::Added), ("web", Change::Changed)]);
    assert_eq!((diff.services[0].draining, diff.services[0].flows), (2, 2));
    let web = &diff.services[2];
    assert_eq!((web.draining, web.flows, web.drain.as_str()), (5, 12, "for 1m at most, then they are reset"));
    assert_eq!(
        lines(&web.keys),
        [
            "allow: none > [192.0.2.0/24, 198.51.100.0/24]",
            "drain.for: 5m > 1m",
            "drain.then: keep > reset",
            "health: tcp > none",
            "health.fall: 3 > ",
            "health.interval: 2s > ",
            "health.rise: 2 > ",
            "health.tcp.port: the backend's > ",
            "health.timeout: 1s > ",
            "limits.rate: none > 20/s",
            "listen: [203.0.113.10:80] > [203.0.113.10:80, 203.0.113.10:81]",
            "measure: first-byte > handshake",
            "timeouts.fin: 30s > 1m30s",
        ]
    );
    let backends: Vec<_> =
        web.backends.iter().map(|backend| (backend.name.as_str(), backend.change, backend.flows)).collect();
    assert_eq!(
        backends,
        [
            ("10.0.1.11:80", Change::Removed, 5),
            ("10.0.1.12:80", Change::Changed, 7),
            ("10.0.1.15:80", Change::Added, 0)
        ]
    );
    assert_eq!(lines(&web.backends[1].keys), ["weight: 1 > 3"]);
    // And it comes true.
    let before = stage.table();
    stage.apply(AFTER);
    let moved = before.iter().zip(stage.table()).filter(|(before, after)| *before != after).count();
    assert_eq!((web.moved as usize, web.slots), (moved, 4093));
    assert!(!stage.diff(AFTER).changed, "what is in force changes nothing");
}

#[test]
fn a_backend_that_is_down_moves_nobody_by_leaving_and_one_that_is_new_is_taken_for_up() {
    let mut stage = Stage::new(BEFORE);
    for last in 11..=13 {
        stage.probed(&format!("10.0.1.{last}:80"), Outcome::Answered);
    }
    stage.probed("10.0.1.14:80", Outcome::Refused);
    let without = BEFORE.replace(", {address: 10.0.1.14:80, name: d}", "");
    assert_eq!(stage.diff(&without).services[0].moved, 0);
    let with = BEFORE.replace("10.0.1.12:80,", "10.0.1.12:80, 10.0.1.16:80,");
    let moved = stage.diff(&with).services[0].moved;
    assert!((4093 / 4..4093 / 4 + 200).contains(&moved), "{moved}");
}

#[test]
fn a_service_that_fails_open_keeps_all_its_backends_while_all_are_down() {
    let mut stage = Stage::new(BEFORE);
    for last in 11..=14 {
        stage.probed(&format!("10.0.1.{last}:80"), Outcome::Refused);
    }
    let open = BEFORE.replace("    listen: 203.0.113.10:80\n", "    listen: 203.0.113.10:80\n    all_down: any\n");
    let foretold = stage.diff(&open).services[0].moved;
    let before = stage.table();
    stage.apply(&open);
    let moved = before.iter().zip(stage.table()).filter(|(before, after)| *before != after).count();
    assert_eq!((foretold as usize, moved), (moved, 4093));
}

#[test]
fn another_number_of_slots_moves_all_but_those_who_meet_their_backend_again() {
    let mut stage = Stage::new(BEFORE);
    for last in 11..=14 {
        stage.probed(&format!("10.0.1.{last}:80"), Outcome::Answered);
    }
    let more = BEFORE.replace("    listen: 203.0.113.10:80\n", "    listen: 203.0.113.10:80\n    slots: 65537\n");
    let web = &stage.diff(&more).services[0];
    assert_eq!((lines(&web.keys), web.slots), (vec!["slots: 4093 > 65537".to_owned()], 65537));
    let share = f64::from(web.moved) / 65537.0;
    assert!((0.74..0.76).contains(&share), "{share}");
}

#[test]
fn the_same_in_another_order_is_no_change() {
    let mut stage = Stage::new(BEFORE);
    let same = BEFORE.replace("10.0.1.11:80, 10.0.1.12:80,", "10.0.1.12:80, 10.0.1.11:80,");
    assert_ne!(model(&same), model(BEFORE));
    assert!(!stage.diff(&same).changed);
}
