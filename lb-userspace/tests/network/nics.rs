//! NICs that take no program in the driver, and NICs that come and go.

use testkit::{Host, Topology};

use crate::{
    file::{WEB, web},
    stage::{Stage, launch, serve},
};

/// Frames so long that a driver refuses the program: the peer's MTU counts too.
fn with_long_frames() -> Topology {
    let topology = Topology::two_arms(2).unwrap();
    topology.switch.mtu("gateway", 9000).unwrap();
    topology
}

#[test]
fn auto_falls_back_to_generic_where_a_driver_refuses_and_says_why() {
    let stage = Stage::on(with_long_frames(), &web(&[0, 1]).file());
    let status = stage.tidegate.ask(&["status"]).unwrap();
    let modes = status["interfaces"].as_array().unwrap().iter().map(|nic| nic["mode"].as_str().unwrap());
    assert_eq!(modes.collect::<Vec<_>>(), ["native", "generic"]);
    let said = stage.tidegate.log().text();
    assert!(said.lines().any(|line| line.contains("eth1: attached in GENERIC mode")), "{said}");
    assert!(said.contains("MTU"), "{said}");
    stage.ask_all(WEB).expect_no_failure();
    let connection = stage.connect(0, WEB).unwrap();
    connection.download(2 << 20).unwrap();
    connection.upload(2 << 20).unwrap();
}

#[test]
fn native_fails_clearly_where_a_driver_refuses() {
    let topology = with_long_frames();
    let start = launch(&topology.gateway, &web(&[0]).file()).argument("--xdp").argument("native");
    let refused = start.refused().unwrap();
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("eth1: cannot attach in driver mode"), "{refused:?}");
    assert!(refused.stderr.contains("use `--xdp generic` or another interface"), "{refused:?}");
    // The NIC that would have taken it is free again.
    topology.gateway.host.pass_everything("eth0").unwrap();
}

#[test]
fn a_nic_without_xdp_in_its_driver_is_served_by_auto_and_refused_by_native() {
    let topology = Topology::two_arms(1).unwrap();
    let nics = ["eth0", "eth1", "lo"];
    let start = || launch(&topology.gateway, &web(&[0]).file()).interfaces(&nics);
    let refused = start().argument("--xdp").argument("native").refused().unwrap();
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("lo: cannot attach in driver mode: the driver has no XDP"), "{refused:?}");
    let tidegate = start().start().unwrap();
    let stage = Stage { tidegate, servers: serve(&topology), topology };
    assert!(stage.tidegate.log().text().contains("lo: attached in GENERIC mode"));
    stage.until_state("backend-1", "up");
    stage.ask_some(WEB, 20).expect_no_failure();
}

#[test]
fn a_bridge_is_refused_and_its_ports_are_the_remedy() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.host.bridge("br0", &[]).unwrap();
    let refused = launch(&topology.gateway, &web(&[0]).file()).interfaces(&["eth0", "br0"]).refused().unwrap();
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("br0 is a bridge") && refused.stderr.contains("ports"), "{refused:?}");
    topology.gateway.host.pass_everything("eth0").unwrap();
}

#[test]
fn one_nic_named_twice_is_one_nic() {
    let start = |gateway: &_| launch(gateway, &web(&[0]).file()).interfaces(&["eth0", "eth1", "eth0"]);
    let stage = Stage::with(Topology::two_arms(1).unwrap(), start);
    let status = stage.tidegate.ask(&["status"]).unwrap();
    assert_eq!(status["interfaces"].as_array().unwrap().len(), 2, "{status:#}");
    stage.ask_some(WEB, 20).expect_no_failure();
}

#[test]
fn a_third_nic_brings_clients_of_its_own() {
    let topology = Topology::two_arms(2).unwrap();
    let (gateway, other) = (&topology.gateway.host, Host::new("other").unwrap());
    gateway.connect("eth2", &other, "eth0").unwrap();
    other.pass_everything("eth0").unwrap();
    gateway.addresses("eth2", [[198, 51, 100, 1].into()], 24).unwrap();
    gateway.whole_checksums("eth2").unwrap();
    let sources: Vec<_> = (10..40).map(|last| [198, 51, 100, last].into()).collect();
    other.addresses("eth0", sources.clone(), 24).unwrap();
    other.route([0; 4].into(), 0, [198, 51, 100, 1].into()).unwrap();
    other.whole_checksums("eth0").unwrap();
    let start = |gateway: &_| launch(gateway, &web(&[0, 1]).file()).interfaces(&["eth0", "eth1", "eth2"]);
    let stage = Stage::with(topology, start);
    stage.ask_some(WEB, 40).expect_no_failure();
    testkit::Load::new(sources, WEB).once(&other).expect_no_failure();
}
