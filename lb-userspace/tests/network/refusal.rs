//! What an operator gets wrong, and the exit code that says so.

use std::fs;

use testkit::{Finished, Gateway, Topology};

use crate::{
    file::web,
    stage::{Stage, launch, say},
};

#[track_caller]
fn expect(finished: &Finished, code: i32, said: &str) {
    assert_eq!(finished.code(), Some(code), "{finished:?}");
    assert!(finished.stderr.contains(said), "{said:?} is not in {finished:?}");
}

#[test]
fn without_an_interface_nothing_starts() {
    let gateway = Gateway::new(&[]).unwrap();
    let refused = launch(&gateway, &web(&[0]).file()).refused().unwrap();
    expect(
        &refused,
        78,
        "no interface is named: add `node: {interfaces: [eth0]}` to /run/tidegate.yaml, or use --iface",
    );
}

#[test]
fn a_missing_unreadable_or_bad_file_is_told_apart_from_other_failures() {
    let topology = Topology::two_arms(1).unwrap();
    let gateway = &topology.gateway;
    expect(&say(gateway, "run --iface eth0 --config /run/none.yaml"), 78, "/run/none.yaml");
    fs::create_dir(gateway.room.outside("directory.yaml")).unwrap();
    expect(&say(gateway, "run --iface eth0 --config /run/directory.yaml"), 78, "/run/directory.yaml");
    gateway.room.write("empty.yaml", "").unwrap();
    expect(&say(gateway, "run --iface eth0 --config /run/empty.yaml"), 78, "empty.yaml");
    gateway.room.write("bad.yaml", "version: 1\nservices:\n  web: {listen: 203.0.113.10, backends: []}\n").unwrap();
    let refused = say(gateway, "run --iface eth0 --config /run/bad.yaml");
    expect(&refused, 78, "bad.yaml:3:");
    // All faults at once.
    assert!(refused.stderr.matches("bad.yaml:3:").count() >= 2, "{refused:?}");
    assert!(!fs::exists(gateway.room.pins_outside("tidegate")).unwrap());
}

#[test]
fn check_needs_no_gateway_and_tells_all_faults() {
    let gateway = Gateway::new(&[]).unwrap();
    gateway.room.write("good.yaml", &web(&[0]).file()).unwrap();
    gateway.room.write("bad.yaml", "version: 1\nservice: {}\n").unwrap();
    assert_eq!(say(&gateway, "check /run/good.yaml").code(), Some(0));
    let bad = say(&gateway, "check /run/bad.yaml");
    assert_eq!(bad.code(), Some(78), "{bad:?}");
    assert!([bad.stdout, bad.stderr].concat().contains("/run/bad.yaml:2:1"));
    assert_eq!(say(&gateway, "check /run/none.yaml").code(), Some(78));
}

#[test]
fn a_wrong_command_line_is_told_by_its_code() {
    let gateway = Gateway::new(&[]).unwrap();
    for wrong in ["", "serve", "run --xdp fast", "status --jsn", "backends one two", "run --http localhost"] {
        assert_eq!(say(&gateway, wrong).code(), Some(2), "{wrong}");
    }
    for fine in ["--help", "--version", "run --help"] {
        assert_eq!(say(&gateway, fine).code(), Some(0), "{fine}");
    }
}

#[test]
fn without_a_running_balancer_there_is_nobody_to_ask() {
    let gateway = Gateway::new(&[]).unwrap();
    for command in ["status", "services", "backends", "backends web", "reload", "status --json"] {
        let said = say(&gateway, &format!("{command} --socket /run/none.sock"));
        expect(&said, 69, "no balancer is running behind /run/none.sock");
    }
}

#[test]
fn a_socket_that_a_killed_controller_left_is_nobody_too_and_is_taken_over() {
    let mut stage = Stage::two_arms(1, &web(&[0]).file());
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    assert!(fs::exists(stage.topology.gateway.room.outside("admin.sock")).unwrap());
    expect(&again.command(&["status"]).unwrap(), 69, "no balancer is running");
    stage.tidegate = again.start().unwrap();
    assert_eq!(stage.tidegate.ask(&["status"]).unwrap()["ready"], true);
}

#[test]
fn an_unknown_service_is_a_failure_that_names_those_that_are_there() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    expect(&stage.tidegate.command(&["backends", "wep"]).unwrap(), 1, "there is no service wep; there is: web");
}

#[test]
fn a_file_in_the_place_of_the_socket_is_named_and_left_there() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.room.write("admin.sock", "mine").unwrap();
    let refused = launch(&topology.gateway, &web(&[0]).file()).refused().unwrap();
    expect(&refused, 1, "/run/admin.sock is there and is no socket; remove it, or choose another --socket");
    assert_eq!(fs::read_to_string(topology.gateway.room.outside("admin.sock")).unwrap(), "mine");
    assert!(!fs::exists(topology.gateway.room.pins_outside("tidegate")).unwrap(), "pins are left");
    for nic in &topology.gateway.nics {
        topology.gateway.host.pass_everything(nic).unwrap();
    }
}
