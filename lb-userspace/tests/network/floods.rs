//! Floods of forged segments, and what those who are connected or want to be notice of them.

use std::{net::SocketAddrV4, time::Instant};

use testkit::{Answer, Connection, Crowd, End, Flood, Forgery, Load, Segment, Topology, Wire};

use crate::{
    file::{ALT, WEB, alt, file, web},
    stage::{Stage, until},
};

/// Forged segments of each kind, at least.
const MANY: u64 = 50_000;
const FIN_ACK: u8 = Segment::FIN | Segment::ACK;
const KINDS: [(&str, u8); 4] = [("SYN", Segment::SYN), ("ACK", Segment::ACK), ("RST", Segment::RST), ("FIN", FIN_ACK)];

/// A table for more flows than any test makes.
fn roomy(file: &str) -> String {
    file.replace("20000", "200000")
}

/// A flood from the clients' side; from anybody where there are no sources.
fn flood(topology: &Topology, flags: &[u8], sources: Vec<SocketAddrV4>, target: SocketAddrV4) -> Flood {
    let [from, to] = [&topology.client, &topology.gateway.host].map(|host| host.mac("eth0").unwrap());
    Forgery { macs: (from, to), flags: flags.to_vec(), sources, target }.start(&topology.client, "eth0").unwrap()
}

/// So many connections to a service, and who serves each.
fn connect(stage: &Stage, count: usize) -> (Vec<Connection>, Vec<Answer>) {
    let lines: Vec<_> = (0..count).map(|index| stage.connect(index % 241, WEB).unwrap()).collect();
    let answers = lines.iter().map(|line| line.ask().unwrap()).collect();
    (lines, answers)
}

/// How often something was counted.
fn counted(stage: &Stage, reason: &str) -> u64 {
    stage.tidegate.ask(&["status"]).unwrap()["packets"][reason].as_u64().unwrap()
}

fn live(stage: &Stage) -> u64 {
    stage.tidegate.ask(&["status"]).unwrap()["flows"]["live"].as_u64().unwrap()
}

#[test]
fn forged_segments_from_anybody_enter_no_table_of_the_living_and_disturb_nobody() {
    let stage = Stage::on(Topology::alone(3).unwrap(), &roomy(&web(&[0, 1, 2]).file()));
    let (lines, homes) = connect(&stage, 2000);
    until("all are live", || live(&stage) == 2000);
    for (kind, flags) in KINDS {
        let (created, began) = (counted(&stage, "flow_created"), Instant::now());
        let flood = flood(&stage.topology, &[flags], Vec::new(), WEB);
        let bystanders = Load::new(Topology::sources(), WEB).start(stage.client());
        until("the flood is large, and others have asked", || flood.sent() > MANY && bystanders.requests() > 50);
        let report = bystanders.stop();
        eprintln!("{kind}: {} forged in {:?}; bystanders: {report}", flood.stop(), began.elapsed());
        report.expect_no_failure();
        let made = counted(&stage, "flow_created") - created;
        assert_eq!(made, report.samples.len() as u64, "{kind}: only who is real is taken in");
        for (line, home) in lines.iter().zip(&homes) {
            assert_eq!(&line.ask().unwrap(), home, "{kind}");
        }
        until("only the connections are live", || live(&stage) == 2000);
    }
    assert_eq!(counted(&stage, "flow_evicted"), 0);
}

#[test]
fn segments_forged_for_the_very_ports_of_connections_break_and_move_none() {
    let stage = Stage::on(Topology::alone(3).unwrap(), &roomy(&web(&[0, 1, 2]).file()));
    let (lines, homes) = connect(&stage, 500);
    let sources: Vec<_> = lines.iter().map(Connection::local).collect();
    let created = counted(&stage, "flow_created");
    for (kind, flags) in KINDS {
        let flood = flood(&stage.topology, &[flags], sources.clone(), WEB);
        until("the flood is large", || flood.sent() > MANY);
        flood.stop();
        for (line, home) in lines.iter().zip(&homes) {
            assert_eq!(&line.ask().unwrap(), home, "{kind}");
        }
    }
    let all = [Segment::RST, Segment::SYN, FIN_ACK, Segment::RST | Segment::ACK, Segment::ACK, 0];
    let flood = flood(&stage.topology, &all, sources, WEB);
    until("the flood is large", || {
        for (line, home) in lines.iter().zip(&homes) {
            assert_eq!(&line.ask().unwrap(), home, "several at once");
        }
        flood.sent() > MANY
    });
    flood.stop();
    // One RST in 7,281 lies where its client may be; who speaks after it takes it back.
    for (line, home) in lines.iter().zip(&homes) {
        assert_eq!(&line.ask().unwrap(), home, "after all");
    }
    assert_eq!(counted(&stage, "flow_created"), created);
    until("all are live", || live(&stage) == 500);
}

#[test]
fn a_hundred_thousand_connections_stay_where_they_are_while_others_knock_by_the_million() {
    let topology = Topology::alone(3).unwrap();
    let (gateway, stable) = (&topology.gateway.host, &topology.backends[2]);
    // Two backends that nobody is: the third host sees what comes for them.
    for index in [100, 101] {
        let mac = stable.mac("eth0").unwrap();
        gateway.neighbour("eth1", Topology::backend_address(index), mac).unwrap();
    }
    let stage = Stage::on(topology, &roomy(&file(&[web(&[100, 101]).unprobed(), alt(&[0, 1])])));
    let end = |host: &testkit::Host, nic: &str| End {
        wire: Wire::open(host, "eth0").unwrap(),
        mac: host.mac("eth0").unwrap(),
        gateway: stage.gateway().mac(nic).unwrap(),
    };
    let mut crowd = Crowd::new(end(stage.client(), "eth0"), end(&stage.topology.backends[2], "eth1"), WEB);
    let clients: Vec<_> = (0..100_000_u32)
        .map(|number| SocketAddrV4::new((0xc612_0000 + number / 25).into(), 1024 + (number % 25) as u16))
        .collect();
    let began = Instant::now();
    crowd.join(&clients).unwrap();
    eprintln!("{:?} connected in {:?}", crowd.spread(), began.elapsed());
    until("all are live", || live(&stage) == 100_000);
    let created = counted(&stage, "flow_created");
    let bystanders = Load::new(Topology::sources(), ALT).start(stage.client());
    let flood = flood(&stage.topology, &[Segment::SYN], Vec::new(), WEB);
    until("the flood is large", || flood.sent() > 3 * MANY);
    let report = bystanders.stop();
    eprintln!("{} forged; bystanders: {report}; {:?}", flood.stop(), began.elapsed());
    report.expect_no_failure();
    let half = counted(&stage, "half_opened");
    assert_eq!(counted(&stage, "flow_created") - created, report.samples.len() as u64);
    assert_eq!(crowd.strays().unwrap(), []);
    assert_eq!(counted(&stage, "half_opened"), half, "each was known");
    until("no flow is left but theirs", || live(&stage) == 100_000);
    assert_eq!(counted(&stage, "flow_evicted"), 0);
}
