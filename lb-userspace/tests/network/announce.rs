//! VIPs that the balancer puts on the gateway itself: neighbours find them, and they go with it.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::{Duration, Instant},
};

use lb_userspace::net::{Address, Netlink};
use testkit::{Host, Load, Process, Server, Topology, Wire};

use crate::{
    file::{WEB, alt, file, web},
    frames::Forger,
    stage::{SOON, Stage, launch, serve, until},
};

/// A VIP in the clients' own subnet: they ask for it by ARP, and send it to no router.
const NEAR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 253), 80);
/// Another such, for when it is the host's own.
const OWN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 252), 80);

/// Where a host has an address, and whether it bears the mark of one that was put there by us.
fn seats(host: &Host, vip: SocketAddrV4) -> Vec<(u32, bool)> {
    let all = host.run(async { Netlink::new()?.addresses().await }).unwrap();
    let at = |address: &&Address| address.address == *vip.ip();
    all.iter().filter(at).map(|address| (address.ifindex, address.is_marked)).collect()
}

/// The next gratuitous ARP for a VIP that reaches the client.
fn announcement(wire: &Wire, vip: SocketAddrV4) -> Option<Vec<u8>> {
    let octets = vip.ip().octets();
    let is_one = move |frame: &[u8]| {
        frame.len() >= 42 && frame[12..14] == [8, 6] && frame[28..32] == octets && frame[38..42] == octets
    };
    wire.next(SOON, is_one).unwrap()
}

fn expect_served(stage: &Stage, vip: SocketAddrV4) {
    Load::new(Topology::sources()[..20].to_vec(), vip).once(stage.client()).expect_no_failure();
}

#[test]
fn a_vip_of_the_clients_subnet_is_found_there_and_any_other_through_the_gateway() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).and(NEAR).file());
    let eth0 = stage.gateway().index("eth0").unwrap();
    assert_eq!(seats(stage.gateway(), NEAR), [(eth0, true)]);
    assert_eq!(seats(stage.gateway(), WEB), [(1, true)]);
    expect_served(&stage, NEAR);
    expect_served(&stage, WEB);
    let gateway = stage.gateway().mac("eth0").unwrap();
    assert_eq!(Forger::new(&stage.topology).resolve(*NEAR.ip()).0, gateway);
    let status = stage.tidegate.ask(&["status"]).unwrap();
    let wanted = serde_json::json!([
        {"address": "192.0.2.253", "interface": "eth0"},
        {"address": "203.0.113.10", "interface": "lo"}
    ]);
    assert_eq!(status["announced"], wanted, "{status:#}");
}

#[test]
fn neighbours_hear_of_a_vip_when_it_comes_and_when_its_nic_comes_back_up() {
    let topology = Topology::two_arms(1).unwrap();
    let wire = Wire::open(&topology.client, "eth0").unwrap();
    let stage = Stage::on(topology, &web(&[0]).and(NEAR).file());
    let mac = stage.gateway().mac("eth0").unwrap();
    for _ in 0..3 {
        let frame = announcement(&wire, NEAR).expect("gratuitous ARP, three times");
        assert_eq!((&frame[..6], &frame[6..12], &frame[22..28]), (&[0xff; 6][..], &mac[..], &mac[..]));
    }
    // Of one that is on lo nobody is told.
    stage.gateway().down("eth0").unwrap();
    stage.gateway().up("eth0").unwrap();
    announcement(&wire, NEAR).expect("once more, because it may be plugged in elsewhere");
    expect_served(&stage, NEAR);
}

#[test]
fn an_address_that_was_there_before_stays_as_it_was_and_stays_there() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.host.addresses("eth0", [*OWN.ip()], 32).unwrap();
    let servers = serve(&topology);
    // A listener of the gateway, on all its addresses.
    let listener = Server::start(&topology.gateway.host, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 7000)).unwrap();
    let tidegate = launch(&topology.gateway, &web(&[0]).and(NEAR).and(OWN).file()).start().unwrap();
    let mut stage = Stage { tidegate, servers, topology };
    let eth0 = stage.gateway().index("eth0").unwrap();
    assert_eq!(seats(stage.gateway(), OWN), [(eth0, false)]);
    expect_served(&stage, OWN);
    expect_served(&stage, SocketAddrV4::new(*OWN.ip(), 7000));
    assert!(listener.requests() > 0, "ports that no service has are the host's");
    assert_eq!(stage.tidegate.command(&["detach"]).unwrap().code(), Some(0));
    assert_eq!(stage.tidegate.process().wait(SOON).unwrap().code(), Some(0));
    assert_eq!(seats(stage.gateway(), OWN), [(eth0, false)]);
    for ours in [NEAR, WEB] {
        assert_eq!(seats(stage.gateway(), ours), [], "{ours}");
    }
}

#[test]
fn detach_after_kill_takes_away_exactly_what_was_added() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.host.addresses("eth0", [*OWN.ip()], 32).unwrap();
    let mut stage = Stage::on(topology, &web(&[0]).and(NEAR).and(OWN).file());
    let before = stage.gateway().index("eth0").unwrap();
    stage.tidegate.process().kill();
    expect_served(&stage, NEAR);
    assert_eq!(stage.tidegate.command(&["detach"]).unwrap().code(), Some(0));
    assert_eq!([seats(stage.gateway(), NEAR), seats(stage.gateway(), WEB)], [[], []]);
    assert_eq!(seats(stage.gateway(), OWN), [(before, false)]);
    assert_eq!(seats(stage.gateway(), SocketAddrV4::new(Topology::GATEWAY_OF_CLIENTS, 0)), [(before, false)]);
}

#[test]
fn detach_on_exit_and_a_start_that_never_serves_take_them_away() {
    let start = |gateway: &_| launch(gateway, &web(&[0]).and(NEAR).file()).argument("--detach-on-exit");
    let Stage { tidegate, servers: _servers, topology } = Stage::with(Topology::two_arms(1).unwrap(), start);
    assert_eq!(tidegate.stop().unwrap().code(), Some(0));
    assert_eq!(seats(&topology.gateway.host, NEAR), []);

    topology.gateway.host.sysctl("net/ipv4/ip_forward", "0").unwrap();
    let tidegate = launch(&topology.gateway, &web(&[0]).and(NEAR).file()).spawn().unwrap();
    until("it is announced", || !seats(&topology.gateway.host, NEAR).is_empty());
    assert_eq!(tidegate.stop().unwrap().code(), Some(0));
    assert_eq!([seats(&topology.gateway.host, NEAR), seats(&topology.gateway.host, WEB)], [[], []]);
}

#[test]
fn a_withdrawn_vip_is_found_as_long_as_a_connection_through_it_lives() {
    let both = file(&[web(&[0]), alt(&[1]).and(NEAR)]).replace("    listen", "    timeouts: {fin: 1s}\n    listen");
    let stage = Stage::two_arms(2, &both);
    let connection = stage.connect(0, NEAR).unwrap();
    connection.ask().unwrap();
    stage.tidegate.edit(&file(&[web(&[0])])).unwrap();
    stage.tidegate.ask(&["reload"]).unwrap();
    let (forger, withdrawn) = (Forger::new(&stage.topology), Instant::now());
    until("sweeps have looked for its flows", || {
        assert_eq!(forger.resolve(*NEAR.ip()).0, stage.gateway().mac("eth0").unwrap());
        stage.client().forget_neighbours("eth0").unwrap();
        connection.download(100_000).unwrap();
        withdrawn.elapsed() > Duration::from_secs(3)
    });
    drop(connection);
    until("it is taken away", || seats(stage.gateway(), NEAR).is_empty());
    expect_served(&stage, WEB);
}

#[test]
fn the_next_controller_takes_away_what_left_the_file_meanwhile() {
    let mut stage = Stage::two_arms(1, &web(&[0]).and(NEAR).file());
    let again = launch(&stage.topology.gateway, &web(&[0]).file());
    stage.tidegate.process().kill();
    stage.tidegate = again.start().unwrap();
    until("it is taken away", || seats(stage.gateway(), NEAR).is_empty());
    assert_eq!(seats(stage.gateway(), WEB), [(1, true)]);
}

#[test]
fn one_that_somebody_takes_away_is_put_back() {
    let stage = Stage::two_arms(1, &web(&[0]).and(NEAR).file());
    for _ in 0..3 {
        stage.gateway().forget_address("eth0", *NEAR.ip(), 32).unwrap();
        until("it is put back", || !seats(stage.gateway(), NEAR).is_empty());
    }
    expect_served(&stage, NEAR);
}

#[test]
fn the_file_can_leave_announcing_to_others() {
    let plain = web(&[0]).and(NEAR).file();
    let off = plain.replace("node: {", "node: {announce_vips: false, ");
    let stage = Stage::two_arms(1, &off);
    assert_eq!([seats(stage.gateway(), NEAR), seats(stage.gateway(), WEB)], [[], []]);
    stage.tidegate.edit(&plain).unwrap();
    stage.tidegate.ask(&["reload"]).unwrap();
    assert_eq!(seats(stage.gateway(), NEAR).len(), 1, "a reload that is answered is in force");
    stage.tidegate.edit(&off).unwrap();
    stage.tidegate.ask(&["reload"]).unwrap();
    assert_eq!([seats(stage.gateway(), NEAR), seats(stage.gateway(), WEB)], [[], []]);
}

#[test]
fn the_gateway_itself_never_speaks_with_it() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.host.route([0; 4].into(), 0, Topology::sources()[0]).unwrap();
    let stage = Stage::on(topology, &web(&[0]).and(NEAR).file());
    let own = [Topology::GATEWAY_OF_BACKENDS, Topology::GATEWAY_OF_CLIENTS, Topology::GATEWAY_OF_CLIENTS];
    for (target, own) in
        [Topology::backend_address(0), Topology::sources()[0], [198, 51, 100, 9].into()].into_iter().zip(own)
    {
        let chosen = stage.gateway().call(move || {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect((target, 9)).and_then(|()| socket.local_addr())
        });
        assert_eq!(chosen.unwrap().ip(), own, "{target}");
    }
}

#[test]
fn without_the_capability_for_packet_sockets_it_works_and_says_so() {
    let start = |gateway: &_| launch(gateway, &web(&[0]).and(NEAR).file()).without(Process::CAP_NET_RAW);
    let stage = Stage::with(Topology::two_arms(1).unwrap(), start);
    stage.tidegate.says("which takes CAP_NET_RAW", 0, SOON).unwrap();
    expect_served(&stage, NEAR);
}

#[test]
fn a_listener_of_the_gateway_is_not_reached_through_an_announced_vip() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.host.addresses("eth0", [*OWN.ip()], 32).unwrap();
    let port = 7000;
    let listener = Server::start(&topology.gateway.host, SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).unwrap();
    let mut stage = Stage::on(topology, &web(&[0]).and(NEAR).and(OWN).file());
    let at = |vip: SocketAddrV4| SocketAddrV4::new(*vip.ip(), port);
    let refused = |stage: &Stage, vip| {
        let report = stage.ask_some(at(vip), 20);
        let was_refused = |why: &Result<_, String>| why.as_ref().is_err_and(|why| why.contains("refused"));
        report.samples.len() == 20 && report.samples.iter().all(|sample| was_refused(&sample.outcome))
    };
    for vip in [NEAR, WEB] {
        assert!(refused(&stage, vip), "{vip}");
        // Who has the address still answers pings.
        Forger::new(&stage.topology).ping(*vip.ip());
    }
    assert_eq!(listener.connections(), 0, "not even a SYN got there");
    expect_served(&stage, at(OWN));
    expect_served(&stage, SocketAddrV4::new(Topology::GATEWAY_OF_CLIENTS, port));
    // Nor while nobody controls, and nor on the next start.
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    assert!(refused(&stage, NEAR));
    stage.tidegate = again.start().unwrap();
    assert!(refused(&stage, NEAR));
    expect_served(&stage, NEAR);
}
