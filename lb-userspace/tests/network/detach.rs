//! Everything taken away, and nothing left.

use std::fs;

use testkit::{Host, Topology};

use crate::{
    file::{WEB, web},
    stage::{SOON, Stage, launch},
};

/// Panics where a program is still attached to a NIC of the gateway, or a pin is left.
#[track_caller]
fn expect_nothing_left(topology: &Topology) {
    assert!(!fs::exists(topology.gateway.room.pins_outside("tidegate")).unwrap(), "pins are left");
    for nic in &topology.gateway.nics {
        // The driver takes one program only.
        topology.gateway.host.pass_everything(nic).unwrap();
    }
}

#[test]
fn detach_with_a_running_controller_ends_it_and_leaves_nothing() {
    let mut stage = Stage::two_arms(1, &web(&[0]).file());
    stage.ask_some(WEB, 10).expect_no_failure();
    let detach = stage.tidegate.command(&["detach"]).unwrap();
    assert_eq!((detach.code(), detach.stdout.as_str()), (Some(0), "detached\n"), "{detach:?}");
    let ended = stage.tidegate.process().wait(SOON).unwrap();
    assert_eq!(ended.code(), Some(0), "{ended:?}");
    assert!(stage.connect(0, WEB).is_err(), "nobody balances any more");
    expect_nothing_left(&stage.topology);
    for _ in 0..2 {
        let again = stage.tidegate.command(&["detach"]).unwrap();
        assert_eq!((again.code(), again.stdout.as_str()), (Some(0), "nothing was attached\n"), "{again:?}");
    }
}

#[test]
fn detach_without_a_controller_works_from_the_pins() {
    for kill in [false, true] {
        let mut stage = Stage::two_arms(1, &web(&[0]).file());
        if kill {
            stage.tidegate.process().kill();
        } else {
            stage.tidegate.process().signal(nix::sys::signal::Signal::SIGTERM).unwrap();
            stage.tidegate.process().wait(SOON).unwrap();
        }
        stage.ask_some(WEB, 10).expect_no_failure();
        let detach = stage.tidegate.command(&["detach"]).unwrap();
        assert_eq!((detach.code(), detach.stdout.as_str()), (Some(0), "detached\n"), "{detach:?}");
        expect_nothing_left(&stage.topology);
    }
}

#[test]
fn detach_where_nothing_was_ever_attached_is_no_fault() {
    let topology = Topology::two_arms(1).unwrap();
    let detach = launch(&topology.gateway, "").command(&["detach"]).unwrap();
    assert_eq!((detach.code(), detach.stdout.as_str()), (Some(0), "nothing was attached\n"), "{detach:?}");
    expect_nothing_left(&topology);
}

#[test]
fn detach_on_exit_takes_the_packet_path_along() {
    let start = |gateway: &_| launch(gateway, &web(&[0]).file()).argument("--detach-on-exit");
    let Stage { tidegate, servers: _servers, topology } = Stage::with(Topology::two_arms(1).unwrap(), start);
    let stopped = tidegate.stop().unwrap();
    assert_eq!(stopped.code(), Some(0));
    // What our crates have to say of a socket that is closed is nothing to wake anybody for.
    let noise = ["NetlinkMessage", "failed to forward"];
    assert!(!noise.iter().any(|noise| stopped.stderr.contains(noise)), "{}", stopped.stderr);
    expect_nothing_left(&topology);
}

#[test]
fn a_start_after_detach_serves_again() {
    let mut stage = Stage::two_arms(2, &web(&[0, 1]).file());
    let again = stage.tidegate.launch();
    for _ in 0..2 {
        assert_eq!(stage.tidegate.command(&["detach"]).unwrap().code(), Some(0));
        stage.tidegate.process().wait(SOON).unwrap();
        stage.tidegate = again.clone().start().unwrap();
        stage.ask_some(WEB, 20).expect_no_failure();
    }
}

#[test]
fn connections_to_backends_survive_detach() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    let direct = stage.connect(0, crate::file::endpoint(0)).unwrap();
    assert_eq!(stage.tidegate.command(&["detach"]).unwrap().code(), Some(0));
    direct.download(1 << 20).unwrap();
    stage.ask_some(crate::file::endpoint(0), 20).expect_no_failure();
}

#[test]
fn a_nic_that_is_not_named_any_more_is_set_free() {
    let mut stage = Stage::two_arms(1, &web(&[0]).file());
    let again = stage.tidegate.launch().interfaces(&["eth0"]);
    stage.tidegate.process().kill();
    stage.tidegate = again.spawn().unwrap();
    let free = |host: &Host, nic: &str| host.pass_everything(nic).is_ok();
    crate::stage::until("eth1 is free", || free(stage.gateway(), "eth1"));
    assert!(!free(stage.gateway(), "eth0"));
}
