//! The test kit itself: hosts that reach each other, and nothing left behind. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod driver;
mod process;

use std::{
    net::SocketAddrV4,
    time::{Duration, Instant},
};

use testkit::{Connection, Load, Pings, Server, Topology, Wire};

fn web(index: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Topology::backend_address(index), 8080)
}

fn topology(make: fn(u8) -> anyhow::Result<Topology>, backends: u8) -> (Topology, Vec<Server>) {
    let topology = make(backends).unwrap();
    let servers = (0..backends).map(|i| Server::start(&topology.backends[usize::from(i)], web(i)).unwrap()).collect();
    (topology, servers)
}

#[test]
fn every_client_address_reaches_a_backend_through_two_nics() {
    let (topology, _servers) = topology(Topology::two_arms, 2);
    let report = Load::new(Topology::sources(), web(1)).once(&topology.client);
    report.expect_no_failure();
    assert_eq!(report.samples.len(), Topology::sources().len());
    assert_eq!(report.spread().into_keys().map(|name| name.to_string()).collect::<Vec<_>>(), ["backend-2"]);
}

#[test]
fn every_client_address_reaches_a_backend_through_one_nic() {
    let (topology, _servers) = topology(Topology::one_arm, 2);
    Load::new(Topology::sources(), web(0)).once(&topology.client).expect_no_failure();
}

#[test]
fn big_transfers_arrive_whole_in_both_directions() {
    let (topology, _servers) = topology(Topology::two_arms, 1);
    let source = SocketAddrV4::new(Topology::sources()[0], 0);
    let connection = Connection::open(&topology.client, source, web(0)).unwrap();
    connection.download(10_000_000).unwrap();
    connection.upload(10_000_000).unwrap();
    assert_eq!(connection.ask().unwrap().client, connection.local());
}

#[test]
fn a_killed_server_refuses_and_a_returned_one_serves() {
    let (topology, mut servers) = topology(Topology::two_arms, 1);
    let pings = Pings::start(&topology.client, &Topology::sources()[..3], web(0), Duration::from_millis(5)).unwrap();
    let traffic = Load::new(Topology::sources(), web(0)).start(&topology.client);
    std::thread::sleep(Duration::from_millis(200));
    let killed = Instant::now();
    servers[0].kill();
    std::thread::sleep(Duration::from_millis(200));
    servers[0].restart().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let report = traffic.stop();
    let refused = report.failures().filter(|sample| sample.outcome.as_ref().unwrap_err().contains("refused")).count();
    assert!(refused > 0, "{report}");
    let disturbed = report.disturbed_for(killed);
    assert!(disturbed > Duration::from_millis(100) && disturbed < Duration::from_secs(1), "{disturbed:?}; {report}");
    assert_eq!(pings.stop().failures().count(), 3, "long connections end with their server");
}

#[test]
fn a_frame_made_by_hand_is_seen_on_the_other_side() {
    let (topology, _servers) = topology(Topology::two_arms, 1);
    let (client, gateway) = (&topology.client, &topology.gateway.host);
    let (sent, seen) = (Wire::open(client, "eth0").unwrap(), Wire::open(gateway, "eth0").unwrap());
    let frame = [&gateway.mac("eth0").unwrap()[..], &client.mac("eth0").unwrap(), &[0x88, 0xb5], &[7; 50]].concat();
    sent.send(&frame).unwrap();
    let arrived = seen.next(Duration::from_secs(2), |frame| frame[12..14] == [0x88, 0xb5]).unwrap();
    assert_eq!(arrived, Some(frame));
    assert_eq!(seen.collect(Duration::from_millis(50), |frame| frame[12..14] == [0x88, 0xb5]).unwrap().len(), 0);
}

#[test]
fn neighbours_can_be_fixed_and_forgotten() {
    let (topology, _servers) = topology(Topology::two_arms, 1);
    let ask = || Load::new(Topology::sources()[..1].to_vec(), web(0)).once(&topology.client);
    topology.gateway.host.neighbour("eth1", Topology::backend_address(0), [2, 0, 0, 0, 0, 9]).unwrap();
    assert_eq!(ask().failures().count(), 1, "frames go to a neighbour that is not there");
    topology.gateway.host.forget_neighbours("eth1").unwrap();
    ask().expect_no_failure();
}
