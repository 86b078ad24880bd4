//! Backends that fail and return.

use std::net::SocketAddrV4;

use testkit::{Load, Server, Topology};

use crate::{
    file::{ALT, WEB, alt, file, web},
    stage::{Stage, homes, names},
};

#[test]
fn a_killed_backend_is_taken_out_its_clients_move_and_the_others_stay() {
    let mut stage = Stage::two_arms(3, &web(&[0, 1, 2]).file());
    let before = homes(&stage.ask_all(WEB));
    stage.servers[1].kill();
    stage.until_state("backend-2", "down");
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    let after = homes(&report);
    assert_eq!(names(&report), ["backend-1", "backend-3"]);
    let others: Vec<_> = before.iter().filter(|(_, home)| &**home != "backend-2").collect();
    let moved = others.iter().filter(|home| !after.contains(home)).count();
    assert!(moved * 20 <= others.len(), "{moved} of {} clients of the other backends moved", others.len());
    stage.servers[1].restart().unwrap();
    stage.until_state("backend-2", "up");
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(homes(&report), before, "who is back has its clients again");
}

#[test]
fn connections_to_other_backends_do_not_notice_a_failure() {
    let mut stage = Stage::two_arms(3, &web(&[0, 1, 2]).file());
    let pings = stage.pings(60);
    let homes = homes(&pings.report());
    stage.servers[1].kill();
    stage.until_state("backend-2", "down");
    stage.servers[1].restart().unwrap();
    stage.until_state("backend-2", "up");
    let report = pings.stop();
    let broken: Vec<_> = report.failures().map(|sample| sample.source).collect();
    for (source, home) in homes {
        assert_eq!(broken.contains(&source), &*home == "backend-2", "{source} of {home}; {report}");
    }
}

#[test]
fn a_failure_says_since_when_and_why() {
    let mut stage = Stage::two_arms(2, &web(&[0, 1]).file());
    stage.servers[0].kill();
    stage.until_state("backend-1", "down");
    let answer = stage.tidegate.ask(&["backends", "web"]).unwrap();
    let down = crate::stage::backend(&answer, "backend-1").unwrap();
    assert_eq!(down["reason"], "connection refused");
    let up = crate::stage::backend(&answer, "backend-2").unwrap();
    assert_eq!(up["reason"], "answers");
    assert!(down["since"].as_str().unwrap() > up["since"].as_str().unwrap(), "{answer:#}");
    let status = stage.tidegate.ask(&["status"]).unwrap();
    assert_eq!((&status["backends"]["up"], &status["backends"]["down"]), (&1.into(), &1.into()));
    let said = stage.tidegate.log().text();
    assert!(said.contains("web: backend 10.0.1.11:8080 is down: connection refused (1 of 2 up)"), "{said}");
}

#[test]
fn where_all_backends_are_out_connections_are_refused_at_once_until_one_returns() {
    let mut stage = Stage::two_arms(2, &file(&[web(&[0, 1]), alt(&[0])]));
    stage.servers.iter_mut().for_each(Server::kill);
    stage.until_state("backend-1", "down");
    stage.until_state("backend-2", "down");
    for listen in [WEB, ALT] {
        let report = stage.ask_some(listen, 40);
        let refused = |sample: &testkit::Sample| sample.outcome.as_ref().is_err_and(|why| why.contains("refused"));
        assert!(report.samples.iter().all(refused), "{report}");
    }
    stage.servers[1].restart().unwrap();
    stage.until_state("backend-2", "up");
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-2"]);
    assert!(stage.connect(0, ALT).is_err(), "the other service has no backend yet");
    stage.servers[0].restart().unwrap();
    crate::stage::until("both services serve", || stage.ask_some(ALT, 10).failures().next().is_none());
}

#[test]
fn a_health_port_of_its_own_decides() {
    let file = web(&[0, 1]).file().replace("tcp: {}", "tcp: {port: 9000}");
    let topology = Topology::two_arms(2).unwrap();
    let health = |index: u8| SocketAddrV4::new(Topology::backend_address(index), 9000);
    let mut healths: Vec<_> =
        (0..).zip(&topology.backends).map(|(index, host)| Server::start(host, health(index)).unwrap()).collect();
    let stage = Stage::on(topology, &file);
    stage.ask_all(WEB).expect_no_failure();
    assert!(healths.iter().all(|server| server.connections() > 0 && server.requests() == 0));
    let pings = stage.pings(30);
    healths[0].kill();
    stage.until_state("backend-1", "down");
    // It lives, and so do its connections: `on_down: keep`.
    let so_far = pings.report().samples.len();
    crate::stage::until("connections go on", || pings.report().samples.len() > so_far + 100);
    let live = pings.stop();
    live.expect_no_failure();
    assert_eq!(names(&live), ["backend-1", "backend-2"]);
    let report = stage.ask_all(WEB);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-2"]);
}

#[test]
fn a_service_whose_backends_were_never_there_refuses_and_serves_as_soon_as_one_is() {
    let topology = Topology::two_arms(1).unwrap();
    let tidegate = crate::stage::launch(&topology.gateway, &web(&[0]).file()).start().unwrap();
    let report = Load::new(Topology::sources()[..10].to_vec(), WEB).once(&topology.client);
    assert!(report.failures().all(|sample| sample.outcome.as_ref().unwrap_err().contains("refused")), "{report}");
    assert_eq!(report.failures().count(), 10);
    let servers = crate::stage::serve(&topology);
    let stage = Stage { tidegate, servers, topology };
    stage.until_state("backend-1", "up");
    stage.ask_some(WEB, 10).expect_no_failure();
}

#[test]
fn a_failing_backend_costs_requests_only_until_it_is_taken_out() {
    let mut stage = Stage::two_arms(3, &web(&[0, 1, 2]).file());
    let traffic = Load::new(Topology::sources(), WEB).start(stage.client());
    stage.servers[2].kill();
    stage.until_state("backend-3", "down");
    let out = std::time::Instant::now();
    let enough = traffic.requests() + 300;
    crate::stage::until("requests go on", || traffic.requests() > enough);
    stage.servers[2].restart().unwrap();
    stage.until_state("backend-3", "up");
    stage.until_served_by("backend-3");
    let report = traffic.stop().since(out);
    report.expect_no_failure();
}
