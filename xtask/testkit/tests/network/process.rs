//! Processes on a gateway: what they see, and that they never outlive their test.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use testkit::{Gateway, Process, Tidegate, Topology};

/// The program that these tests start.
const VISITOR: &str = env!("CARGO_BIN_EXE_visitor");
const SOON: Duration = Duration::from_secs(5);

/// Where the process below writes the number of its child.
const HOLD: &str = "HOLD_A_TOPOLOGY";

fn start(gateway: &Gateway, what: &str) -> Process {
    gateway.start(Path::new(VISITOR), [what]).unwrap()
}

#[test]
fn a_room_has_its_own_files_pins_and_devices() {
    let gateway = Gateway::new(&[]).unwrap();
    gateway.room.write("hello", "from outside").unwrap();
    gateway.room.replace("hello", "replaced").unwrap();
    let finished = start(&gateway, "look").wait(SOON).unwrap();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(0), "replaced lo\n"), "{finished:?}");
    assert_eq!(fs::read_to_string(gateway.room.outside("answer")).unwrap(), "back");
    assert!(gateway.room.pins_outside("pin").is_dir(), "pins outlive the process that made them");
    assert!(!fs::exists("/run/hello").unwrap() && !fs::exists("/sys/fs/bpf/pin").unwrap());
}

#[test]
fn a_process_can_lack_a_capability() {
    let gateway = Gateway::new(&[]).unwrap();
    let lacking = [Process::CAP_NET_ADMIN, Process::CAP_BPF];
    let mut visitor = gateway.start_without(Path::new(VISITOR), ["capabilities"], &lacking).unwrap();
    let said = visitor.wait(SOON).unwrap().stdout;
    let effective = said.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let effective = u64::from_str_radix(effective, 16).unwrap();
    assert_eq!(effective & (1 << Process::CAP_NET_ADMIN | 1 << Process::CAP_BPF), 0, "{said}");
    assert_ne!(effective & (1 << Process::CAP_SYS_ADMIN), 0, "{said}");
}

#[test]
fn the_balancer_is_started_followed_asked_and_stopped() {
    let gateway = Gateway::new(&["eth0"]).unwrap();
    let mut tidegate = Tidegate::on(&gateway, VISITOR).config("one").start().unwrap();
    assert_eq!(tidegate.says("ready", 0, SOON).unwrap(), "ready with one");
    tidegate.edit("two").unwrap();
    let said = tidegate.log().len();
    tidegate.process().signal(Signal::SIGHUP).unwrap();
    assert_eq!(tidegate.says("again", said, SOON).unwrap(), "again with two");
    let asked = tidegate.ask(&["backends"]).unwrap();
    assert_eq!(asked["arguments"], serde_json::json!(["backends", "--json", "--socket", "/run/admin.sock"]));
    let detach = tidegate.command(&["detach"]).unwrap();
    assert!(detach.stdout.contains("/sys/fs/bpf/tidegate"), "{detach:?}");
    let again = tidegate.launch();
    assert_eq!(tidegate.stop().unwrap().code(), Some(0));
    let mut tidegate = again.start().unwrap();
    assert_eq!(tidegate.says("ready", 0, SOON).unwrap(), "ready with two", "a restart keeps the file");
    tidegate.process().kill();
}

#[test]
fn a_process_is_killed_when_it_is_dropped() {
    let gateway = Gateway::new(&[]).unwrap();
    let child = start(&gateway, "sleep");
    let stat = format!("/proc/{}", child.pid());
    assert!(fs::exists(&stat).unwrap());
    drop(child);
    assert!(!fs::exists(&stat).unwrap());
}

#[test]
fn what_a_killed_test_started_dies_with_it() {
    // This test again, as a process that is killed while it holds a topology and a child.
    if let Some(told) = std::env::var_os(HOLD) {
        let topology = Topology::two_arms(1).unwrap();
        let child = start(&topology.gateway, "sleep");
        fs::write(told, child.pid().to_string()).unwrap();
        std::thread::sleep(Duration::from_secs(1000));
    }
    let gateway = Gateway::new(&[]).unwrap();
    let told = gateway.room.outside("pid");
    let ours = Path::new("/proc").join(std::process::id().to_string());
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "process::what_a_killed_test_started_dies_with_it", "--nocapture"])
        .env(HOLD, ours.join(told.strip_prefix("/proc/self").unwrap()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let until = |what: &str, mut so: Box<dyn FnMut() -> bool + '_>| {
        let deadline = Instant::now() + 4 * SOON;
        while !so() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let child = || fs::read_to_string(&told).unwrap_or_default();
    until("the process did not say what it started", Box::new(|| !child().is_empty()));
    let stat = format!("/proc/{}/stat", child());
    let alive = || fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    assert!(alive());
    holder.kill().unwrap();
    holder.wait().unwrap();
    until("the child outlived the test that started it", Box::new(|| !alive()));
}
