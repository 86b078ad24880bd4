//! What programs read: the promised keys of `--json`, and numbers that agree with the traffic.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use testkit::Wire;

use crate::{
    file::{ALT, WEB, alt, file, web},
    frames::Forger,
    stage::{SOON, Stage, backend},
};

/// Panics unless `value` has the shape of `sample`: its keys, and values of the same types. `null` stands for anything.
#[track_caller]
fn expect_shape(value: &Value, sample: &Value, at: &str) {
    match (value, sample) {
        (_, Value::Null) => {}
        (Value::Object(value), Value::Object(sample)) => {
            for (key, sample) in sample {
                let found = value.get(key).unwrap_or_else(|| panic!("{at}.{key} is not there"));
                expect_shape(found, sample, &format!("{at}.{key}"));
            }
        }
        (Value::Array(values), Value::Array(sample)) => {
            assert!(!values.is_empty() || sample.is_empty(), "{at} is empty");
            for (value, sample) in values.iter().zip(sample.iter().cycle()) {
                expect_shape(value, sample, &format!("{at}[]"));
            }
        }
        (Value::Number(number), Value::Number(_)) => assert!(number.is_u64(), "{at} is {number}"),
        (Value::String(_), Value::String(_)) | (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{at} is {value}, not like {sample}"),
    }
}

#[test]
fn every_promised_key_is_there_with_its_type() {
    let stage = Stage::two_arms(2, &file(&[web(&[0, 1]), alt(&[1])]));
    stage.until_state("backend-1", "up");
    stage.until_state("backend-2", "up");
    let status = stage.tidegate.ask(&["status"]).unwrap();
    let sample = json!({
        "version": "", "ready": true, "config": {"file": "", "loaded_at": "", "fault": null},
        "interfaces": [{"name": "", "mode": ""}], "flows": {"live": 0, "half_open": 0, "max": 0},
        "services": 0, "backends": {"up": 0, "down": 0}
    });
    expect_shape(&status, &sample, "status");
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["config"]["file"], "/run/tidegate.yaml");
    assert!(status["config"].as_object().unwrap().contains_key("fault") && status["config"]["fault"].is_null());
    assert_eq!(status["interfaces"], json!([{"name": "eth0", "mode": "native"}, {"name": "eth1", "mode": "native"}]));
    assert_eq!((&status["services"], &status["backends"]["up"]), (&json!(2), &json!(3)));
    assert_eq!(status["flows"]["max"], 20_000);

    let line = json!({
        "name": "", "address": "", "state": "", "reason": "", "since": "", "weight": 0, "flows": 0, "packets": 0, "bytes": 0
    });
    let sample = json!({"services": [{"name": "", "mode": "", "algorithm": "", "backends": [line]}]});
    let all = stage.tidegate.ask(&["backends"]).unwrap();
    expect_shape(&all, &sample, "backends");
    let names = |answer: &Value| {
        let services = answer["services"].as_array().unwrap().iter();
        services.map(|service| service["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&all), ["alt", "web"]);
    let only = stage.tidegate.ask(&["backends", "web"]).unwrap();
    expect_shape(&only, &sample, "backends web");
    assert_eq!(names(&only), ["web"]);
    let web = &only["services"][0];
    assert_eq!((&web["mode"], &web["algorithm"]), (&json!("nat"), &json!("source-hash")));
    let first = &web["backends"][0];
    assert_eq!((&first["name"], &first["address"]), (&json!("backend-1"), &json!("10.0.1.11:8080")));
    assert_eq!((&first["state"], &first["weight"]), (&json!("up"), &json!(1)));

    let services = stage.tidegate.ask(&["services"]).unwrap();
    let sample = json!({"services": [{
        "name": "", "listen": [""], "protocol": "", "mode": "", "algorithm": "", "backends": {"up": 0, "down": 0},
        "flows": 0, "packets": 0, "bytes": 0
    }]});
    expect_shape(&services, &sample, "services");
    assert_eq!(services["services"][1]["listen"], json!([WEB.to_string()]));
    expect_shape(&stage.tidegate.ask(&["reload"]).unwrap(), &json!({"fault": null}), "reload");
}

#[test]
fn people_get_tables() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    stage.until_state("backend-2", "up");
    for (command, wanted) in [
        ("status", ["ready", "/run/tidegate.yaml", "eth0 (native), eth1 (native)"]),
        ("services", ["SERVICE", "203.0.113.10:80", "2/2"]),
        ("backends", ["STATE", "backend-1", "10.0.1.12:8080"]),
    ] {
        let said = stage.tidegate.command(&[command]).unwrap();
        assert_eq!(said.code(), Some(0), "{said:?}");
        assert!(wanted.iter().all(|word| said.stdout.contains(word)), "{}", said.stdout);
    }
}

#[test]
fn packets_and_bytes_of_a_backend_are_those_on_the_wire() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    // On the switch: what the backend receives, and what it sends.
    let topology = &stage.topology;
    let received = Wire::open(&topology.backends[0], "eth0").unwrap();
    let sent = Wire::open(&topology.switch, "backend-1").unwrap();
    let clients = [192, 0, 2];
    let is_mine = move |frame: &[u8], at: usize| frame[12..14] == [8, 0] && frame[at..at + 3] == clients;
    for index in 0..5 {
        let connection = stage.connect(index, WEB).unwrap();
        for _ in 0..10 {
            connection.ask().unwrap();
        }
        connection.download(50_000).unwrap();
    }
    // Both sides have said their last FIN when no flow is left.
    let answer = stage.tidegate.wait_until("no flow is left", SOON, |answer| flows(answer, "backend-1") == 0).unwrap();
    let line = backend(&answer, "backend-1").unwrap();
    let octets = |frames: &[Vec<u8>]| {
        let lengths = frames.iter().map(|frame| u64::from(u16::from_be_bytes([frame[16], frame[17]])));
        json!({"packets": frames.len(), "bytes": lengths.sum::<u64>()})
    };
    let moment = std::time::Duration::from_millis(200);
    let to = octets(&received.collect(moment, |frame| is_mine(frame, 26)).unwrap());
    let from = octets(&sent.collect(moment, |frame| is_mine(frame, 30)).unwrap());
    assert_eq!((&line["to_backend"], &line["from_backend"]), (&to, &from), "probes are not counted, all else is");
    let sum = |key: &str| to[key].as_u64().unwrap() + from[key].as_u64().unwrap();
    assert_eq!((line["packets"].as_u64(), line["bytes"].as_u64()), (Some(sum("packets")), Some(sum("bytes"))));
    let services = stage.tidegate.ask(&["services"]).unwrap();
    assert_eq!(services["services"][0]["packets"], line["packets"]);
}

#[test]
fn flows_are_the_live_connections_of_each_backend() {
    let stage = Stage::two_arms(2, &file(&[web(&[0, 1]), alt(&[1])]));
    let mut connections: Vec<_> = (0..30).map(|index| stage.connect(index, WEB).unwrap()).collect();
    connections.extend((0..5).map(|index| stage.connect(index, ALT).unwrap()));
    let mut share = [0, 0];
    for connection in &connections[..30] {
        share[usize::from(connection.ask().unwrap().backend == "backend-2")] += 1;
    }
    let of = |answer: &Value, service: usize, backend: usize| {
        answer["services"][service]["backends"][backend]["flows"].as_u64().unwrap()
    };
    let wanted = |answer: &Value| of(answer, 0, 0) == 5 && [of(answer, 1, 0), of(answer, 1, 1)] == share;
    stage.tidegate.wait_until(&format!("5 and {share:?} flows"), SOON, wanted).unwrap();
    stage.until_status("35 flows", |status| status["flows"]["live"] == 35);
    connections.truncate(10);
    stage.until_status("10 flows", |status| status["flows"]["live"] == 10 && status["flows"]["half_open"] == 0);
    // A client that says nothing but SYN.
    let forger = Forger::new(&stage.topology);
    stage.client().sysctl("net/ipv4/ip_forward", "0").unwrap();
    forger.send(&lb_ebpf::testing::tcp("192.0.2.9:1234", &WEB.to_string()).syn());
    stage.until_status("one is half open", |status| status["flows"]["half_open"] == 1);
    drop(connections);
}

#[test]
fn counters_go_on_after_a_restart_of_the_controller() {
    let mut stage = Stage::two_arms(1, &web(&[0]).file());
    stage.ask_some(WEB, 20).expect_no_failure();
    let packets = |stage: &Stage| {
        let answer = stage.tidegate.ask(&["backends"]).unwrap();
        backend(&answer, "backend-1").unwrap()["packets"].as_u64().unwrap()
    };
    let before = packets(&stage);
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    stage.ask_some(WEB, 20).expect_no_failure();
    stage.tidegate = again.start().unwrap();
    let after = packets(&stage);
    assert!(before >= 20 * 8 && after >= before + 20 * 8, "{before} packets before the restart, {after} after it");
}

#[test]
fn the_socket_is_for_its_owner_and_group() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    let socket = stage.topology.gateway.room.outside("admin.sock");
    assert_eq!(std::fs::metadata(socket).unwrap().permissions().mode() & 0o777, 0o660);
}

fn flows(answer: &Value, name: &str) -> u64 {
    backend(answer, name).map_or(0, |backend| backend["flows"].as_u64().unwrap())
}
