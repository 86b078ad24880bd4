//! Clients and backends whose neighbours the gateway does not know.

use std::{fs, thread};

use testkit::{Host, Topology};

use crate::{
    file::{WEB, web},
    frames::Forger,
    stage::{Stage, counter, launch, serve, until},
};

/// Addresses of which the gateway knows the Ethernet address.
fn known(host: &Host, nic: &str) -> Vec<String> {
    let text = host.call(|| fs::read_to_string("/proc/thread-self/net/arp")).unwrap();
    let entries = text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Address, type, flags (2: complete), Ethernet address, mask, device.
    entries.filter(|entry| entry[5] == nic && entry[2] != "0x0").map(|entry| entry[0].to_owned()).collect()
}

/// A client that knows the gateway and never says who it is itself.
fn keep_silent(topology: &Topology) {
    let (client, gateway) = (&topology.client, &topology.gateway.host);
    client.neighbour("eth0", Topology::GATEWAY_OF_CLIENTS, gateway.mac("eth0").unwrap()).unwrap();
    client.sysctl("net/ipv4/conf/eth0/arp_ignore", "8").unwrap();
    gateway.forget_neighbours("eth0").unwrap();
}

#[test]
fn clients_that_were_never_resolved_are_served_from_the_first_packet() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let (client, gateway) = (stage.client(), stage.gateway());
    client.neighbour("eth0", Topology::GATEWAY_OF_CLIENTS, gateway.mac("eth0").unwrap()).unwrap();
    gateway.forget_neighbours("eth0").unwrap();
    let repeated = counter(client, "Tcp", "RetransSegs");
    stage.ask_some(WEB, 32).expect_no_failure();
    assert_eq!(counter(client, "Tcp", "RetransSegs"), repeated, "the first packet of each connection is enough");
}

#[test]
fn clients_that_cannot_be_resolved_are_served_from_the_first_packet() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    keep_silent(&stage.topology);
    let repeated = counter(stage.client(), "Tcp", "RetransSegs");
    stage.ask_some(WEB, 32).expect_no_failure();
    assert_eq!(counter(stage.client(), "Tcp", "RetransSegs"), repeated);
    assert_eq!(known(stage.gateway(), "eth0"), [""; 0], "the gateway's kernel knows no client");
}

#[test]
fn clients_that_cannot_be_resolved_are_served_on_one_nic() {
    let stage = Stage::one_arm(2, &web(&[0, 1]).file());
    keep_silent(&stage.topology);
    // The backends' neighbours were forgotten with them: until they are known again the kernel forwards.
    stage.ask_some(WEB, 32).expect_no_failure();
    assert!(known(stage.gateway(), "eth0").iter().all(|address| address.starts_with("10.0.1.")));
}

#[test]
fn a_client_that_cannot_be_resolved_is_refused_where_no_backend_is_up() {
    let mut stage = Stage::two_arms(1, &web(&[0]).file());
    stage.servers[0].kill();
    stage.until_state("backend-1", "down");
    keep_silent(&stage.topology);
    let refused = stage.connect(0, WEB).unwrap_err();
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
}

#[test]
fn a_backend_without_probes_gets_traffic_although_its_neighbour_is_not_known_at_first() {
    let topology = Topology::two_arms(1).unwrap();
    let (backend, gateway) = (&topology.backends[0], &topology.gateway.host);
    backend.sysctl("net/ipv4/conf/eth0/arp_ignore", "8").unwrap();
    gateway.forget_neighbours("eth1").unwrap();
    let servers = serve(&topology);
    let tidegate = launch(&topology.gateway, &web(&[0]).unprobed().file()).start().unwrap();
    let stage = Stage { tidegate, servers, topology };
    assert_eq!(known(stage.gateway(), "eth1"), [""; 0]);
    thread::scope(|scope| {
        let request = scope.spawn(|| stage.ask_some(WEB, 1));
        // The first packet waits in the gateway's kernel, which asks for the neighbour.
        let backend = &stage.topology.backends[0];
        stage.until_status("the first packet has passed", |status| status["flows"]["half_open"] == 1);
        assert_eq!(counter(backend, "Tcp", "InSegs"), 0);
        backend.sysctl("net/ipv4/conf/eth0/arp_ignore", "0").unwrap();
        request.join().unwrap().expect_no_failure();
    });
    stage.ask_some(WEB, 32).expect_no_failure();
    stage.connect(0, WEB).unwrap().upload(1 << 20).unwrap();
}

#[test]
fn a_backend_that_gets_another_ethernet_address_is_followed() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    stage.ask_some(WEB, 8).expect_no_failure();
    let (gateway, backend) = (stage.gateway(), &stage.topology.backends[0]);
    let fresh = [2, 0, 0, 0, 0, 0x77];
    backend.set_mac("eth0", fresh).unwrap();
    gateway.forget_neighbours("eth1").unwrap();
    until("the backend is served at its new address", || stage.ask_some(WEB, 8).failures().count() == 0);
    stage.ask_some(WEB, 32).expect_no_failure();
}

#[test]
fn arp_works_and_answers_with_the_gateways_address() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    let forger = Forger::new(&stage.topology);
    let mac = forger.resolve(Topology::GATEWAY_OF_CLIENTS);
    assert_eq!(mac.0, stage.gateway().mac("eth0").unwrap());
    stage.gateway().forget_neighbours("eth1").unwrap();
    // Probes need the gateway's own resolution.
    stage.until_state("backend-1", "up");
    until("the gateway resolves the backend again", || {
        known(stage.gateway(), "eth1").contains(&Topology::backend_address(0).to_string())
    });
}

#[test]
fn a_gateway_whose_firewall_forwards_nothing_serves_backends_that_its_probes_know() {
    let topology = Topology::two_arms(2).unwrap();
    topology.gateway.host.forward_nothing().unwrap();
    let stage = Stage::on(topology, &web(&[0, 1]).file());
    stage.until_state("backend-1", "up");
    stage.until_state("backend-2", "up");
    until("both are known", || known(stage.gateway(), "eth1").len() == 2);
    until("nothing goes by the kernel any more", || stage.ask_some(WEB, 8).failures().count() == 0);
    stage.ask_all(WEB).expect_no_failure();
    let line = stage.connect(0, WEB).unwrap();
    line.download(1 << 20).unwrap();
    line.upload(1 << 20).unwrap();
    // It really forwards nothing: what passes the balancer by does not pass.
    let other = std::net::SocketAddrV4::new(Topology::backend_address(0), 9000);
    let _server = testkit::Server::start(&stage.topology.backends[0], other).unwrap();
    assert!(stage.connect(0, other).is_err());
}
