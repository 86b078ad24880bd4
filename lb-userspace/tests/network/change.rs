//! The file changed while traffic flows, whatever way it is changed.

use std::{fs, os::unix::fs::symlink};

use testkit::{Tidegate, Topology};

use crate::{
    file::{ALT, Service, WEB, alt, file, web},
    stage::{PROGRAM, SOON, Stage, expect_faithful, names, serve, state},
};

#[test]
fn a_file_written_in_place_is_followed() {
    let stage = Stage::two_arms(2, &web(&[0]).file());
    stage.topology.gateway.room.write("tidegate.yaml", &web(&[1]).file()).unwrap();
    stage.until_state("backend-2", "up");
    assert_eq!(names(&stage.ask_some(WEB, 40)), ["backend-2"]);
}

#[test]
fn a_file_replaced_by_rename_is_followed_again_and_again() {
    let stage = Stage::two_arms(3, &web(&[0]).file());
    for index in [1, 2, 0, 1] {
        stage.tidegate.edit(&web(&[index]).file()).unwrap();
        let name = format!("backend-{}", index + 1);
        stage.until_state(&name, "up");
        assert_eq!(names(&stage.ask_some(WEB, 40)), [name]);
    }
}

#[test]
fn a_swapped_symlink_is_followed_as_kubernetes_makes_it() {
    let topology = Topology::two_arms(2).unwrap();
    let room = topology.gateway.room.clone();
    let version = |number: u8, file: &str| {
        fs::create_dir(room.outside(&format!("..{number}"))).unwrap();
        room.write(&format!("..{number}/tidegate.yaml"), file).unwrap();
        symlink(format!("..{number}"), room.outside("..data_tmp")).unwrap();
        fs::rename(room.outside("..data_tmp"), room.outside("..data")).unwrap();
    };
    version(1, &web(&[0]).file());
    symlink("..data/tidegate.yaml", room.outside("tidegate.yaml")).unwrap();
    let servers = serve(&topology);
    let tidegate = Tidegate::on(&topology.gateway, PROGRAM).start().unwrap();
    let stage = Stage { tidegate, servers, topology };
    assert_eq!(names(&stage.ask_some(WEB, 40)), ["backend-1"]);
    for (number, index) in [(2, 1), (3, 0), (4, 1)] {
        version(number, &web(&[index]).file());
        fs::remove_dir_all(room.outside(&format!("..{}", number - 1))).unwrap();
        stage.until_served_by(&format!("backend-{}", index + 1));
    }
}

#[test]
fn a_burst_of_changes_is_taken_up_when_it_settles() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let said = || stage.tidegate.log().text().matches("in force now").count();
    let before = said();
    for weight in 2..102 {
        stage.tidegate.edit(&web(&[0, 1]).weights(&[1, weight]).file()).unwrap();
    }
    stage.tidegate.wait_until("the last weight", SOON, |answer| weight(answer, "backend-2") == 101).unwrap();
    let taken_up = said() - before;
    assert!(taken_up < 20, "100 changes in a burst were taken up {taken_up} times");
}

#[test]
fn a_bad_file_changes_nothing_and_is_seen_until_it_is_good_again() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let traffic = testkit::Load::new(Topology::sources(), WEB).start(stage.client());
    let said = stage.tidegate.log().len();
    stage.tidegate.edit("version: 1\nservices:\n  web: {listen: \"203.0.113.10:80\", backend: [10.0.1.11]}\n").unwrap();
    let status = stage.until_status("the fault is in status", |status| status["config"]["fault"].is_string());
    let fault = status["config"]["fault"].as_str().unwrap();
    assert!(fault.contains("tidegate.yaml:3:") && fault.contains("did you mean `backends`"), "{fault}");
    assert_eq!(status["ready"], true, "what was in force goes on");
    stage.tidegate.says("the file changes nothing", said, SOON).unwrap();
    let reload = stage.tidegate.command(&["reload"]).unwrap();
    assert_eq!(reload.code(), Some(78), "{reload:?}");
    assert!(reload.stderr.contains("did you mean `backends`"), "{reload:?}");
    // Gone altogether is no better.
    fs::remove_file(stage.topology.gateway.room.outside("tidegate.yaml")).unwrap();
    assert_eq!(stage.tidegate.command(&["reload"]).unwrap().code(), Some(78));
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-2"]);
    stage.tidegate.edit(&web(&[0]).file()).unwrap();
    stage.until_status("the fault is gone", |status| status["config"]["fault"].is_null());
    let reload = stage.tidegate.command(&["reload"]).unwrap();
    assert_eq!(reload.code(), Some(0), "{reload:?}");
    assert_eq!(names(&stage.ask_some(WEB, 40)), ["backend-1"]);
    traffic.stop().expect_no_failure();
}

#[test]
fn a_reload_is_in_force_when_it_is_answered() {
    let stage = Stage::two_arms(2, &web(&[0]).file());
    for index in [1, 0, 1, 0] {
        stage.tidegate.edit(&web(&[index]).file()).unwrap();
        let reload = stage.tidegate.ask(&["reload"]).unwrap();
        assert_eq!(
            (&reload["fault"], &reload["needs_restart"][0]),
            (&serde_json::Value::Null, &serde_json::Value::Null)
        );
        assert_eq!(names(&stage.ask_some(WEB, 20)), [format!("backend-{}", index + 1)]);
    }
}

#[test]
fn the_signal_hup_reads_the_file() {
    let mut stage = Stage::two_arms(2, &web(&[0]).file());
    let said = stage.tidegate.log().len();
    stage.tidegate.edit("version: 2\n").unwrap();
    stage.tidegate.process().signal(nix::sys::signal::Signal::SIGHUP).unwrap();
    stage.tidegate.says("the file changes nothing", said, SOON).unwrap();
    stage.ask_some(WEB, 20).expect_no_failure();
}

#[test]
fn weights_change_for_new_clients_and_never_for_live_connections() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let pings = stage.pings(40);
    let before = stage.ask_all(WEB).spread();
    stage.tidegate.edit(&web(&[0, 1]).weights(&[1, 9]).file()).unwrap();
    stage.tidegate.wait_until("the weight", SOON, |answer| weight(answer, "backend-2") == 9).unwrap();
    let after = stage.ask_all(WEB);
    after.expect_no_failure();
    assert!(after.spread()["backend-2"] > before["backend-2"] * 3 / 2, "{before:?} before; {after}");
    let report = pings.stop();
    report.expect_no_failure();
    expect_faithful(&report);
    assert_eq!(names(&report), ["backend-1", "backend-2"]);
}

#[test]
fn a_second_service_is_added_and_removed_while_the_first_serves() {
    let stage = Stage::two_arms(3, &web(&[0, 1]).file());
    let (pings, traffic) = (stage.pings(20), testkit::Load::new(Topology::sources(), WEB).start(stage.client()));
    let both: [Service; 2] = [web(&[0, 1]), alt(&[2])];
    for _ in 0..2 {
        stage.tidegate.edit(&file(&both)).unwrap();
        stage.until_state("backend-3", "up");
        let report = stage.ask_some(ALT, 40);
        report.expect_no_failure();
        assert_eq!(names(&report), ["backend-3"]);
        stage.tidegate.edit(&web(&[0, 1]).file()).unwrap();
        let gone = |answer: &serde_json::Value| !matches!(state(answer, "backend-3"), "up" | "starting");
        stage.tidegate.wait_until("alt is gone", SOON, gone).unwrap();
        assert!(stage.connect(0, ALT).is_err(), "a service that is gone serves nobody");
    }
    traffic.stop().expect_no_failure();
    pings.stop().expect_no_failure();
}

#[test]
fn what_only_a_restart_can_change_is_said_and_does_no_harm() {
    let topology = Topology::two_arms(1).unwrap();
    let file = |interfaces: &str, flows: u32| {
        web(&[0]).file().replace("{max_flows: 20000}", &format!("{{interfaces: [{interfaces}], max_flows: {flows}}}"))
    };
    // No flag names the NICs here, so those of the file count.
    let start = |gateway: &_| crate::stage::launch(gateway, &file("eth0, eth1", 20_000)).interfaces(&[]);
    let stage = Stage::with(topology, start);
    stage.ask_some(WEB, 20).expect_no_failure();
    stage.tidegate.edit(&file("eth0", 30_000)).unwrap();
    let reload = stage.tidegate.command(&["reload"]).unwrap();
    assert_eq!(reload.code(), Some(0), "{reload:?}");
    let said = &reload.stdout;
    assert!(said.contains("node.interfaces: to change") && said.contains("node.max_flows: to change"), "{said}");
    let status = stage.tidegate.ask(&["status"]).unwrap();
    assert_eq!(status["config"]["needs_restart"].as_array().unwrap().len(), 2, "{status:#}");
    assert_eq!(status["interfaces"].as_array().unwrap().len(), 2);
    assert_eq!(status["flows"]["max"], 20_000);
    stage.ask_some(WEB, 20).expect_no_failure();
}

fn weight(answer: &serde_json::Value, name: &str) -> u64 {
    crate::stage::backend(answer, name).map_or(0, |backend| backend["weight"].as_u64().unwrap())
}
