//! Handshakes that a backend leaves unanswered or refuses: how soon another one has the client.

use std::time::Duration;

use testkit::{Report, Topology};

use crate::{
    file::{WEB, web},
    stage::{Stage, counter, names},
};

/// A client repeats its first SYN after a second.
const FIRST: Duration = Duration::from_millis(900);
/// Its second repetition would be three seconds after the first SYN.
const SECOND: Duration = Duration::from_millis(2900);

/// Two backends without probes, and some keys of the service.
fn file(keys: &str) -> String {
    web(&[0, 1]).unprobed().file().replace("    listen", &format!("    {keys}\n    listen"))
}

/// The neighbours of both backends are known for good, as probes of another service would keep them.
fn know_backends(topology: &Topology) {
    for (index, backend) in (0..).zip(&topology.backends) {
        let mac = backend.mac("eth0").unwrap();
        topology.gateway.host.neighbour("eth1", Topology::backend_address(index), mac).unwrap();
    }
}

/// Asks from many addresses, and sees that those of the second backend are served by the first at their first repetition.
fn expect_moved_at_the_first_repetition(stage: &Stage) -> Report {
    let repeated = counter(stage.client(), "Tcp", "RetransSegs");
    let report = stage.ask_some(WEB, 32);
    report.expect_no_failure();
    assert_eq!(names(&report), ["backend-1"]);
    let times = report.samples.iter().map(|sample| sample.ended - sample.began);
    let late: Vec<_> = times.filter(|time| *time > FIRST).collect();
    eprintln!("{} of 32 were moved, and answered after {:?} at most", late.len(), late.iter().max());
    assert!(late.len() > 4 && late.iter().all(|time| *time < SECOND), "{late:?}");
    assert_eq!(counter(stage.client(), "Tcp", "RetransSegs") - repeated, late.len() as u64);
    let packets = stage.tidegate.ask(&["status"]).unwrap()["packets"].clone();
    assert_eq!(packets["redispatched"], late.len(), "{packets}");
    report
}

#[test]
fn clients_of_a_backend_that_died_in_silence_have_another_at_their_first_repetition() {
    let topology = Topology::two_arms(2).unwrap();
    know_backends(&topology);
    topology.backends[1].forget_address("eth0", Topology::backend_address(1), 24).unwrap();
    expect_moved_at_the_first_repetition(&Stage::serving(topology, &file(""), &[0]));
}

#[test]
fn clients_of_a_backend_whose_host_is_gone_have_another_at_their_first_repetition() {
    let topology = Topology::two_arms(2).unwrap();
    topology.backends[1].down("eth0").unwrap();
    expect_moved_at_the_first_repetition(&Stage::serving(topology, &file(""), &[0]));
}

#[test]
fn clients_that_one_backend_refuses_have_another_where_the_file_says_so() {
    let mut stage = Stage::two_arms(2, &file("retry: refused"));
    stage.servers[1].kill();
    let report = expect_moved_at_the_first_repetition(&stage);
    let late = report.samples.iter().filter(|sample| sample.ended - sample.began > FIRST).count();
    let refused = stage.tidegate.ask(&["status"]).unwrap()["packets"]["refused"].clone();
    assert_eq!(refused, late);
}

#[test]
fn clients_that_one_backend_refuses_are_refused_at_once_where_the_file_says_nothing() {
    let mut stage = Stage::two_arms(2, &file(""));
    stage.servers[1].kill();
    let report = stage.ask_some(WEB, 32);
    let refused: Vec<_> = report.failures().collect();
    assert!(refused.len() > 4, "{report}");
    for sample in refused {
        assert!(sample.outcome.as_ref().unwrap_err().contains("refused"), "{report}");
        assert!(sample.ended - sample.began < FIRST, "{report}");
    }
    assert_eq!(names(&report), ["backend-1"]);
}
