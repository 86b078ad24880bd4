//! The test kit itself: hosts that reach each other, and nothing left behind. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod driver;

use std::{
    fs,
    net::SocketAddrV4,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use testkit::{Connection, Gateway, Load, Pings, Process, Server, Topology, Wire, need_root};

fn web(index: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Topology::backend_address(index), 8080)
}

fn topology(make: fn(u8) -> anyhow::Result<Topology>, backends: u8) -> (Topology, Vec<Server>) {
    let topology = make(backends).unwrap();
    let servers = (0..backends).map(|i| Server::start(&topology.backends[usize::from(i)], web(i)).unwrap()).collect();
    (topology, servers)
}

#[test]
fn every_client_address_reaches_a_backend_through_two_nics() {
    let (topology, _servers) = topology(Topology::two_arms, 2);
    let report = Load::new(Topology::sources(), web(1)).once(&topology.client);
    report.expect_no_failure();
    assert_eq!(report.samples.len(), Topology::sources().len());
    assert_eq!(report.spread().into_keys().map(|name| name.to_string()).collect::<Vec<_>>(), ["backend-2"]);
}

#[test]
fn every_client_address_reaches_a_backend_through_one_nic() {
    let (topology, _servers) = topology(Topology::one_arm, 2);
    Load::new(Topology::sources(), web(0)).once(&topology.client).expect_no_failure();
}

#[test]
fn big_transfers_arrive_whole_in_both_directions() {
    let (topology, _servers) = topology(Topology::two_arms, 1);
    let source = SocketAddrV4::new(Topology::sources()[0], 0);
    let connection = Connection::open(&topology.client, source, web(0)).unwrap();
    connection.download(10_000_000).unwrap();
    connection.upload(10_000_000).unwrap();
    assert_eq!(connection.ask().unwrap().client, connection.local());
}

#[test]
fn a_killed_server_refuses_and_a_returned_one_serves() {
    let (topology, mut servers) = topology(Topology::two_arms, 1);
    let pings = Pings::start(&topology.client, &Topology::sources()[..3], web(0), Duration::from_millis(5)).unwrap();
    let traffic = Load::new(Topology::sources(), web(0)).start(&topology.client);
    std::thread::sleep(Duration::from_millis(200));
    let killed = Instant::now();
    servers[0].kill();
    std::thread::sleep(Duration::from_millis(200));
    servers[0].restart().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let report = traffic.stop();
    let refused = report.failures().filter(|sample| sample.outcome.as_ref().unwrap_err().contains("refused")).count();
    assert!(refused > 0, "{report}");
    let disturbed = report.disturbed_for(killed);
    assert!(
        disturbed > Duration::from_millis(100) && disturbed < Duration::from_millis(400),
        "{disturbed:?}; {report}"
    );
    assert_eq!(pings.stop().failures().count(), 3, "long connections end with their server");
}

#[test]
fn a_frame_made_by_hand_is_seen_on_the_other_side() {
    let (topology, _servers) = topology(Topology::two_arms, 1);
    let (client, gateway) = (&topology.client, &topology.gateway.host);
    let (sent, seen) = (Wire::open(client, "eth0").unwrap(), Wire::open(gateway, "eth0").unwrap());
    let frame = [&gateway.mac("eth0").unwrap()[..], &client.mac("eth0").unwrap(), &[0x88, 0xb5], &[7; 50]].concat();
    sent.send(&frame).unwrap();
    let arrived = seen.next(Duration::from_secs(2), |frame| frame[12..14] == [0x88, 0xb5]).unwrap();
    assert_eq!(arrived, Some(frame));
    assert_eq!(seen.collect(Duration::from_millis(50), |frame| frame[12..14] == [0x88, 0xb5]).unwrap().len(), 0);
}

#[test]
fn neighbours_can_be_fixed_and_forgotten() {
    let (topology, _servers) = topology(Topology::two_arms, 1);
    let ask = || Load::new(Topology::sources()[..1].to_vec(), web(0)).once(&topology.client);
    topology.gateway.host.neighbour("eth1", Topology::backend_address(0), [2, 0, 0, 0, 0, 9]).unwrap();
    assert_eq!(ask().failures().count(), 1, "frames go to a neighbour that is not there");
    topology.gateway.host.forget_neighbours("eth1").unwrap();
    ask().expect_no_failure();
}

#[test]
fn a_room_has_its_own_files_pins_and_devices() {
    need_root().unwrap();
    let gateway = Gateway::new(&[]).unwrap();
    gateway.room.write("hello", "from outside").unwrap();
    gateway.room.replace("hello", "replaced").unwrap();
    let script = "cat /run/hello; ls /sys/class/net; mkdir /sys/fs/bpf/pin; echo back > /run/answer";
    let mut shell = gateway.start("/bin/sh".as_ref(), ["-c", script]).unwrap();
    let finished = shell.wait(Duration::from_secs(5)).unwrap();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(0), "replacedlo\n"), "{finished:?}");
    assert_eq!(fs::read_to_string(gateway.room.outside("answer")).unwrap(), "back\n");
    assert!(gateway.room.pins_outside("pin").is_dir(), "pins outlive the process that made them");
    assert!(!fs::exists("/run/hello").unwrap() && !fs::exists("/sys/fs/bpf/pin").unwrap());
}

#[test]
fn a_process_can_lack_a_capability() {
    need_root().unwrap();
    let gateway = Gateway::new(&[]).unwrap();
    let arguments = ["CapEff", "/proc/self/status"];
    let lacking = [Process::CAP_NET_ADMIN, Process::CAP_BPF];
    let mut grep = gateway.start_without("/bin/grep".as_ref(), arguments, &lacking).unwrap();
    let said = grep.wait(Duration::from_secs(5)).unwrap().stdout;
    let effective = u64::from_str_radix(said.trim_start_matches("CapEff:").trim(), 16).unwrap();
    assert_eq!(effective & (1 << 12 | 1 << 39), 0, "{said}");
    assert_ne!(effective & (1 << Process::CAP_SYS_ADMIN), 0, "{said}");
}

#[test]
fn what_a_killed_test_started_dies_with_it() {
    need_root().unwrap();
    let gateway = Gateway::new(&[]).unwrap();
    // This test again, as a process that is killed while it holds a topology and a child.
    if std::env::var_os("HOLD_A_TOPOLOGY").is_some() {
        let topology = Topology::two_arms(1).unwrap();
        let child = topology.gateway.start("/bin/sleep".as_ref(), ["1000"]).unwrap();
        fs::write(std::env::var_os("HOLD_A_TOPOLOGY").unwrap(), child.pid().to_string()).unwrap();
        std::thread::sleep(Duration::from_secs(1000));
    }
    let told = gateway.room.outside("pid");
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "what_a_killed_test_started_dies_with_it", "--nocapture"])
        .env("HOLD_A_TOPOLOGY", fs::canonicalize("/proc/self").unwrap().join(told.strip_prefix("/proc/self").unwrap()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let child = loop {
        match fs::read_to_string(&told) {
            Ok(pid) if !pid.is_empty() => break pid,
            _ if Instant::now() > deadline => panic!("the process did not say what it started"),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let alive = || fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(alive());
    holder.kill().unwrap();
    holder.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while alive() {
        assert!(Instant::now() < deadline, "process {child} outlived the test that started it");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_process_is_killed_when_it_is_dropped() {
    need_root().unwrap();
    let gateway = Gateway::new(&[]).unwrap();
    let child: Process = gateway.start("/bin/sleep".as_ref(), ["1000"]).unwrap();
    let stat = format!("/proc/{}", child.pid());
    assert!(fs::exists(&stat).unwrap());
    drop(child);
    assert!(!fs::exists(&stat).unwrap());
}
