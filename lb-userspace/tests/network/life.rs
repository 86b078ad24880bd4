//! The controller comes and goes; the packet path stays.

use std::fs;

use nix::sys::signal::Signal;
use testkit::{Load, Pings, Report, Topology, Traffic};

use crate::{
    file::{WEB, web},
    stage::{SOON, Stage, expect_faithful, launch, names, say, until},
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

    /// Nothing failed, and no connection changed its backend; the requests.
    #[track_caller]
    fn expect_no_failure(self) -> Report {
        let (pings, requests) = (self.0.stop(), self.1.stop());
        requests.expect_no_failure();
        pings.expect_no_failure();
        expect_faithful(&pings);
        requests
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
    expect_faithful(&burden.expect_no_failure());
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
    expect_faithful(&burden.expect_no_failure());
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
    expect_faithful(&burden.expect_no_failure());
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
    let second =
        "run --config /run/tidegate.yaml --iface eth0 --socket /run/second.sock --pin-dir /sys/fs/bpf/tidegate";
    let second = say(&stage.topology.gateway, second);
    assert_eq!(second.code(), Some(1), "{second:?}");
    assert!(second.stderr.contains(&format!("process {pid}")), "{second:?}");
    // The same socket as well.
    let second = stage.tidegate.launch().refused().unwrap();
    assert_eq!(second.code(), Some(1), "{second:?}");
    burden.go_on();
    expect_faithful(&burden.expect_no_failure());
    assert_eq!(stage.tidegate.ask(&["status"]).unwrap()["pid"], pid);
}

#[test]
fn no_request_fails_while_the_file_changes_and_the_controller_dies_in_the_middle_of_it() {
    let files = [&[0, 1, 2][..], &[0, 2], &[1, 2, 3], &[3], &[0, 1, 2, 3]].map(|backends| web(backends).file());
    let mut stage = Stage::two_arms(4, &files[0]);
    let burden = Burden::on(&stage);
    for (number, file) in files.iter().cycle().take(20).enumerate() {
        let again = stage.tidegate.launch();
        stage.tidegate.edit(file).unwrap();
        match number % 3 {
            0 => assert_eq!(stage.tidegate.command(&["reload"]).unwrap().code(), Some(0)),
            1 => {
                // It reads the file at once, and dies somewhere in its change.
                stage.tidegate.process().signal(Signal::SIGHUP).unwrap();
                std::thread::sleep(std::time::Duration::from_micros(1500 * number as u64));
                stage.tidegate.process().kill();
                stage.tidegate = again.start().unwrap();
            }
            _ => burden.go_on(),
        }
    }
    burden.go_on();
    burden.expect_no_failure();
}
