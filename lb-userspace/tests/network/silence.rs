//! Backends that say nothing any more: one alone, one of many, all at once.

use crate::{
    file::{WEB, web},
    stage::{Stage, names},
};

#[test]
fn a_silent_backend_is_taken_out_and_returns() {
    let stage = Stage::two_arms(3, &web(&[0, 1, 2]).impatient().file());
    let cable = &stage.topology.backends[1];
    cable.down("eth0").unwrap();
    stage.until_state("backend-2", "down");
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-3"]);
    // A NIC that goes down loses its routes.
    cable.up("eth0").unwrap();
    cable.route([0; 4].into(), 0, testkit::Topology::GATEWAY_OF_BACKENDS).unwrap();
    stage.until_state("backend-2", "up");
    stage.until_served_by("backend-2");
    stage.ask_all(WEB).expect_no_failure();
}

#[test]
fn the_only_backend_is_taken_out_when_it_is_silent() {
    let stage = Stage::two_arms(1, &web(&[0]).impatient().file());
    stage.topology.backends[0].down("eth0").unwrap();
    stage.until_state("backend-1", "down");
    let refused = stage.connect(0, WEB).unwrap_err();
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
}

#[test]
fn where_all_backends_fall_silent_at_once_the_tables_stay_and_the_log_shouts() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).impatient().file());
    let before = crate::stage::homes(&stage.ask_all(WEB));
    // The switch is what fails, not the backends.
    stage.topology.switch.down("switch").unwrap();
    let status = stage.until_status("the silence is a fault", |status| {
        status["faults"].as_array().unwrap().iter().any(|fault| fault.as_str().unwrap().contains("fell silent at once"))
    });
    assert_eq!(status["backends"]["up"], 2, "{status:#}");
    assert!(stage.tidegate.log().text().contains("all backends fell silent at once"));
    stage.topology.switch.up("switch").unwrap();
    stage.until_status("the silence is over", |status| status["faults"].as_array().unwrap().is_empty());
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(crate::stage::homes(&report), before);
}

#[test]
fn where_all_are_silent_and_traffic_stays_unanswered_connections_are_refused_at_last() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).impatient().file());
    let traffic = testkit::Load::new(testkit::Topology::sources(), WEB).start(stage.client());
    stage.topology.switch.down("switch").unwrap();
    stage.until_state("backend-1", "down");
    stage.until_state("backend-2", "down");
    let refused = stage.connect(0, WEB).unwrap_err();
    assert!(format!("{refused:#}").contains("refused"), "{refused:#}");
    stage.topology.switch.up("switch").unwrap();
    stage.until_state("backend-1", "up");
    stage.until_state("backend-2", "up");
    stage.ask_all(WEB).expect_no_failure();
    drop(traffic);
}

#[test]
fn a_nic_of_the_gateway_that_goes_down_and_up_serves_again() {
    let stage = Stage::two_arms(2, &web(&[0, 1]).impatient().file());
    stage.gateway().down("eth1").unwrap();
    let is_fault = |status: &serde_json::Value| !status["faults"].as_array().unwrap().is_empty();
    stage.until_status("the gateway is at fault", is_fault);
    assert!(stage.connect(0, WEB).is_err());
    stage.gateway().up("eth1").unwrap();
    stage.until_status("all is well", |status| !is_fault(status));
    crate::stage::until("clients are served", || stage.ask_some(WEB, 20).failures().next().is_none());
    stage.ask_all(WEB).expect_no_failure();
}
