//! The controller comes and goes; the packet path stays.

use std::{fs, net::SocketAddrV4};

use nix::sys::signal::Signal;
use testkit::{Load, Pings, Topology, Traffic};

use crate::{
    file::{WEB, web},
    stage::{SOON, Stage, expect_faithful, launch, names, until},
};

/// Requests and long connections that go on while the controller does what it likes.
struct Burden(Pings, Traffic);

impl Burden {
    fn on(stage: &Stage) -> Self {
        Self(stage.pings(50), Load::new(Topology::sources(), WEB).start(stage.client()))
    }

    /// Waits until all clients have asked again, and every long connection too.
    fn go_on(&self) {
        let (pings, requests) = (self.0.report().samples.len() + 100, self.1.requests() + 300);
        until("requests go on", || self.1.requests() >= requests && self.0.report().samples.len() >= pings);
    }

    #[track_caller]
    fn expect_no_failure(self) {
        let (pings, requests) = (self.0.stop(), self.1.stop());
        requests.expect_no_failure();
        pings.expect_no_failure();
        expect_faithful(&pings);
        expect_faithful(&requests);
    }
}

#[test]
fn no_request_and_no_connection_fails_while_the_controller_is_stopped_and_started_again() {
    let mut stage = Stage::two_arms(3, &web(&[0, 1, 2]).file());
    let burden = Burden::on(&stage);
    for _ in 0..2 {
        burden.go_on();
        let again = stage.tidegate.launch();
        stage.tidegate.process().signal(Signal::SIGTERM).unwrap();
        let stopped = stage.tidegate.process().wait(SOON).unwrap();
        assert_eq!(stopped.code(), Some(0), "{stopped:?}");
        assert!(stopped.stderr.contains("the packet path goes on forwarding"), "{stopped:?}");
        burden.go_on();
        stage.tidegate = again.start().unwrap();
    }
    burden.go_on();
    burden.expect_no_failure();
}

#[test]
fn no_request_and_no_connection_fails_while_the_controller_is_killed_and_started_again() {
    let mut stage = Stage::two_arms(3, &web(&[0, 1, 2]).file());
    let burden = Burden::on(&stage);
    for _ in 0..3 {
        burden.go_on();
        let again = stage.tidegate.launch();
        stage.tidegate.process().kill();
        burden.go_on();
        stage.tidegate = again.start().unwrap();
    }
    burden.go_on();
    burden.expect_no_failure();
}

#[test]
fn no_request_fails_through_a_restart_on_one_nic_in_generic_mode() {
    let start = |gateway: &_| launch(gateway, &web(&[0, 1]).file()).argument("--xdp").argument("generic");
    let mut stage = Stage::with(Topology::one_arm(2).unwrap(), start);
    let burden = Burden::on(&stage);
    burden.go_on();
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    stage.tidegate = again.start().unwrap();
    burden.go_on();
    burden.expect_no_failure();
}

#[test]
fn the_signal_int_stops_the_controller_in_order() {
    let mut stage = Stage::two_arms(1, &web(&[0]).file());
    stage.tidegate.process().signal(Signal::SIGINT).unwrap();
    assert_eq!(stage.tidegate.process().wait(SOON).unwrap().code(), Some(0));
    stage.ask_some(WEB, 20).expect_no_failure();
    assert!(!fs::exists(stage.topology.gateway.room.outside("admin.sock")).unwrap(), "the socket goes with it");
}

#[test]
fn a_change_of_the_file_while_the_controller_is_away_is_in_force_after_its_start() {
    let mut stage = Stage::two_arms(3, &web(&[0, 1]).file());
    let pings = stage.pings(40);
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    stage.tidegate = again.config(&web(&[1, 2]).file()).start().unwrap();
    stage.until_served_by("backend-3");
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-2", "backend-3"]);
    stage.until_state(&crate::file::endpoint(0).to_string(), "drain");
    let report = pings.stop();
    report.expect_no_failure();
    expect_faithful(&report);
}

#[test]
fn a_backend_that_died_while_the_controller_was_away_is_taken_out_after_its_start() {
    let mut stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    stage.servers[0].kill();
    stage.tidegate = again.start().unwrap();
    stage.until_state("backend-1", "down");
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-2"]);
}

#[test]
fn a_second_instance_on_the_same_pins_is_refused_and_names_the_first() {
    let mut stage = Stage::two_arms(1, &web(&[0]).file());
    let burden = Burden::on(&stage);
    let pid = stage.tidegate.process().pid();
    // Another socket, the same pins.
    let second = stage.tidegate.launch().argument("--socket").argument("/run/second.sock");
    let pin_dir = stage.topology.gateway.room.pins_inside("tidegate").display().to_string();
    let arguments = ["run", "--config", "/run/tidegate.yaml", "--iface", "eth0", "--socket", "/run/second.sock"];
    let arguments = [&arguments[..], &["--pin-dir", &pin_dir]].concat();
    drop(second);
    let mut second = stage.topology.gateway.start(crate::stage::PROGRAM.as_ref(), arguments).unwrap();
    let second = second.wait(SOON).unwrap();
    assert_eq!(second.code(), Some(1), "{second:?}");
    assert!(second.stderr.contains(&format!("process {pid}")), "{second:?}");
    // The same socket as well.
    let second = stage.tidegate.launch().refused().unwrap();
    assert_eq!(second.code(), Some(1), "{second:?}");
    burden.go_on();
    burden.expect_no_failure();
    assert_eq!(stage.tidegate.ask(&["status"]).unwrap()["pid"], pid);
}

#[test]
fn two_balancers_with_pins_sockets_and_nics_of_their_own_live_side_by_side() {
    let (first, second) = (Topology::two_arms(1).unwrap(), Topology::two_arms(1).unwrap());
    let stages = [first, second].map(|topology| Stage::on(topology, &web(&[0]).file()));
    for stage in &stages {
        stage.ask_some(WEB, 20).expect_no_failure();
    }
    let [first, second] = stages;
    assert_eq!(first.tidegate.command(&["detach"]).unwrap().code(), Some(0));
    second.ask_some(SocketAddrV4::new(*WEB.ip(), 80), 20).expect_no_failure();
}
