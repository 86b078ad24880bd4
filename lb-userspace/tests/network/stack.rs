//! What is a service's never reaches the gateway's own stack, even where the stack has the address.

use std::net::SocketAddrV4;

use lb_ebpf::{header, testing::tcp};
use testkit::{Server, Topology, VIP};

use crate::{
    file::{ALT, WEB, web},
    frames::{Forger, flags_from},
    stage::{Stage, counter, names},
};

/// A gateway that has the VIP itself, with listeners on the service's port and on another.
fn owner(file: &str) -> (Stage, [Server; 2]) {
    let topology = Topology::two_arms(2).unwrap();
    let listeners = [WEB.port(), ALT.port()].map(|port| Stage::own_the_vip(&topology, port));
    (Stage::on(topology, file), listeners)
}

#[test]
fn a_listener_of_the_gateway_on_the_vip_is_never_reached_by_the_services_port() {
    let (stage, [service, _other]) = owner(&web(&[0, 1]).file());
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-2"]);
    assert_eq!(service.connections(), 0);
}

#[test]
fn another_port_of_the_vip_and_other_addresses_reach_the_gateways_listeners() {
    let (stage, [_service, other]) = owner(&web(&[0, 1]).file());
    let report = stage.ask_some(ALT, 20);
    report.expect_no_failure();
    assert_eq!(names(&report), ["gateway"]);
    assert_eq!(other.requests(), 20);
    // The service's port number, at an address that is no VIP.
    let own = SocketAddrV4::new(Topology::GATEWAY_OF_CLIENTS, WEB.port());
    let server = Server::start(stage.gateway(), own).unwrap();
    stage.ask_some(own, 20).expect_no_failure();
    assert_eq!(server.requests(), 20);
}

#[test]
fn where_no_backend_is_up_the_balancer_refuses_and_not_the_gateways_stack() {
    let (mut stage, [service, _other]) = owner(&web(&[0, 1]).file());
    stage.servers.iter_mut().for_each(Server::kill);
    stage.until_state("backend-1", "down");
    stage.until_state("backend-2", "down");
    let sent = counter(stage.gateway(), "Tcp", "OutRsts");
    let refused = stage.ask_some(WEB, 20);
    assert!(refused.samples.iter().all(|sample| sample.outcome.as_ref().is_err_and(|why| why.contains("refused"))));
    assert_eq!(refused.samples.len(), 20);
    assert_eq!(service.connections(), 0, "a listener of the gateway stands in for no backend");
    assert_eq!(counter(stage.gateway(), "Tcp", "OutRsts"), sent, "probes that are refused send no RST");
}

#[test]
fn packets_of_no_connection_get_no_answer_from_the_gateways_stack() {
    // Without probes the gateway's stack has no reason to send a single RST.
    let topology = Topology::two_arms(2).unwrap();
    topology.gateway.host.addresses("lo", [VIP], 32).unwrap();
    let stage = Stage::on(topology, &web(&[0, 1]).unprobed().file());
    let mut forger = Forger::new(&stage.topology);
    let (client, vip) = (format!("{}:4321", Topology::sources()[3]), WEB.to_string());
    let received = counter(stage.gateway(), "Tcp", "InSegs");
    let all = [header::ACK, header::FIN | header::ACK, header::RST, header::SYN | header::ACK, 0, 0xff, header::SYN];
    for flags in all {
        forger.send(&tcp(&client, &vip).flags(flags));
    }
    forger.fence();
    assert_eq!(counter(stage.gateway(), "Tcp", "InSegs"), received, "the gateway's stack has seen a packet");
    assert_eq!(counter(stage.gateway(), "Tcp", "OutRsts"), 0);
}

#[test]
fn packets_at_the_end_of_their_time_to_live_never_reach_the_gateways_listener() {
    let (stage, [service, other]) = owner(&web(&[0, 1]).file());
    let mut forger = Forger::new(&stage.topology);
    let syn = tcp(&format!("{}:4321", Topology::sources()[3]), &WEB.to_string()).syn();
    for ttl in [0, 1] {
        forger.send(&syn.clone().ttl(ttl));
    }
    let seen = forger.fence();
    assert_eq!(flags_from(&seen, VIP, WEB.port()), [0; 0], "somebody answered");
    // The same packet to the port that is nobody's service is the stack's own, and is answered.
    forger.send(&syn.to(&ALT.to_string()).ttl(1));
    let seen = forger.fence();
    assert_eq!(flags_from(&seen, VIP, ALT.port())[..1], [header::SYN | header::ACK]);
    assert_eq!((service.connections(), other.connections()), (0, 0), "a SYN alone is no connection");
}

#[test]
fn fragments_never_reach_the_gateways_listener() {
    let (stage, [service, _other]) = owner(&web(&[0, 1]).file());
    let mut forger = Forger::new(&stage.topology);
    let syn = tcp(&format!("{}:4321", Topology::sources()[3]), &WEB.to_string()).syn().payload(&[7; 40]);
    for (id, first) in [(1, 8), (2, 24), (3, 40)] {
        let mut syn = syn.clone();
        syn.id = id;
        forger.send_in_two(&syn, first);
    }
    let seen = forger.fence();
    assert_eq!(flags_from(&seen, VIP, WEB.port()), [0; 0], "the stack put fragments together and answered");
    assert_eq!(service.connections(), 0);
    // The gateway's own addresses take fragments as ever.
    let own = SocketAddrV4::new(Topology::GATEWAY_OF_CLIENTS, WEB.port());
    let _server = Server::start(stage.gateway(), own).unwrap();
    forger.send_in_two(&syn.to(&own.to_string()), 24);
    let seen = forger.fence();
    assert_eq!(flags_from(&seen, *own.ip(), own.port())[..1], [header::SYN | header::ACK]);
}
