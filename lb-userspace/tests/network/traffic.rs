//! Requests and transfers through the gateway, by every way that packets may take.

use std::{net::SocketAddrV4, thread};

use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};
use testkit::{Connection, Host, Load, Server, Topology, VIP};

use crate::{
    file::{ALT, WEB, web},
    stage::{Stage, expect_faithful, expect_whole_checksums, launch, names, until},
};

/// Octets of a large transfer.
const LARGE: u64 = 6 << 20;

/// All clients are answered by all of three backends, and large transfers pass both ways at once.
#[track_caller]
fn expect_service(stage: &Stage) {
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-2", "backend-3"], "{report}");
    let [down, up] = [0, 1].map(|index| stage.connect(index, WEB).unwrap());
    thread::scope(|scope| {
        let download = scope.spawn(|| down.download(LARGE));
        let upload = scope.spawn(|| up.upload(LARGE));
        download.join().unwrap().unwrap();
        upload.join().unwrap().unwrap();
    });
    // A balanced connection keeps the client's address and port.
    assert_eq!(down.ask().unwrap().client, down.local());
}

#[test]
fn requests_and_large_transfers_pass_through_two_nics_with_whole_checksums() {
    let stage = Stage::two_arms(3, &web(&[0, 1, 2]).file());
    expect_service(&stage);
    expect_whole_checksums(&stage.topology);
    assert_eq!(modes(&stage), ["eth0 native", "eth1 native"]);
}

#[test]
fn requests_and_large_transfers_pass_through_one_nic_with_whole_checksums() {
    let stage = Stage::one_arm(3, &web(&[0, 1, 2]).file());
    expect_service(&stage);
    expect_whole_checksums(&stage.topology);
    assert_eq!(modes(&stage), ["eth0 native"]);
}

#[test]
fn generic_mode_works_on_two_nics_and_is_shown() {
    let start = |gateway: &_| launch(gateway, &web(&[0, 1, 2]).file()).argument("--xdp").argument("generic");
    let stage = Stage::with(Topology::two_arms(3).unwrap(), start);
    expect_service(&stage);
    assert_eq!(modes(&stage), ["eth0 generic", "eth1 generic"]);
    // Who asked for it is not warned; where `auto` falls back, `nics.rs` sees the warning.
    assert!(stage.tidegate.log().text().contains("on eth0 (generic), eth1 (generic)"));
}

#[test]
fn generic_mode_works_on_one_nic() {
    let start = |gateway: &_| launch(gateway, &web(&[0, 1, 2]).file()).argument("--xdp").argument("generic");
    expect_service(&Stage::with(Topology::one_arm(3).unwrap(), start));
}

#[test]
fn requests_are_spread_by_weight() {
    let stage = Stage::two_arms(3, &web(&[0, 1, 2]).weights(&[1, 2, 4]).file());
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    let (spread, all) = (report.spread(), report.samples.len());
    for (name, weight) in [("backend-1", 1), ("backend-2", 2), ("backend-3", 4)] {
        let (answers, fair) = (spread[name], all * weight / 7);
        assert!(answers * 3 > fair * 2 && answers * 2 < fair * 3, "{name} should answer about {fair}: {report}");
    }
}

#[test]
fn a_backend_of_weight_zero_gets_no_client() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).weights(&[1, 0]).file());
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1"]);
}

#[test]
fn a_client_always_meets_the_same_backend() {
    let stage = Stage::two_arms(3, &web(&[0, 1, 2]).file());
    let mut report = stage.ask_all(WEB);
    for _ in 0..2 {
        report.samples.extend(stage.ask_all(WEB).samples);
    }
    report.expect_no_failure();
    expect_faithful(&report);
}

#[test]
fn the_smallest_file_serves_with_the_port_of_the_vip() {
    let topology = Topology::two_arms(2).unwrap();
    let servers: Vec<Server> = (0..)
        .zip(&topology.backends)
        .map(|(index, host)| Server::start(host, SocketAddrV4::new(Topology::backend_address(index), 80)).unwrap())
        .collect();
    // All defaults: a flow table for a million, a probe every two seconds.
    let file = format!("version: 1\nservices:\n  web:\n    listen: {WEB}\n    backends: [10.0.1.11, 10.0.1.12]\n");
    let tidegate = launch(&topology.gateway, &file).start().unwrap();
    let report = Load::new(Topology::sources(), WEB).once(&topology.client);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-2"]);
    assert_eq!(tidegate.ask(&["status"]).unwrap()["flows"]["max"], 1_000_000);
    drop((tidegate, servers));
}

#[test]
fn a_service_listens_on_several_ports_and_addresses() {
    let other = SocketAddrV4::new([203, 0, 113, 99].into(), 443);
    let stage = Stage::two_arms(2, &web(&[0, 1]).and(ALT).and(other).file());
    for listen in [WEB, ALT, other] {
        stage.ask_some(listen, 40).expect_no_failure();
    }
    let services = stage.tidegate.ask(&["services"]).unwrap();
    let listens = [WEB, ALT, other].map(|listen| listen.to_string());
    assert_eq!(services["services"][0]["listen"], serde_json::json!(listens));
}

#[test]
fn an_address_of_the_gateways_nics_can_be_the_virtual_one() {
    let (near, far) = (Topology::GATEWAY_OF_CLIENTS, Topology::GATEWAY_OF_BACKENDS);
    let [near, far] = [near, far].map(|address| SocketAddrV4::new(address, 8000));
    let stage = Stage::two_arms(2, &web(&[0, 1]).and(near).and(far).file());
    for listen in [near, far] {
        let report = stage.ask_some(listen, 40);
        report.expect_no_failure();
        assert_eq!(names(&report), ["backend-1", "backend-2"]);
    }
    stage.until_state("backend-1", "up");
}

#[test]
fn more_connections_than_the_flow_table_holds_go_on() {
    let small = web(&[0, 1, 2]).file().replace("20000", "1024");
    let stage = Stage::two_arms(3, &small);
    let connections: Vec<_> = (0..1500).map(|index| stage.connect(index % 241, WEB).unwrap()).collect();
    let first: Vec<_> = connections.iter().map(|connection| connection.ask().unwrap()).collect();
    let second: Vec<_> = connections.iter().map(|connection| connection.ask().unwrap()).collect();
    assert_eq!(first, second);
}

#[test]
fn a_large_table_serves_like_a_small_one() {
    let large = web(&[0, 1, 2]).file().replace("    listen", "    slots: 65537\n    listen");
    let stage = Stage::two_arms(3, &large);
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-2", "backend-3"]);
    assert_eq!(stage.tidegate.ask(&["services"]).unwrap()["services"][0]["slots"], 65537);
}

#[test]
fn a_client_port_is_used_again_for_a_new_connection() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    // The client may then reuse a port a second after it closed a connection.
    stage.client().sysctl("net/ipv4/tcp_tw_reuse", "1").unwrap();
    let first = stage.connect(0, WEB).unwrap();
    let (port, answer) = (first.local(), first.ask().unwrap());
    drop(first);
    until("the port is used again", || match Connection::open(stage.client(), port, WEB) {
        Ok(second) => {
            assert_eq!(second.ask().unwrap(), answer);
            second.download(100_000).unwrap();
            true
        }
        Err(error) => {
            // Only the client itself may say that it is too early.
            assert!(format!("{error:#}").contains("Cannot assign requested address"), "{error:#}");
            false
        }
    });
}

#[test]
fn clients_behind_a_router_are_served() {
    let topology = Topology::two_arms(2).unwrap();
    // The client is the router of another one.
    let (router, far) = (&topology.client, Host::new("far").unwrap());
    router.sysctl("net/ipv4/ip_forward", "1").unwrap();
    router.connect("eth1", &far, "eth0").unwrap();
    router.addresses("eth1", [[198, 51, 100, 1].into()], 24).unwrap();
    let sources: Vec<_> = (10..60).map(|last| [198, 51, 100, last].into()).collect();
    far.addresses("eth0", sources.clone(), 24).unwrap();
    far.route([0; 4].into(), 0, [198, 51, 100, 1].into()).unwrap();
    far.whole_checksums("eth0").unwrap();
    router.whole_checksums("eth1").unwrap();
    topology.gateway.host.route([198, 51, 100, 0].into(), 24, Topology::sources()[0]).unwrap();
    let stage = Stage::on(topology, &web(&[0, 1]).file());
    let report = Load::new(sources.clone(), WEB).once(&far);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-2"]);
    let connection = Connection::open(&far, SocketAddrV4::new(sources[0], 0), WEB).unwrap();
    connection.download(LARGE).unwrap();
    connection.upload(LARGE).unwrap();
    expect_whole_checksums(&stage.topology);
}

#[test]
fn a_backend_with_a_route_of_its_own_is_reached_behind_its_router() {
    let topology = Topology::two_arms(2).unwrap();
    // The second backend is the router before a third.
    let (router, far) = (&topology.backends[1], Host::new("backend-far").unwrap());
    router.sysctl("net/ipv4/ip_forward", "1").unwrap();
    router.connect("eth1", &far, "eth0").unwrap();
    router.addresses("eth1", [[10, 0, 2, 1].into()], 24).unwrap();
    far.addresses("eth0", [[10, 0, 2, 11].into()], 24).unwrap();
    far.route([0; 4].into(), 0, [10, 0, 2, 1].into()).unwrap();
    far.whole_checksums("eth0").unwrap();
    router.whole_checksums("eth1").unwrap();
    topology.gateway.host.route([10, 0, 2, 0].into(), 24, Topology::backend_address(1)).unwrap();
    let address = SocketAddrV4::new([10, 0, 2, 11].into(), 8080);
    let server = Server::start(&far, address).unwrap();
    let file = format!("version: 1\nservices: {{web: {{listen: \"{VIP}:80\", backends: [\"{address}\"]}}}}\n");
    let stage = Stage::on(topology, &file);
    stage.ask_some(WEB, 40).expect_no_failure();
    stage.connect(0, WEB).unwrap().download(LARGE).unwrap();
    assert!(server.requests() >= 40);
    expect_whole_checksums(&stage.topology);
}

#[test]
fn the_two_directions_of_connections_may_be_on_different_cpus() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    // A veth receives where its peer sends.
    stay_on(stage.client(), 0);
    stage.topology.backends.iter().for_each(|backend| stay_on(backend, 1));
    stage.ask_all(WEB).expect_no_failure();
    let lines: Vec<_> = (0..20).map(|index| stage.connect(index, WEB).unwrap()).collect();
    thread::scope(|scope| {
        for (index, line) in lines.iter().enumerate() {
            scope.spawn(move || if index % 2 == 0 { line.download(LARGE) } else { line.upload(LARGE) }.unwrap());
        }
    });
    assert!(lines.iter().all(|line| line.ask().is_ok()));
    stage.until_status("all are live", |status| status["flows"]["live"] == 20);
    drop(lines);
    stage.until_status("none is left", |status| status["flows"]["live"] == 0 && status["flows"]["half_open"] == 0);
    let packets = stage.tidegate.ask(&["status"]).unwrap()["packets"].clone();
    assert_eq!((&packets["flow_created"], &packets["orphan_reply"]), (&261.into(), &0.into()), "{packets}");
    expect_whole_checksums(&stage.topology);
}

/// All that a host does from now on, it does on one CPU.
fn stay_on(host: &Host, cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).unwrap();
    host.call(move || sched_setaffinity(Pid::from_raw(0), &cpus)).unwrap();
}

/// The NICs and their modes, as `status` says them.
fn modes(stage: &Stage) -> Vec<String> {
    let status = stage.tidegate.ask(&["status"]).unwrap();
    let nics = status["interfaces"].as_array().unwrap().iter();
    nics.map(|nic| format!("{} {}", nic["name"].as_str().unwrap(), nic["mode"].as_str().unwrap())).collect()
}
