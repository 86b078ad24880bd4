//! What operators are told of connections: `flows`, `explain`, and lines in the log, over memory.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::{net::SocketAddrV4, time::Duration};

use lb_common::{Endpoint, Service};
use lb_userspace::{
    config,
    control::{Answer, Controller, Event, FlowsAsked, Question, Settings, Surroundings},
    datapath::{
        Prefix, Step,
        entry::{Ending, Entry, How, State},
        memory::MemoryDatapath,
    },
    net::{Address, NextHop},
    time::Now,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

const FILE: &str = "
version: 1
node: {announce_vips: false}
defaults: {health: none}
services:
  api: {listen: 203.0.113.11:80, backends: [10.0.1.13:80]}
  web:
    listen: 203.0.113.10:80
    backends:
      - {address: 10.0.1.11:8080, name: one}
      - {address: 10.0.1.12:8080, name: two, weight: 0}
      - {address: 10.0.9.9:8080, name: astray}
";
const WEB: &str = "203.0.113.10:80";

struct Seen {
    controller: Controller<MemoryDatapath>,
    now: Now,
}

impl Seen {
    fn new(file: &str) -> Self {
        let model = config::parse(file, "test.yaml").unwrap_or_else(|faults| panic!("{faults}")).0;
        let now = Now::read();
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
        let load = Box::new(|| Err("not read again".to_owned()));
        let mut controller = Controller::new(MemoryDatapath::new(), settings, model, load, now).ok().unwrap();
        let mut found =
            Surroundings { names: [(2, "eth0".to_owned()), (3, "eth9".to_owned())].into(), ..Surroundings::default() };
        for last in [11, 12, 13] {
            found.hops.insert([10, 0, 1, last].into(), NextHop::Known { ifindex: 2, mac: [2; 6] });
        }
        found.hops.insert([10, 0, 9, 9].into(), NextHop::Known { ifindex: 3, mac: [3; 6] });
        controller.absorb(Event::Surroundings(Ok(found)), now);
        controller.turn(now);
        assert!(controller.is_ready());
        Self { controller, now }
    }

    fn ask(&mut self, question: Question) -> Answer {
        let (send, mut answer) = oneshot::channel();
        self.controller.absorb(Event::Ask(question, send), self.now);
        answer.try_recv().unwrap()
    }

    fn flows(&mut self, asked: FlowsAsked) -> Answer {
        self.ask(Question::Flows(asked))
    }

    fn explain(&mut self, client: &str, vip: &str) -> Answer {
        self.ask(Question::Explain(client.parse().unwrap(), vip.parse().unwrap()))
    }

    /// A connection through `vip` to a backend of the file.
    fn entry(&self, client: &str, vip: &str, backend: &str, state: State) -> Entry {
        let backend: SocketAddrV4 = backend.parse().unwrap();
        let maps = &self.controller.datapath().maps;
        let named =
            |known: &lb_common::Backend| SocketAddrV4::from(Endpoint::tcp(known.address, known.port)) == backend;
        let id = maps.backends.iter().find(|(_, known)| named(known)).map_or(0, |(id, _)| *id);
        let (client, vip) = (client.parse().unwrap(), vip.parse().unwrap());
        let (age, idle) = (Duration::from_millis(12_900), Duration::from_secs(3));
        Entry { client, vip, backend, id, state, age, idle, packets: [3, 2], bytes: [300, 200] }
    }

    fn hold(&mut self, entries: Vec<Entry>) {
        self.controller.datapath_mut().entries = entries;
    }
}

const ALL: FlowsAsked = FlowsAsked { service: None, client: None, all: false, limit: 1000 };

fn clients(answer: &Value) -> Vec<&str> {
    answer["flows"].as_array().unwrap().iter().map(|flow| flow["client"].as_str().unwrap()).collect()
}

#[test]
fn flows_are_named_as_the_file_names_them() {
    let mut seen = Seen::new(FILE);
    let entries = vec![
        seen.entry("192.0.2.9:1", WEB, "10.0.1.11:8080", State::Established),
        seen.entry("192.0.2.7:9", "203.0.113.11:80", "10.0.1.13:80", State::Handshake),
        seen.entry("192.0.2.7:8", WEB, "10.0.1.11:8080", State::Closing),
        seen.entry("192.0.2.8:7", "10.0.1.14:80", "10.0.1.14:80", State::Direct),
    ];
    seen.hold(entries);
    let answer = seen.flows(ALL).unwrap();
    let to = |packets: u64, bytes: u64| json!({"packets": packets, "bytes": bytes});
    assert_eq!(
        answer["flows"][1],
        json!({
            "client": "192.0.2.9:1", "vip": WEB, "service": "web", "backend": "one", "protocol": "tcp",
            "backend_address": "10.0.1.11:8080", "state": "established", "age_s": 12, "idle_s": 3, "packets": 5,
            "bytes": 500, "to_backend": to(3, 300), "from_backend": to(2, 200)
        })
    );
    assert_eq!((clients(&answer), &answer["truncated"]), (vec!["192.0.2.7:9", "192.0.2.9:1"], &json!(false)));
    let answer = seen.flows(FlowsAsked { all: true, limit: 3, ..ALL }).unwrap();
    assert_eq!(clients(&answer), ["192.0.2.7:8", "192.0.2.7:9", "192.0.2.8:7"]);
    assert_eq!((&answer["flows"][2]["service"], &answer["truncated"]), (&Value::Null, &json!(true)));
    let answer = seen.flows(FlowsAsked { service: Some("web".into()), ..ALL }).unwrap();
    assert_eq!(clients(&answer), ["192.0.2.9:1"]);
    let answer = seen.flows(FlowsAsked { client: Some([192, 0, 2, 7].into()), ..ALL }).unwrap();
    assert_eq!(clients(&answer), ["192.0.2.7:9"]);
    let error = seen.flows(FlowsAsked { service: Some("wep".into()), ..ALL }).unwrap_err();
    assert_eq!(error, "there is no service wep; there is: api, web");
}

#[test]
fn explain_speaks_from_the_flow_where_there_is_one_and_else_from_the_table() {
    let mut seen = Seen::new(FILE);
    let answer = seen.explain("192.0.2.7", WEB).unwrap();
    assert_eq!((&answer["service"], &answer["algorithm"]), (&json!("web"), &json!("source-hash")));
    assert_eq!((&answer["backend"], &answer["from"]), (&json!("one"), &json!("table")));
    assert!(answer["why"].as_str().unwrap().contains(" of 4093, by the hash of its address"), "{answer:#}");
    let candidates: Vec<(&str, bool, &str)> = answer["candidates"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            (line["name"].as_str().unwrap(), line["eligible"].as_bool().unwrap(), line["why"].as_str().unwrap())
        })
        .collect();
    let [(one, true, why), (two, false, weight), (astray, false, way)] = candidates[..] else { panic!("{answer:#}") };
    assert_eq!((one, two, astray), ("one", "two", "astray"));
    assert!(why.starts_with("4093 of 4093 slots; up since "), "{why}");
    assert!(weight.starts_with("its weight is 0: no new connections; up since "), "{weight}");
    assert!(way.starts_with("down since ") && way.contains("leaves by eth9, which is not attached"), "{way}");

    // A flow goes on where it is, whatever the table says now.
    let entry = seen.entry("192.0.2.7:50123", WEB, "10.0.1.12:8080", State::HalfClosed);
    seen.hold(vec![entry.clone()]);
    let answer = seen.explain("192.0.2.7:50123", WEB).unwrap();
    assert_eq!((&answer["backend"], &answer["from"]), (&json!("two"), &json!("flow")));
    assert_eq!(answer["why"], "it has a live flow, for 12s, idle for 3s");
    assert_eq!(seen.explain("192.0.2.7:50124", WEB).unwrap()["from"], "table");
    seen.hold(vec![Entry { state: State::Handshake, ..entry.clone() }]);
    assert_eq!(seen.explain("192.0.2.7:50123", WEB).unwrap()["why"], "its handshake is under way, for 12s");
    seen.hold(vec![Entry { state: State::Reset, ..entry }]);
    let answer = seen.explain("192.0.2.7:50123", WEB).unwrap();
    assert_eq!((&answer["backend"], &answer["from"]), (&json!("one"), &json!("table")));
}

#[test]
fn explain_says_who_is_kept_away() {
    let mut seen =
        Seen::new(&FILE.replace("{listen: 203.0.113.11:80", "{deny: [192.0.2.0/24], listen: 203.0.113.11:80"));
    let answer = seen.explain("192.0.2.7", "203.0.113.11:80").unwrap();
    assert!(
        answer["backend"].is_null() && answer["why"].as_str().unwrap().contains("keeps 192.0.2.7 away"),
        "{answer:#}"
    );
    assert_eq!(seen.explain("192.0.3.7", "203.0.113.11:80").unwrap()["backend"], "10.0.1.13:80");
    // It is the maps that are asked, not the file.
    let web = seen.controller.have().services[&WEB.parse::<SocketAddrV4>().unwrap().into()];
    let datapath = seen.controller.datapath_mut();
    let prefix = Prefix { service: web.id, clients: "192.0.3.7/32".parse().unwrap() };
    datapath.maps.access.insert(prefix, lb_common::Origin::DENIED);
    datapath.maps.note(&Step::PublishService(
        WEB.parse::<SocketAddrV4>().unwrap().into(),
        Service { flags: Service::FILTERED, ..web },
    ));
    assert!(seen.explain("192.0.3.7", WEB).unwrap()["backend"].is_null());
}

#[test]
fn explain_says_what_may_keep_a_client_from_the_backend_of_its_slot() {
    let mut seen = Seen::new(&FILE.replace("203.0.113.11:80,", "203.0.113.11:80, limits: {rate: 5/m},"));
    let mut found = Surroundings { names: [(2, "eth0".to_owned())].into(), ..Surroundings::default() };
    let own =
        Address { address: [10, 0, 1, 1].into(), ifindex: 2, subnet: ([10, 0, 1, 0].into(), 24), is_marked: false };
    found.addresses.insert(own);
    found.hops.insert([10, 0, 1, 13].into(), NextHop::Known { ifindex: 2, mac: [2; 6] });
    seen.controller.absorb(Event::Surroundings(Ok(found)), seen.now);
    let mut why = |client| seen.explain(client, "203.0.113.11:80").unwrap()["why"].as_str().unwrap().to_owned();
    assert!(why("192.0.2.7").contains("hash of its address; `limits.rate` lets in 5/m"), "{}", why("192.0.2.7"));
    assert!(why("10.0.1.13").contains("that is the client itself"), "{}", why("10.0.1.13"));
    assert!(why("10.0.1.77").contains("both are in the subnet of 10.0.1.0/24"), "{}", why("10.0.1.77"));
    assert!(why("10.0.1.1").contains("an address of this gateway"), "{}", why("10.0.1.1"));
}

#[test]
fn what_cannot_be_explained_says_why() {
    let mut seen = Seen::new(FILE);
    let error = seen.explain("192.0.2.7", "203.0.113.10:81").unwrap_err();
    assert_eq!(error, "no service listens on 203.0.113.10:81; on that address there is web on 203.0.113.10:80");
    let error = seen.explain("192.0.2.7", "203.0.113.99:80").unwrap_err();
    assert!(error.starts_with("no service listens on 203.0.113.99:80: its packets pass"), "{error}");
    let error = seen.explain("192.0.2.7", "203.0.113.10:80/udp").unwrap_err();
    assert!(error.contains("UDP is not served yet"), "{error}");
}

#[test]
fn sweeps_come_each_second_while_connections_are_told_of_and_tell_of_what_is_wanted() {
    let quiet = Seen::new(FILE).controller.turn(Now::read()).unwrap();
    assert!(quiet.saturating_duration_since(Now::read().at) > Duration::from_secs(5));
    for (wanted, left) in [("off", 0), ("errors", 1), ("all", 2)] {
        let mut seen = Seen::new(&FILE.replace("defaults", &format!("log: {{connections: {wanted}}}\ndefaults")));
        let entry = seen.entry("192.0.2.9:1", WEB, "10.0.1.11:8080", State::Closing);
        let ended = [How::Finished, How::ResetByClient].map(|how| Ending { entry: entry.clone(), how });
        let datapath = seen.controller.datapath_mut();
        datapath.flows.ended = ended.to_vec();
        let mut swept = lb_userspace::datapath::Datapath::flows(datapath).unwrap();
        assert_eq!(swept.ended.len(), left, "{wanted}");
        swept.ended.clear();
        if left > 0 {
            let wake = seen.controller.turn(seen.now).unwrap();
            assert!(wake <= seen.now.at + Duration::from_secs(1), "{wanted}");
        }
    }
}
