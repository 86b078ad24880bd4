//! What becomes of connections, and who may open them, as the file says it.

use std::net::{Ipv4Addr, SocketAddrV4};

use testkit::{Report, Sample, Server, Topology};

use crate::{
    file::{WEB, endpoint, web},
    stage::{SOON, Stage, homes, names, state},
};

/// The service `web` with these backends and some keys more.
fn with(backends: &[u8], keys: &str) -> String {
    web(backends).file().replace("    listen", &format!("    {}\n    listen", keys.replace('\n', "\n    ")))
}

/// A port beside the service's decides about the health of two backends.
fn by_its_own_port(keys: &str) -> String {
    with(&[0, 1], keys).replace("tcp: {}", "tcp: {port: 9000}")
}

/// Two backends with that port.
fn two_with_health(keys: &str) -> (Stage, Vec<Server>) {
    let topology = Topology::two_arms(2).unwrap();
    let health = |index: u8| SocketAddrV4::new(Topology::backend_address(index), 9000);
    let healths = (0..).zip(&topology.backends).map(|(index, host)| Server::start(host, health(index)).unwrap());
    let healths = healths.collect();
    (Stage::on(topology, &by_its_own_port(keys)), healths)
}

fn was_reset(sample: &Sample) -> bool {
    sample.outcome.as_ref().is_err_and(|why| why.contains("reset"))
}

/// Exactly the connections to one backend were reset, and no other failed.
#[track_caller]
fn expect_reset(report: &Report, homes: &[(Ipv4Addr, std::sync::Arc<str>)], backend: &str) {
    let failed: Vec<Ipv4Addr> = report.failures().map(|sample| sample.source).collect();
    assert!(report.failures().all(was_reset), "{report}");
    for (source, home) in homes {
        assert_eq!(failed.contains(source), &**home == backend, "{source} of {home}; {report}");
    }
    assert!(!failed.is_empty(), "{report}");
}

#[test]
fn a_removed_backend_that_has_drained_for_long_enough_resets_its_connections_and_is_gone() {
    let keys = "drain: {for: 1s, then: reset}\ntimeouts: {fin: 1s}";
    let stage = Stage::two_arms(3, &with(&[0, 1, 2], keys));
    let homes = homes(&stage.ask_some(WEB, 60));
    let pings = stage.pings(60);
    let edited = std::time::Instant::now();
    stage.tidegate.edit(&with(&[0, 2], keys)).unwrap();
    let drained = endpoint(1).to_string();
    let answer = stage.tidegate.wait_until("it drains", SOON, |answer| state(answer, &drained) == "drain").unwrap();
    let reason = crate::stage::backend(&answer, &drained).unwrap()["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with("removed from the file, ") && reason.contains("reset"), "{reason}");
    stage.until_state(&drained, "");
    let report = pings.stop();
    expect_reset(&report, &homes, "backend-2");
    let early = report.failures().filter(|sample| (sample.ended - edited).as_millis() < 1000).count();
    assert_eq!(early, 0, "its time was not over; {report}");
}

#[test]
fn changed_idle_times_hold_for_live_connections() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    let line = stage.connect(0, WEB).unwrap();
    line.ask().unwrap();
    let flows = |answer: &serde_json::Value| crate::stage::backend(answer, "backend-1").unwrap()["flows"] == 1;
    stage.tidegate.wait_until("it is known", SOON, flows).unwrap();
    stage.tidegate.edit(&with(&[0], "timeouts: {syn: 1s, established: 1s, fin: 1s}")).unwrap();
    stage.tidegate.wait_until("it is forgotten", SOON, |answer| !flows(answer)).unwrap();
}

#[test]
fn a_restart_does_not_give_a_backend_that_drains_its_time_anew() {
    let keys = "drain: {for: 1h, then: reset}\ntimeouts: {fin: 1s}";
    let mut stage = Stage::two_arms(2, &with(&[0, 1], keys));
    let pings = stage.pings(30);
    stage.tidegate.edit(&with(&[0], keys)).unwrap();
    let drained = endpoint(1).to_string();
    stage.until_state(&drained, "drain");
    let kept = stage.topology.gateway.room.outside("state").join("drains.json");
    crate::stage::until("it is written down", || kept.exists());
    let since = |stage: &Stage| {
        let answer = stage.tidegate.ask(&["backends"]).unwrap();
        crate::stage::backend(&answer, &drained).unwrap()["since"].as_str().unwrap().to_owned()
    };
    let before = since(&stage);
    let again = stage.tidegate.launch();
    stage.tidegate.process().kill();
    stage.tidegate = again.start().unwrap();
    assert_eq!(since(&stage), before);
    pings.stop().expect_no_failure();
    stage.until_state(&drained, "");
    crate::stage::until("nothing is left of it", || !kept.exists());
}

#[test]
fn a_backend_that_goes_down_resets_its_connections_where_the_file_says_so() {
    let (stage, mut healths) = two_with_health("on_down: reset");
    let homes = homes(&stage.ask_some(WEB, 30));
    let pings = stage.pings(30);
    healths[0].kill();
    stage.until_state("backend-1", "down");
    let lost = homes.iter().filter(|(_, home)| &**home == "backend-1").count();
    crate::stage::until("its connections are reset", || pings.report().failures().count() >= lost);
    let later = stage.ask_all(WEB);
    later.expect_no_failure();
    assert_eq!(names(&later), ["backend-2"]);
    expect_reset(&pings.stop(), &homes, "backend-1");
    healths[0].restart().unwrap();
    stage.until_state("backend-1", "up");
    stage.until_served_by("backend-1");
    let pings = stage.pings(30);
    let so_far = pings.report().samples.len();
    crate::stage::until("connections go on", || pings.report().samples.len() > so_far + 100);
    pings.stop().expect_no_failure();
}

#[test]
fn a_service_that_fails_open_serves_with_all_backends_down() {
    let (stage, mut healths) = two_with_health("all_down: any\non_down: reset");
    let pings = stage.pings(30);
    // One by one their connections would be reset.
    healths[0].kill();
    stage.until_state("backend-1", "down");
    healths[1].kill();
    stage.until_state("backend-2", "down");
    drop(pings);
    let fault = "web: no backend is up: new connections go to all of them, as `all_down: any` wants it";
    stage.until_status("it says so", |status| {
        status["faults"].as_array().is_some_and(|all| all.contains(&fault.into()))
    });
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1", "backend-2"]);
    stage.pings(30).stop().expect_no_failure();
    // The file thinks better of it.
    stage.tidegate.edit(&by_its_own_port("all_down: reject")).unwrap();
    crate::stage::until("nobody is served", || stage.ask_some(WEB, 5).failures().count() == 5);
}

#[test]
fn a_service_that_drops_answers_nobody_with_all_backends_down() {
    let mut stage = Stage::two_arms(1, &with(&[0], "all_down: drop"));
    stage.ask_some(WEB, 5).expect_no_failure();
    stage.servers[0].kill();
    stage.until_state("backend-1", "down");
    let report = stage.ask_some(WEB, 5);
    let silent = |sample: &Sample| sample.outcome.as_ref().is_err_and(|why| !why.contains("refused"));
    assert!(report.samples.iter().all(silent), "{report}");
    stage.servers[0].restart().unwrap();
    stage.until_state("backend-1", "up");
    stage.ask_some(WEB, 5).expect_no_failure();
}

#[test]
fn who_is_denied_cannot_connect_and_who_is_connected_stays() {
    let stage = Stage::two_arms(2, &with(&[0, 1], "deny: none"));
    let sources = Topology::sources();
    let pings = stage.pings(4);
    let lists = format!("allow: [{}, {}, {}]\ndeny: [{}]", sources[0], sources[1], sources[2], sources[1]);
    stage.tidegate.edit(&with(&[0, 1], &lists)).unwrap();
    crate::stage::until("the lists are in force", || stage.connect(3, WEB).is_err());
    let served = |index| stage.connect(index, WEB).is_ok_and(|connection| connection.ask().is_ok());
    assert_eq!([0, 1, 2, 3].map(served), [true, false, true, false]);
    stage.tidegate.edit(&with(&[0, 1], "deny: none")).unwrap();
    crate::stage::until("everybody is served", || stage.ask_some(WEB, 8).failures().next().is_none());
    pings.stop().expect_no_failure();
}

#[test]
fn a_rate_lets_as_many_in_as_it_names_and_a_changed_one_starts_anew() {
    let stage = Stage::two_arms(2, &with(&[0, 1], "limits: {rate: 3/h}"));
    let let_in = || 8 - stage.ask_some(WEB, 8).failures().count();
    assert_eq!(let_in(), 3);
    assert!(stage.connect(0, WEB).is_err(), "nothing comes back within the hour");
    stage.tidegate.edit(&with(&[0, 1], "limits: {rate: 1000/s}")).unwrap();
    crate::stage::until("the new rate is in force", || let_in() == 8);
    stage.tidegate.edit(&with(&[0, 1], "limits: none")).unwrap();
    stage.until_status("the file is read", |status| status["config"]["fault"].is_null());
    stage.ask_all(WEB).expect_no_failure();
}

#[test]
fn a_client_address_has_as_many_connections_as_the_file_lets_it() {
    let stage = Stage::two_arms(2, &with(&[0, 1], "limits: {per_source: 2}"));
    let open = |source| stage.connect(source, WEB).and_then(|line| line.ask().map(|_| line));
    let mut lines = vec![open(0).unwrap(), open(0).unwrap()];
    assert!(open(0).is_err(), "a third connection of one address");
    lines.push(open(1).unwrap());
    lines.remove(0);
    crate::stage::until("the end of one makes room", || open(0).map(|line| lines.push(line)).is_ok());
    assert!(open(0).is_err(), "a third connection of one address");
    stage.tidegate.edit(&with(&[0, 1], "limits: {per_source: 3}")).unwrap();
    crate::stage::until("the file makes room", || open(0).map(|line| lines.push(line)).is_ok());
}
