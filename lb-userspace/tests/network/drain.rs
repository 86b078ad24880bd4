//! Backends that leave the file, and endpoints that several services share.

use std::net::SocketAddrV4;

use lb_ebpf::testing::tcp;
use testkit::{Connection, Load, Pings, Topology};

use crate::{
    file::{ALT, WEB, alt, file, web},
    frames::Forger,
    stage::{SOON, Stage, backend, expect_faithful, names, state},
};

#[test]
fn a_removed_backend_keeps_its_live_connections_and_gets_no_new_ones() {
    let file = |backends: &[u8]| web(backends).file().replace("    listen", "    timeouts: {fin: 1s}\n    listen");
    let stage = Stage::two_arms(3, &file(&[0, 1, 2]));
    let pings = stage.pings(60);
    let traffic = Load::new(Topology::sources(), WEB).start(stage.client());
    stage.tidegate.edit(&file(&[0, 2])).unwrap();
    let endpoint = crate::file::endpoint(1).to_string();
    // It has lost its name with its line in the file.
    let answer = stage.tidegate.wait_until("it drains", SOON, |answer| state(answer, &endpoint) == "drain").unwrap();
    let mine = backend(&answer, &endpoint).unwrap();
    assert!(mine["flows"].as_u64().unwrap() > 0, "{mine:#}");
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-3"]);
    traffic.stop().expect_no_failure();
    let served = |report: &testkit::Report| report.spread().get("backend-2").copied().unwrap_or(0);
    let so_far = served(&pings.report());
    crate::stage::until("its connections go on", || served(&pings.report()) > so_far + 20);
    let report = pings.stop();
    report.expect_no_failure();
    expect_faithful(&report);
    // With its last connection, and what may be late of it, it is gone itself.
    stage.until_state(&endpoint, "");
}

#[test]
fn the_drain_time_ends_no_connection() {
    let short = |backends: &[u8]| web(backends).file().replace("    listen", "    drain: 1s\n    listen");
    let stage = Stage::two_arms(2, &short(&[0, 1]));
    let pings = stage.pings(30);
    let drained = std::time::Instant::now();
    stage.tidegate.edit(&short(&[0])).unwrap();
    stage.until_state(&crate::file::endpoint(1).to_string(), "drain");
    let late = || drained.elapsed().as_secs() >= 2;
    crate::stage::until("the drain time has passed", late);
    let report = pings.stop();
    report.expect_no_failure();
    expect_faithful(&report);
    assert_eq!(names(&report), ["backend-1", "backend-2"], "`then: keep` is the default");
}

#[test]
fn a_backend_that_comes_back_to_the_file_takes_its_clients_again() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let pings = stage.pings(30);
    stage.tidegate.edit(&web(&[0]).file()).unwrap();
    stage.until_state(&crate::file::endpoint(1).to_string(), "drain");
    stage.tidegate.edit(&web(&[0, 1]).file()).unwrap();
    stage.until_state("backend-2", "up");
    stage.until_served_by("backend-2");
    let report = pings.stop();
    report.expect_no_failure();
    expect_faithful(&report);
}

#[test]
fn a_removed_service_keeps_its_live_connections() {
    let stage = Stage::two_arms(2, &file(&[web(&[0]), alt(&[1])]));
    let pings = Pings::start(stage.client(), &Topology::sources()[..10], ALT, std::time::Duration::from_millis(10));
    let pings = pings.unwrap();
    stage.tidegate.edit(&web(&[0]).file()).unwrap();
    let gone = |answer: &serde_json::Value| !matches!(state(answer, "backend-2"), "up" | "starting");
    stage.tidegate.wait_until("alt is gone", SOON, gone).unwrap();
    let so_far = pings.report().samples.len();
    crate::stage::until("connections go on", || pings.report().samples.len() > so_far + 100);
    pings.stop().expect_no_failure();
}

#[test]
fn a_removed_address_keeps_its_live_connections_also_where_the_gateway_owns_it() {
    let other = SocketAddrV4::new([203, 0, 113, 99].into(), 443);
    let topology = Topology::two_arms(2).unwrap();
    // Its packets would be answered with RST by the gateway's stack, if they got there.
    topology.gateway.host.addresses("lo", [*other.ip()], 32).unwrap();
    let mut stage = Stage::on(topology, &file(&[web(&[0]).and(other), alt(&[1])]));
    let connection = stage.connect(0, other).unwrap();
    connection.ask().unwrap();
    for services in [&[web(&[0]), alt(&[1])][..], &[alt(&[1])]] {
        stage.tidegate.edit(&file(services)).unwrap();
        stage.tidegate.ask(&["reload"]).unwrap();
        connection.ask().unwrap();
    }
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    connection.ask().unwrap();
    stage.tidegate = again.start().unwrap();
    connection.upload(1 << 20).unwrap();
    assert!(stage.connect(1, other).is_err(), "nobody serves it for new clients");
}

#[test]
fn two_services_share_backends_also_for_the_same_client_port() {
    let stage = Stage::two_arms(2, &file(&[web(&[0, 1]), alt(&[0, 1])]));
    let mut connections = Vec::new();
    for source in &Topology::sources()[..8] {
        let first = Connection::open(stage.client(), SocketAddrV4::new(*source, 0), WEB).unwrap();
        // The same address and port again: the backend must be another, or it could not tell them apart.
        let second = Connection::open(stage.client(), first.local(), ALT).unwrap();
        assert_eq!(first.local(), second.local());
        connections.extend([first, second]);
    }
    for _ in 0..3 {
        for pair in connections.chunks(2) {
            let [first, second] = [&pair[0], &pair[1]].map(|connection| connection.ask().unwrap());
            assert_ne!(first.backend, second.backend);
            assert_eq!(first.client, second.client);
        }
    }
    connections[0].download(1 << 20).unwrap();
    connections[1].download(1 << 20).unwrap();
}

#[test]
fn two_services_share_their_only_backend() {
    let stage = Stage::two_arms(1, &file(&[web(&[0]), alt(&[0])]));
    let [first, second] = [WEB, ALT].map(|service| stage.connect(0, service).unwrap());
    for listen in [WEB, ALT] {
        stage.ask_some(listen, 40).expect_no_failure();
    }
    first.upload(1 << 20).unwrap();
    second.upload(1 << 20).unwrap();
    // One of them leaves: the endpoint stays the other's.
    stage.tidegate.edit(&web(&[0]).file()).unwrap();
    stage.tidegate.ask(&["reload"]).unwrap();
    first.ask().unwrap();
    stage.ask_some(WEB, 40).expect_no_failure();
}

#[test]
fn a_client_port_that_no_backend_is_left_for_is_dropped_and_the_program_says_so() {
    let stage = Stage::two_arms(1, &file(&[web(&[0]), alt(&[0])]));
    let first = Connection::open(stage.client(), SocketAddrV4::new(Topology::sources()[3], 0), WEB).unwrap();
    let forger = Forger::new(&stage.topology);
    let syn = tcp(&first.local().to_string(), &ALT.to_string()).syn();
    // Many of them, one line: it is at most one a second.
    for _ in 0..50 {
        forger.send(&syn);
    }
    let line = stage.tidegate.says("through another VIP", 0, SOON).unwrap();
    assert!(line.contains("WARN") && line.contains("client's port"), "{line}");
    let dropped = |status: &serde_json::Value| status["packets"]["tuple_conflict"].as_u64();
    crate::stage::until("all are counted", || dropped(&stage.tidegate.ask(&["status"]).unwrap()) == Some(50));
    assert_eq!(stage.tidegate.log().text().matches("through another VIP").count(), 1);
    first.ask().unwrap();
}
