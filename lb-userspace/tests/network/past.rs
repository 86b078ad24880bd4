//! What passes the balancer by: connections to backends, routed traffic, the gateway's own.

use std::{fs, net::SocketAddrV4, sync::atomic::Ordering, thread};

use testkit::{Connection, Host, Load, Server, Topology};
use tokio::net::UdpSocket;

use crate::{
    file::{WEB, endpoint, web},
    frames::Forger,
    stage::{SOON, Stage, launch, names, serve, until},
};

#[test]
fn direct_connections_to_a_backend_work_before_during_and_after_balanced_ones() {
    let topology = Topology::two_arms(2).unwrap();
    let servers = serve(&topology);
    let source = SocketAddrV4::new(Topology::sources()[0], 0);
    let early = Connection::open(&topology.client, source, endpoint(0)).unwrap();
    assert_eq!(early.ask().unwrap().client, early.local());
    let tidegate = launch(&topology.gateway, &web(&[0, 1]).file()).start().unwrap();
    let stage = Stage { tidegate, servers, topology };
    // One that was there before the balancer goes on, and so do direct and balanced ones beside each other.
    early.ask().unwrap();
    let before = stage.connect(0, endpoint(0)).unwrap();
    let balanced: Vec<_> = (0..8).map(|index| stage.connect(index, WEB).unwrap()).collect();
    let direct: Vec<_> = (0..8).map(|index| stage.connect(index, endpoint(index as u8 % 2)).unwrap()).collect();
    thread::scope(|scope| {
        let transfers = balanced.iter().chain(&direct).map(|connection| {
            scope.spawn(|| {
                connection.download(300_000)?;
                connection.upload(300_000)
            })
        });
        transfers.collect::<Vec<_>>().into_iter().for_each(|transfer| transfer.join().unwrap().unwrap());
    });
    drop(balanced);
    for connection in [&early, &before].into_iter().chain(&direct) {
        assert_eq!(connection.ask().unwrap().client, connection.local());
    }
    stage.ask_some(endpoint(1), 20).expect_no_failure();
}

#[test]
fn a_client_port_serves_balanced_and_direct_connections_in_turn() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    for (index, source) in Topology::sources()[..6].iter().enumerate() {
        let mut targets = [WEB, endpoint(0)];
        targets.rotate_left(index % 2);
        let mut port = SocketAddrV4::new(*source, 0);
        for target in targets {
            let connection = Connection::open(stage.client(), port, target);
            let connection = connection.unwrap_or_else(|error| panic!("{port} to {target} of {targets:?}: {error:#}"));
            port = connection.local();
            assert_eq!(connection.ask().unwrap().client, port);
            connection.download(100_000).unwrap();
        }
    }
}

#[test]
fn direct_connections_work_on_one_nic() {
    let stage = Stage::one_arm(2, &web(&[0, 1]).file());
    let direct = stage.connect(0, endpoint(0)).unwrap();
    stage.ask_some(WEB, 20).expect_no_failure();
    direct.download(1 << 20).unwrap();
    direct.upload(1 << 20).unwrap();
}

#[test]
fn direct_connections_work_after_the_controller_has_gone() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let direct = stage.connect(0, endpoint(0)).unwrap();
    let Stage { tidegate, servers: _servers, topology } = stage;
    assert_eq!(tidegate.stop().unwrap().code(), Some(0));
    direct.ask().unwrap();
    Load::new(Topology::sources()[..8].to_vec(), endpoint(1)).once(&topology.client).expect_no_failure();
}

#[test]
fn connections_that_a_backend_opens_to_a_client_work() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let there = SocketAddrV4::new(Topology::sources()[5], 7000);
    let _server = Server::start(stage.client(), there).unwrap();
    let from = SocketAddrV4::new(Topology::backend_address(0), 0);
    let connection = Connection::open(&stage.topology.backends[0], from, there).unwrap();
    assert_eq!(connection.ask().unwrap().backend, "client");
    connection.download(1 << 20).unwrap();
    connection.upload(1 << 20).unwrap();
}

#[test]
fn the_gateways_own_connections_to_backends_work() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let from = SocketAddrV4::new(Topology::GATEWAY_OF_BACKENDS, 0);
    let connection = Connection::open(stage.gateway(), from, endpoint(0)).unwrap();
    connection.download(1 << 20).unwrap();
    connection.upload(1 << 20).unwrap();
    let report = Load::new(vec![Topology::GATEWAY_OF_BACKENDS; 50], endpoint(1)).once(stage.gateway());
    report.expect_no_failure();
}

#[test]
fn probes_leave_nothing_behind_on_the_gateway() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    until("some probes were made", || stage.servers.iter().all(|server| server.connections() > 5));
    let sockets = stage.gateway().call(|| fs::read_to_string("/proc/thread-self/net/tcp")).unwrap();
    // State 06 is TIME_WAIT (include/net/tcp_states.h).
    let waiting = sockets.lines().filter(|line| line.split_whitespace().nth(3) == Some("06")).count();
    assert_eq!(waiting, 0, "{sockets}");
}

#[test]
fn other_ports_of_a_backend_are_routed_as_ever() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let other = SocketAddrV4::new(Topology::backend_address(0), 9000);
    let _server = Server::start(&stage.topology.backends[0], other).unwrap();
    stage.ask_some(other, 40).expect_no_failure();
    let connection = stage.connect(0, other).unwrap();
    connection.download(1 << 20).unwrap();
    connection.upload(1 << 20).unwrap();
    // A port where nobody listens is refused by the backend itself.
    let nobody = stage.connect(0, SocketAddrV4::new(Topology::backend_address(0), 9001)).unwrap_err();
    assert!(format!("{nobody:#}").contains("refused"), "{nobody:#}");
}

#[test]
fn hosts_that_are_no_backends_are_routed_as_ever() {
    let stage = Stage::two_arms(3, &web(&[0]).file());
    let report = stage.ask_some(endpoint(2), 40);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-3"]);
}

#[test]
fn udp_to_the_ports_of_backends_and_services_passes() {
    let topology = Topology::two_arms(1).unwrap();
    // The gateway's own, so that what is no service's passes.
    topology.gateway.host.addresses("lo", [*WEB.ip()], 32).unwrap();
    let stage = Stage::on(topology, &web(&[0]).file());
    for (host, place) in [(&stage.topology.backends[0], endpoint(0)), (stage.gateway(), WEB)] {
        echo_udp(host, place);
        let answer = stage.client().run(async move {
            let socket = UdpSocket::bind("192.0.2.10:0").await?;
            socket.connect(std::net::SocketAddr::V4(place)).await?;
            let mut answers = Vec::new();
            // The second is three fragments.
            for length in [1200, 4000] {
                socket.send(&vec![7; length]).await?;
                let mut answer = vec![0; 5000];
                let length = tokio::time::timeout(SOON, socket.recv(&mut answer)).await??;
                answers.push(answer[..length].to_vec());
            }
            anyhow::Ok(answers)
        });
        assert_eq!(answer.unwrap(), [vec![7; 1200], vec![7; 4000]], "{place}");
    }
}

#[test]
fn pings_to_backends_and_to_the_gateway_pass() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    let mut forger = Forger::new(&stage.topology);
    for target in [Topology::backend_address(0), Topology::GATEWAY_OF_CLIENTS, *WEB.ip()] {
        forger.ping(target);
    }
}

/// Answers datagrams with themselves for as long as the host lives.
fn echo_udp(host: &Host, place: SocketAddrV4) {
    let ready = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let set = ready.clone();
    host.spawn(async move {
        let socket = UdpSocket::bind(std::net::SocketAddr::V4(place)).await?;
        set.store(true, Ordering::Relaxed);
        let mut datagram = vec![0; 5000];
        loop {
            let (length, peer) = socket.recv_from(&mut datagram).await?;
            socket.send_to(&datagram[..length], peer).await?;
        }
        #[expect(unreachable_code, reason = "it says what the errors are")]
        anyhow::Ok(())
    });
    until("the UDP server is there", || ready.load(Ordering::Relaxed));
}
