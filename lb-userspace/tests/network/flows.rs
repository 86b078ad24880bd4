//! Connections, as operators see them one by one: `flows`, `explain`, lines in the log; and as they count by client.

use std::net::SocketAddrV4;

use lb_ebpf::testing::tcp;
use serde_json::{Value, json};
use testkit::{Connection, Topology};

use crate::{
    file::{ALT, WEB, alt, file, web},
    frames::Forger,
    stage::{SOON, Stage, until},
};

/// The file with a key more for the service `web`.
fn with(key: &str) -> String {
    web(&[0, 1]).file().replacen("    listen", &format!("    {key}\n    listen"), 1)
}

fn lines(answer: &Value) -> &[Value] {
    answer["flows"].as_array().unwrap()
}

#[test]
fn flows_and_explain_say_who_serves_whom() {
    let stage = Stage::two_arms(2, &file(&[web(&[0, 1]), alt(&[1])]));
    let connections: Vec<_> = (0..12).map(|index| stage.connect(index, WEB).unwrap()).collect();
    let other = stage.connect(0, ALT).unwrap();
    other.ask().unwrap();
    for connection in &connections {
        let served_by = connection.ask().unwrap().backend;
        let client = connection.local().to_string();
        let answer = stage.tidegate.ask(&["explain", &client, &WEB.to_string()]).unwrap();
        assert_eq!((&answer["backend"], &answer["from"]), (&json!(served_by), &json!("flow")), "{answer:#}");
        // Who comes from the same address goes to the same backend.
        let answer = stage.tidegate.ask(&["explain", &connection.local().ip().to_string(), &WEB.to_string()]).unwrap();
        assert_eq!((&answer["backend"], &answer["from"]), (&json!(served_by), &json!("table")), "{answer:#}");
        let listed = stage.tidegate.ask(&["flows", "--client", &connection.local().ip().to_string()]).unwrap();
        let line = lines(&listed).iter().find(|line| line["client"] == client.as_str()).unwrap();
        assert_eq!((&line["backend"], &line["state"]), (&json!(served_by), &json!("established")), "{line:#}");
        assert_eq!((&line["vip"], &line["protocol"], &line["service"]), (&json!(WEB), &json!("tcp"), &json!("web")));
        assert!(line["packets"].as_u64() >= Some(5) && line["bytes"].as_u64() > Some(200), "{line:#}");
    }
    let count = |arguments: &[&str]| lines(&stage.tidegate.ask(arguments).unwrap()).len();
    assert_eq!((count(&["flows"]), count(&["flows", "--service", "alt"])), (13, 1));
    let few = stage.tidegate.ask(&["flows", "--limit", "5"]).unwrap();
    assert_eq!((lines(&few).len(), &few["truncated"]), (5, &json!(true)));
    drop((connections, other));
    until("no flow is listed", || count(&["flows"]) == 0);
    let ended = stage.tidegate.ask(&["flows", "--all"]).unwrap();
    assert!(lines(&ended).iter().any(|line| line["state"] == "closing"), "{ended:#}");
}

#[test]
fn what_nobody_serves_is_a_clear_answer() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    for (arguments, text) in [
        (
            ["explain", "192.0.2.7", "203.0.113.10:99"],
            "no service listens on 203.0.113.10:99; on that address there is web",
        ),
        (["explain", "192.0.2.7", "203.0.113.10:80/udp"], "UDP is not served yet"),
        (["flows", "--service", "wep"], "there is no service wep; there is: web"),
    ] {
        let said = stage.tidegate.command(&arguments).unwrap();
        assert!(said.code() == Some(1) && said.stderr.contains(text), "{said:?}");
    }
    let said = stage.tidegate.command(&["explain", "web", "203.0.113.10:80"]).unwrap();
    assert!(said.code() == Some(2) && said.stderr.contains("write it like 192.0.2.7"), "{said:?}");
    let said = stage.tidegate.command(&["explain", "192.0.2.7", "203.0.113.10:80"]).unwrap();
    assert!(said.stdout.contains("would get backend-1") && said.stdout.contains("4093 of 4093 slots"), "{said:?}");
}

#[test]
fn connections_that_end_are_in_the_log() {
    // The backend repeats its SYN-ACK after 1, 3 and 7 s: in between sweeps find the handshake.
    let text = with("timeouts: {syn: 4s, established: 1h, fin: 2s}").replacen(
        "services:",
        "log: {connections: all}\nservices:",
        1,
    );
    let stage = Stage::two_arms(2, &text);
    let connection = stage.connect(3, WEB).unwrap();
    let served_by = connection.ask().unwrap().backend;
    connection.download(50_000).unwrap();
    let client = connection.local();
    drop(connection);
    let line = stage.tidegate.says(format!("client={client}"), 0, SOON).unwrap();
    for part in ["INFO", "connection how=finished service=web", &format!("vip={WEB}"), &format!("name={served_by}")] {
        assert!(line.contains(part), "{line}");
    }
    let value = |key: &str| {
        let value = line.split_once(&format!("{key}=")).unwrap().1.split(' ').next().unwrap();
        value.parse::<u64>().unwrap()
    };
    assert!(value("from_backend_bytes") > 50_000 && value("to_backend_packets") > 5, "{line}");
    // A client that says nothing but SYN, whose address is nobody's.
    let forger = Forger::new(&stage.topology);
    stage.client().sysctl("net/ipv4/ip_forward", "0").unwrap();
    forger.send(&tcp("192.0.2.9:1234", &WEB.to_string()).syn());
    let line = stage.tidegate.says("client=192.0.2.9:1234", 0, SOON).unwrap();
    assert!(line.contains("WARN") && line.contains("how=unfinished"), "{line}");
    until("its handshake is over", || {
        let status = stage.tidegate.ask(&["status"]).unwrap();
        status["flows"]["half_open"] == 0 && status["flows"]["live"] == 0
    });
    let text = stage.tidegate.log().text();
    assert_eq!(text.matches(&format!("client={client}")).count(), 1, "{text}");
}

#[test]
fn connections_that_a_backend_refuses_are_errors_in_the_log() {
    let text = web(&[0]).unprobed().file().replacen("services:", "log: {connections: errors}\nservices:", 1);
    let mut stage = Stage::two_arms(1, &text);
    stage.servers[0].kill();
    until("the backend refuses", || {
        stage.connect(3, WEB).is_err_and(|refused| format!("{refused:#}").contains("refused"))
    });
    let line = stage.tidegate.says("connection how=refused service=web", 0, SOON).unwrap();
    assert!(line.contains("WARN") && line.contains(&format!("vip={WEB}")), "{line}");
    stage.until_status("no handshake is left", |status| status["flows"]["half_open"] == 0);
}

#[test]
fn a_client_has_as_many_connections_as_it_may_and_gets_new_ones_for_those_that_ended() {
    let stage = Stage::two_arms(2, &with("limits: {per_source: 3}"));
    let source = SocketAddrV4::new(Topology::sources()[5], 0);
    let open = || Connection::open(stage.client(), source, WEB);
    let mut held: Vec<_> = (0..3).map(|_| open().unwrap()).collect();
    held.iter().for_each(|connection| drop(connection.ask().unwrap()));
    assert!(open().is_err(), "a fourth one");
    let answer = stage.tidegate.ask(&["explain", &source.ip().to_string(), &WEB.to_string()]).unwrap();
    assert!(answer["backend"].is_null() && answer["why"].as_str().unwrap().contains("limits.per_source"), "{answer:#}");
    // Another client is not in its way.
    stage.connect(6, WEB).unwrap().ask().unwrap();
    held.pop();
    let mut next = None;
    until("one that ended makes room for another", || {
        next = open().ok();
        next.is_some()
    });
    assert!(open().is_err(), "and for no more than one");
}
