//! NICs that take no program in the driver, and NICs that come and go.

use serde_json::{Value, json};
use testkit::{Host, Topology, Wire};

use crate::{
    file::{WEB, web},
    stage::{SOON, Stage, launch, serve},
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

/// Whether `status` says this mode of this NIC.
fn is(status: &Value, nic: &str, mode: &str) -> bool {
    let mut nics = status["interfaces"].as_array().unwrap().iter();
    nics.any(|line| line["name"] == nic && line["mode"] == mode)
}

/// Pulls a NIC under a live connection, waits until that is known, and plugs it in again.
fn pulled_and_plugged(nic: &str) -> Stage {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let connections: Vec<_> = (0..8).map(|index| stage.connect(index, WEB).unwrap()).collect();
    let mac = stage.gateway().mac(nic).unwrap();
    let number = stage.gateway().index(nic).unwrap();
    for _ in 0..2 {
        stage.gateway().pull(nic).unwrap();
        let wanted = format!("{nic}: this NIC is gone");
        let status = stage.until_status("it is gone", |status| is(status, nic, "gone"));
        assert!(status["faults"].to_string().contains(&wanted), "{status:#}");
        assert_eq!(status["ready"], true, "the other NIC is there: {status:#}");
        assert!(stage.tidegate.log().text().contains(&wanted));
        stage.topology.plug_again(nic, mac).unwrap();
        stage.until_status("it is back", |status| is(status, nic, "native") && status["faults"] == json!([]));
        assert_ne!(stage.gateway().index(nic).unwrap(), number);
        for connection in &connections {
            connection.ask().unwrap();
            connection.download(100_000).unwrap();
        }
        stage.ask_some(WEB, 40).expect_no_failure();
    }
    assert!(stage.tidegate.log().text().contains(&format!("{nic} is back, as interface")));
    stage
}

#[test]
fn the_clients_nic_vanishes_and_returns() {
    let mut stage = pulled_and_plugged("eth0");
    // The next controller finds its way on these maps, and `detach` leaves nothing.
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    stage.tidegate = again.start().unwrap();
    stage.ask_some(WEB, 20).expect_no_failure();
    assert_eq!(stage.tidegate.command(&["detach"]).unwrap().code(), Some(0));
    for nic in ["eth0", "eth1"] {
        stage.gateway().pass_everything(nic).unwrap();
    }
}

#[test]
fn the_backends_nic_vanishes_and_returns() {
    let stage = pulled_and_plugged("eth1");
    stage.until_state("backend-1", "up");
}

#[test]
fn replies_leave_by_the_new_nic_before_the_client_has_spoken_by_it() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    let connection = stage.connect(0, WEB).unwrap();
    connection.ask().unwrap();
    let mac = stage.gateway().mac("eth0").unwrap();
    let client = stage.client().mac("eth0").unwrap();
    stage.gateway().pull("eth0").unwrap();
    stage.until_status("it is gone", |status| is(status, "eth0", "gone"));
    stage.topology.plug_again("eth0", mac).unwrap();
    stage.client().set_mac("eth0", client).unwrap();
    stage.until_status("it is back", |status| is(status, "eth0", "native"));
    // The backend speaks first: its FIN is the first packet of the connection by the new NIC.
    let wire = Wire::open(stage.client(), "eth0").unwrap();
    drop(stage.servers);
    let fin = |frame: &[u8]| frame.len() >= 54 && frame[26..30] == WEB.ip().octets() && frame[23] == 6;
    assert!(wire.next(SOON, fin).unwrap().is_some(), "the backend's packet reaches the client");
}

#[test]
fn a_nic_that_goes_down_and_up_is_served_on() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let connections: Vec<_> = (0..8).map(|index| stage.connect(index, WEB).unwrap()).collect();
    for nic in ["eth1", "eth0"] {
        stage.gateway().down(nic).unwrap();
        stage.gateway().up(nic).unwrap();
        for backend in ["backend-1", "backend-2"] {
            stage.until_state(backend, "up");
        }
        stage.until_status("nothing is wrong", |status| status["faults"] == json!([]));
        connections.iter().for_each(|connection| drop(connection.ask().unwrap()));
        stage.ask_some(WEB, 40).expect_no_failure();
    }
}

#[test]
fn a_nic_that_is_back_with_somebody_elses_program_is_named_and_taken_when_it_is_free() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    let mac = stage.gateway().mac("eth0").unwrap();
    let guard = Host::new("guard").unwrap();
    stage.gateway().pull("eth0").unwrap();
    stage.until_status("it is gone", |status| is(status, "eth0", "gone"));
    // Its name is taken first by a NIC that somebody else has a program on.
    stage.gateway().connect("other", &guard, "peer").unwrap();
    stage.gateway().pass_everything("other").unwrap();
    stage.gateway().rename("other", "eth0").unwrap();
    let wanted = "eth0: this NIC is back and cannot be attached: eth0: another XDP program is attached (testkit, id ";
    stage.until_status("it is refused", |status| status["faults"].to_string().contains(wanted));
    stage.gateway().pull("eth0").unwrap();
    stage.topology.plug_again("eth0", mac).unwrap();
    stage.until_status("it is back", |status| is(status, "eth0", "native") && status["faults"] == json!([]));
    stage.ask_some(WEB, 20).expect_no_failure();
}

#[test]
fn a_restart_goes_on_without_the_nic_that_vanished_and_takes_it_back() {
    let mut stage = Stage::two_arms(1, &web(&[0]).file());
    let connection = stage.connect(0, WEB).unwrap();
    let mac = stage.gateway().mac("eth1").unwrap();
    stage.gateway().pull("eth1").unwrap();
    let again = stage.tidegate.launch();
    for _ in 0..2 {
        stage.tidegate.process().kill();
        stage.tidegate = again.clone().start().unwrap();
        assert!(stage.tidegate.log().text().contains("eth1: this NIC is gone; going on without it"));
        stage.until_status("it is gone", |status| is(status, "eth1", "gone") && is(status, "eth0", "native"));
    }
    stage.topology.plug_again("eth1", mac).unwrap();
    stage.until_status("it is back", |status| is(status, "eth1", "native") && status["faults"] == json!([]));
    connection.ask().unwrap();
    stage.ask_some(WEB, 20).expect_no_failure();
    // A name that was never one of its NICs is refused as ever.
    stage.tidegate.process().kill();
    let refused = again.interfaces(&["eth0", "eth7"]).refused().unwrap();
    assert!(refused.stderr.contains("eth7: no such interface"), "{refused:?}");
    stage.ask_some(WEB, 20).expect_no_failure();
}
