//! Where a balancer lives: several on one machine, and the ways to name the place.

use std::{fs, net::SocketAddrV4};

use serde_json::Value;
use testkit::{Host, Load, Server, Topology, VIP};

use crate::{
    file::{WEB, web},
    stage::{PROGRAM, SOON, Stage, launch, say, serve},
};

#[test]
fn two_balancers_live_side_by_side_on_one_gateway() {
    let topology = Topology::two_arms(1).unwrap();
    let (gateway, other) = (&topology.gateway.host, Host::new("other").unwrap());
    // Clients and a backend of the second one, both on one NIC of its own.
    gateway.connect("eth2", &other, "eth0").unwrap();
    other.pass_everything("eth0").unwrap();
    gateway.addresses("eth2", [[198, 51, 100, 1].into()], 24).unwrap();
    gateway.whole_checksums("eth2").unwrap();
    other.addresses("eth0", [[198, 51, 100, 10].into(), [198, 51, 100, 11].into()], 24).unwrap();
    other.route([0; 4].into(), 0, [198, 51, 100, 1].into()).unwrap();
    other.whole_checksums("eth0").unwrap();
    let backend = SocketAddrV4::new(Topology::backend_address(0), 9000);
    let _second = Server::start(&topology.backends[0], backend).unwrap();
    let file = format!("version: 1\nservices: {{api: {{listen: \"{VIP}:80\", backends: [\"{backend}\"]}}}}\n");
    topology.gateway.room.write("second.yaml", &file).unwrap();
    let places = "--config /run/second.yaml --socket /run/second.sock --pin-dir /sys/fs/bpf/second";
    let stage = Stage::with(topology, |gateway| launch(gateway, &web(&[0]).file()));
    let arguments = format!("run --iface eth2 {places}");
    let gateway = &stage.topology.gateway;
    let second = gateway.start(PROGRAM.as_ref(), arguments.split_whitespace()).unwrap();
    assert!(second.stdout.wait_for("ready", 0, SOON).is_some(), "{}", second.stderr.text());
    let services = |places: &str| {
        let said = say(gateway, &format!("services --json {places}"));
        let services: Value = serde_json::from_str(&said.stdout).unwrap();
        services["services"][0]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!([services("--socket /run/admin.sock"), services(places)], ["web", "api"]);
    stage.ask_some(WEB, 20).expect_no_failure();
    let said = say(gateway, &format!("detach {places}"));
    assert_eq!((said.code(), said.stdout.as_str()), (Some(0), "detached\n"), "{said:?}");
    stage.ask_some(WEB, 20).expect_no_failure();
    assert!(fs::exists(gateway.room.pins_outside("tidegate")).unwrap());
    assert!(!fs::exists(gateway.room.pins_outside("second")).unwrap());
}

#[test]
fn the_file_names_the_socket_and_the_nics_where_no_flag_does() {
    let topology = Topology::two_arms(1).unwrap();
    let _servers = serve(&topology);
    let gateway = &topology.gateway;
    let node = "node: {interfaces: [eth0, eth1], max_flows: 20000}\nadmin: {socket: /run/named.sock}";
    gateway.room.write("own.yaml", &web(&[0]).file().replace("node: {max_flows: 20000}", node)).unwrap();
    let arguments = ["run", "--config", "/run/own.yaml", "--pin-dir", "/sys/fs/bpf/own"];
    let mut tidegate = gateway.start(PROGRAM.as_ref(), arguments).unwrap();
    assert!(tidegate.stdout.wait_for("ready", 0, SOON).is_some(), "{}", tidegate.stderr.text());
    Load::new(Topology::sources()[..20].to_vec(), WEB).once(&topology.client).expect_no_failure();
    for command in ["status --config /run/own.yaml", "status --socket /run/named.sock"] {
        assert_eq!(say(gateway, command).code(), Some(0), "{command}");
    }
    // Who means other pins does not end this one.
    let other = say(gateway, "detach --config /run/own.yaml --pin-dir /sys/fs/bpf/nobody");
    assert_eq!((other.code(), other.stdout.as_str()), (Some(0), "nothing was attached\n"), "{other:?}");
    assert_eq!(tidegate.ended().unwrap(), None);
    let mine = say(gateway, "detach --config /run/own.yaml --pin-dir /sys/fs/bpf/own");
    assert_eq!((mine.code(), mine.stdout.as_str()), (Some(0), "detached\n"), "{mine:?}");
    assert_eq!(tidegate.wait(SOON).unwrap().code(), Some(0));
}

#[test]
fn pins_may_be_where_no_bpf_file_system_is_yet() {
    let topology = Topology::two_arms(1).unwrap();
    let servers = serve(&topology);
    let gateway = &topology.gateway;
    gateway.room.write("tidegate.yaml", &web(&[0]).file()).unwrap();
    let run = "run --config /run/tidegate.yaml --iface eth0 --iface eth1 --socket /run/admin.sock --pin-dir /run/pins";
    for _ in 0..2 {
        let mut tidegate = gateway.start(PROGRAM.as_ref(), run.split_whitespace()).unwrap();
        assert!(tidegate.stdout.wait_for("ready", 0, SOON).is_some(), "{}", tidegate.stderr.text());
        Load::new(Topology::sources()[..20].to_vec(), WEB).once(&topology.client).expect_no_failure();
        tidegate.kill();
        Load::new(Topology::sources()[..20].to_vec(), WEB).once(&topology.client).expect_no_failure();
    }
    let detach = say(gateway, "detach --socket /run/admin.sock --pin-dir /run/pins");
    assert_eq!((detach.code(), detach.stdout.as_str()), (Some(0), "detached\n"), "{detach:?}");
    assert!(!fs::exists(gateway.room.outside("pins")).unwrap(), "the directory and its mount are gone");
    for nic in ["eth0", "eth1"] {
        gateway.host.pass_everything(nic).unwrap();
    }
    drop(servers);
}

#[test]
fn a_restart_takes_another_way_to_attach_and_keeps_the_flow_table_that_is_there() {
    let mut stage = Stage::two_arms(2, &web(&[0, 1]).file());
    for (mode, wanted) in [("generic", "generic"), ("auto", "generic"), ("native", "native")] {
        let again = launch(&stage.topology.gateway, &web(&[0, 1]).file().replace("20000", "30000"));
        stage.tidegate.process().kill();
        stage.tidegate = again.argument("--xdp").argument(mode).start().unwrap();
        let status = stage.tidegate.ask(&["status"]).unwrap();
        let modes = status["interfaces"].as_array().unwrap().iter().map(|nic| nic["mode"].as_str().unwrap());
        assert_eq!(modes.collect::<Vec<_>>(), [wanted; 2], "--xdp {mode}");
        assert!(status["flows"]["max"].as_u64().unwrap() < 21_000, "{status:#}");
        let said = stage.tidegate.log().text();
        assert!(said.contains("max_flows is 30000, but the flow table there is made for 2"), "{said}");
        stage.ask_some(WEB, 40).expect_no_failure();
    }
}
