//! What HTTP says, and what becomes of a start where its port is taken.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use serde_json::Value;
use testkit::{Host, Topology};

use crate::{
    file::{WEB, web},
    ground::expect_untouched,
    stage::{SOON, Stage, launch, serve, until},
};

/// Where it is served when nobody says so.
const DEFAULT: &str = "127.0.0.1:9191";

/// The status and the body of a page; `None` where nobody listens.
pub(crate) fn page(gateway: &Host, address: &str, path: &str) -> Option<(u16, String)> {
    let (address, request): (SocketAddr, _) = (address.parse().unwrap(), format!("GET {path} HTTP/1.0\r\n\r\n"));
    let answer = gateway.call(move || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Some(answer)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Some((head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned()))
}

/// The value of a series of `/metrics`.
pub(crate) fn metric<T: std::str::FromStr>(text: &str, series: &str) -> T {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{series} is not in\n{text}"))
}

/// A listener of somebody else on the gateway.
fn occupy(gateway: &Host) -> TcpListener {
    gateway.call(|| TcpListener::bind(DEFAULT).unwrap())
}

#[test]
fn pages_say_what_the_commands_say() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    stage.until_state("backend-1", "up");
    stage.until_state("backend-2", "up");
    stage.ask_some(WEB, 20).expect_no_failure();
    let get = |path: &str| page(stage.gateway(), DEFAULT, path).unwrap();
    until("no flow is left", || get("/metrics").1.contains("\ntidegate_flows_live 0\n"));
    assert_eq!([get("/healthz"), get("/readyz")], [(200, "ok\n".to_owned()), (200, "ready\n".to_owned())]);
    let document = |path: &str| serde_json::from_str::<Value>(&get(path).1).unwrap();
    for (path, command) in [("/v1/services", &["services"][..]), ("/v1/backends?service=web", &["backends", "web"])] {
        assert_eq!(document(path), stage.tidegate.ask(command).unwrap(), "{path}");
    }
    let (page, command) = (document("/v1/status"), stage.tidegate.ask(&["status"]).unwrap());
    assert_eq!((&page["pid"], &page["http"]), (&command["pid"], &DEFAULT.into()));
    let events = stage.tidegate.command(&["events", "--json"]).unwrap().stdout;
    assert_eq!(get("/v1/events").1, events);
    assert!(events.lines().any(|line| line.contains("\"kind\":\"ready\"")), "{events}");
    assert_eq!(get("/v1/backends?service=wep").0, 404);

    let (text, answer) = (get("/metrics").1, stage.tidegate.ask(&["backends"]).unwrap());
    for (name, line) in ["backend-1", "backend-2"].iter().zip(answer["services"][0]["backends"].as_array().unwrap()) {
        let of = |metric: &str, more: &str| format!("tidegate_{metric}{{service=\"web\",backend=\"{name}\"{more}}}");
        assert_eq!(metric::<u64>(&text, &of("backend_up", "")), 1);
        let sent: u64 = metric(&text, &of("backend_packets_total", ",direction=\"to_backend\""));
        assert_eq!(line["to_backend"]["packets"], sent);
        assert!(sent > 0 && metric::<u64>(&text, &of("probe_duration_seconds_count", "")) > 0, "{text}");
    }
    assert!(metric::<u64>(&text, "tidegate_packets_total{reason=\"to_backend\"}") > 0);
}

#[test]
fn a_host_that_does_not_forward_is_healthy_and_not_ready() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.host.sysctl("net/ipv4/ip_forward", "0").unwrap();
    let _tidegate = launch(&topology.gateway, &web(&[0]).file()).spawn().unwrap();
    let get = |path: &str| page(&topology.gateway.host, DEFAULT, path);
    until("it answers", || get("/healthz").is_some_and(|(status, _)| status == 200));
    let (status, why) = get("/readyz").unwrap();
    assert_eq!(status, 503);
    assert!(why.contains("sysctl -w net.ipv4.ip_forward=1"), "{why}");
    topology.gateway.host.sysctl("net/ipv4/ip_forward", "1").unwrap();
    until("it is ready", || get("/readyz").unwrap().0 == 200);
}

#[test]
fn a_default_port_that_is_taken_is_a_warning_and_is_had_when_it_is_free() {
    let topology = Topology::two_arms(1).unwrap();
    let other = occupy(&topology.gateway.host);
    let stage = Stage::on(topology, &web(&[0]).file());
    let wanted = "cannot serve HTTP at 127.0.0.1:9191: somebody else listens there";
    stage.tidegate.says(wanted, 0, SOON).unwrap();
    stage.until_status("it is a warning", |status| status["warnings"].to_string().contains(wanted));
    stage.ask_some(WEB, 20).expect_no_failure();
    drop(other);
    stage.until_status("it is served", |status| status["http"] == DEFAULT && status["warnings"][0].is_null());
    assert_eq!(page(stage.gateway(), DEFAULT, "/readyz").unwrap().0, 200);
}

#[test]
fn a_port_that_somebody_named_and_that_is_taken_is_refused_before_anything_is_attached() {
    let topology = Topology::two_arms(1).unwrap();
    let _other = occupy(&topology.gateway.host);
    let start = launch(&topology.gateway, &web(&[0]).file()).argument("--http").argument(DEFAULT);
    let refused = start.refused().unwrap();
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("somebody else listens there (`ss -ltnp sport = :9191` shows who)"), "{refused:?}");
    expect_untouched(&topology);
}

#[test]
fn http_is_where_the_flag_says_or_nowhere() {
    let topology = Topology::two_arms(1).unwrap();
    let servers = serve(&topology);
    for (flag, is_served) in [("none", false), ("127.0.0.1:0", true)] {
        let start = launch(&topology.gateway, &web(&[0]).file()).argument("--http").argument(flag);
        let tidegate = start.start().unwrap();
        assert_eq!(page(&topology.gateway.host, DEFAULT, "/readyz"), None);
        let mut found = Value::Null;
        until("status says where", || {
            found = tidegate.ask(&["status"]).unwrap()["http"].clone();
            found.is_string() == is_served
        });
        if let Some(address) = found.as_str() {
            assert_eq!(page(&topology.gateway.host, address, "/readyz").unwrap().0, 200);
        }
    }
    drop(servers);
}
