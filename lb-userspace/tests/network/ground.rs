//! A host that is not ready to be a gateway: each fault a message with its remedy, and nothing half done.

use std::{fs, thread};

use nix::{
    mount::{MntFlags, umount2},
    sched::{CloneFlags, setns, unshare},
};
use testkit::{Process, Room, Topology};

use crate::{
    file::{WEB, web},
    stage::{SOON, Stage, launch, say, serve, until},
};

/// Panics where a refused start has left something.
#[track_caller]
pub(crate) fn expect_untouched(topology: &Topology) {
    assert!(!fs::exists(topology.gateway.room.pins_outside("tidegate")).unwrap(), "pins are left");
    assert!(!fs::exists(topology.gateway.room.outside("admin.sock")).unwrap(), "the socket is left");
    for nic in &topology.gateway.nics {
        topology.gateway.host.pass_everything(nic).unwrap();
    }
}

#[test]
fn a_missing_nic_is_named_with_those_that_are_there() {
    let topology = Topology::two_arms(1).unwrap();
    let refused = launch(&topology.gateway, &web(&[0]).file()).interfaces(&["eth0", "eth9"]).refused().unwrap();
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("eth9: no such interface; there are eth0, eth1, lo"), "{refused:?}");
    expect_untouched(&topology);
}

#[test]
fn a_missing_capability_is_named() {
    let topology = Topology::two_arms(1).unwrap();
    let start = || launch(&topology.gateway, &web(&[0]).file());
    let refused = start().without(Process::CAP_NET_ADMIN).refused().unwrap();
    assert_eq!(refused.code(), Some(77), "{refused:?}");
    assert!(refused.stderr.contains("CAP_NET_ADMIN is missing"), "{refused:?}");
    let start = start().without(Process::CAP_SYS_ADMIN).without(Process::CAP_BPF).without(Process::CAP_PERFMON);
    let refused = start.refused().unwrap();
    assert_eq!(refused.code(), Some(77), "{refused:?}");
    assert!(refused.stderr.contains("CAP_BPF and CAP_PERFMON are missing"), "{refused:?}");
    expect_untouched(&topology);
}

#[test]
fn three_capabilities_are_enough() {
    let start = |gateway: &_| launch(gateway, &web(&[0]).file()).without(Process::CAP_SYS_ADMIN);
    let stage = Stage::with(Topology::two_arms(1).unwrap(), start);
    stage.ask_some(WEB, 20).expect_no_failure();
}

#[test]
fn a_program_of_somebody_else_is_named_and_left_alone() {
    let topology = Topology::two_arms(1).unwrap();
    let servers = serve(&topology);
    topology.gateway.host.pass_everything("eth1").unwrap();
    let refused = launch(&topology.gateway, &web(&[0]).file()).refused().unwrap();
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("eth1: another XDP program is attached (testkit, id "), "{refused:?}");
    assert!(refused.stderr.contains("ip link set dev eth1 xdp off"), "{refused:?}");
    assert!(topology.gateway.host.pass_everything("eth1").is_err(), "the program is still there");
    assert!(!fs::exists(topology.gateway.room.pins_outside("tidegate")).unwrap());
    topology.gateway.host.pass_everything("eth0").unwrap();
    drop(servers);
}

#[test]
fn the_program_of_another_tidegate_is_named_as_such() {
    let stage = Stage::two_arms(1, &web(&[0]).file());
    let other = "run --config /run/tidegate.yaml --iface eth0 --socket /run/other.sock --pin-dir /sys/fs/bpf/other";
    let refused = say(&stage.topology.gateway, other);
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("it is a tidegate's with other pins"), "{refused:?}");
    assert!(!fs::exists(stage.topology.gateway.room.pins_outside("other")).unwrap());
    stage.ask_some(WEB, 20).expect_no_failure();
}

#[test]
fn a_host_that_does_not_forward_is_not_ready_until_it_does() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.host.sysctl("net/ipv4/ip_forward", "0").unwrap();
    let servers = serve(&topology);
    let tidegate = launch(&topology.gateway, &web(&[0]).file()).spawn().unwrap();
    tidegate.says("sysctl -w net.ipv4.ip_forward=1", 0, SOON).unwrap();
    let mut stage = Stage { tidegate, servers, topology };
    until("it can be asked", || stage.tidegate.command(&["status"]).unwrap().code() == Some(0));
    stage.until_state("backend-1", "up");
    let status = stage.tidegate.ask(&["status"]).unwrap();
    assert_eq!(status["ready"], false, "{status:#}");
    assert!(status["faults"][0].as_str().unwrap().contains("ip_forward is 0"), "{status:#}");
    assert!(stage.tidegate.process().stdout.is_empty(), "it says `ready` only when it is");
    stage.gateway().sysctl("net/ipv4/ip_forward", "1").unwrap();
    let said = stage.tidegate.process().stdout.wait_for("ready: 1 service on eth0 (native), eth1 (native)", 0, SOON);
    assert!(said.is_some(), "{}", stage.tidegate.log().text());
    let status = stage.tidegate.ask(&["status"]).unwrap();
    assert_eq!((&status["ready"], &status["faults"]), (&true.into(), &serde_json::json!([])), "{status:#}");
    stage.ask_some(WEB, 20).expect_no_failure();
}

#[test]
fn settings_that_may_do_harm_are_warnings_with_their_remedy() {
    let topology = Topology::two_arms(1).unwrap();
    topology.gateway.host.sysctl("net/ipv4/conf/eth0/rp_filter", "1").unwrap();
    topology.gateway.host.sysctl("net/ipv4/conf/eth1/send_redirects", "1").unwrap();
    let stage = Stage::on(topology, &web(&[0]).file());
    let status = stage.tidegate.ask(&["status"]).unwrap();
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("sysctl -w net.ipv4.conf.eth0.rp_filter=2"), "{warnings}");
    assert!(warnings.contains("eth1: send_redirects is on"), "{warnings}");
    assert!(stage.tidegate.log().text().contains("eth0: rp_filter is strict"));
    stage.ask_some(WEB, 20).expect_no_failure();
}

#[test]
fn a_route_to_a_backend_by_a_nic_that_is_not_attached_is_a_loud_fault() {
    let start = |gateway: &_| launch(gateway, &web(&[0]).file()).interfaces(&["eth0"]);
    let stage = Stage::with(Topology::two_arms(1).unwrap(), start);
    let wanted = "its route leaves by eth1, which is not attached; add eth1 to node.interfaces or --iface";
    let status = stage.until_status("the fault is in status", |status| status["faults"].to_string().contains(wanted));
    assert!(status["faults"][0].as_str().unwrap().starts_with("web: backend 10.0.1.11:8080 gets no traffic"));
    assert!(stage.tidegate.log().text().contains(wanted));
    stage.until_state("backend-1", "down");
    assert!(stage.connect(0, WEB).is_err());
}

#[test]
fn a_bpf_file_system_is_mounted_where_there_is_none() {
    let topology = Topology::two_arms(1).unwrap();
    unmount_pins(&topology.gateway.room);
    let mut stage = Stage::on(topology, &web(&[0]).file());
    assert!(stage.tidegate.log().text().contains("mounted a BPF file system on /sys/fs/bpf"));
    let again = stage.tidegate.launch();
    let pings = stage.pings(10);
    stage.tidegate.process().kill();
    stage.tidegate = again.start().unwrap();
    stage.ask_some(WEB, 20).expect_no_failure();
    pings.stop().expect_no_failure();
    assert_eq!(stage.tidegate.command(&["detach"]).unwrap().code(), Some(0));
}

#[test]
fn a_missing_bpf_file_system_that_cannot_be_mounted_is_named_with_the_command() {
    let topology = Topology::two_arms(1).unwrap();
    unmount_pins(&topology.gateway.room);
    let start = launch(&topology.gateway, &web(&[0]).file()).without(Process::CAP_SYS_ADMIN);
    let refused = start.refused().unwrap();
    assert!(refused.code().is_some_and(|code| code == 1 || code == 77), "{refused:?}");
    assert!(refused.stderr.contains("as root: `mount -t bpf bpf /sys/fs/bpf`"), "{refused:?}");
    expect_untouched(&topology);
}

/// Takes the room's BPF file system away.
fn unmount_pins(room: &std::sync::Arc<Room>) {
    let room = room.clone();
    let unmounted = thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS)?;
        setns(room.as_ref(), CloneFlags::CLONE_NEWNS)?;
        umount2("/sys/fs/bpf", MntFlags::MNT_DETACH)
    });
    unmounted.join().unwrap().unwrap();
}
