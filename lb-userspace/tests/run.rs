//! The binary's `run` from its first instant to its last, where something goes wrong on the way. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod space;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use space::{Space, program, set_up, veth};

const FILE: &str = "version: 1\nservices:\n  web: {listen: 203.0.113.10:80, health: none, backends: [10.0.0.11]}\n";

/// A controller on `eth0` of this thread's namespaces, killed where a test fails.
struct Run {
    child: Child,
    log: PathBuf,
}

impl Run {
    fn start(space: &Space, directory: &Path, stdout: File) -> Self {
        let (file, log) = (directory.join("f.yaml"), directory.join("log"));
        fs::write(&file, FILE).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(["run", "--iface", "eth0", "--xdp", "generic", "--config"])
            .arg(file)
            .arg("--pin-dir")
            .arg(space.pin_dir())
            .arg("--socket")
            .arg(directory.join("s"))
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn says(&mut self, text: &str) {
        let log = self.log.clone();
        self.until(text, || fs::read_to_string(&log).unwrap().contains(text));
    }

    fn until(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_so() {
            let log = || fs::read_to_string(&self.log).unwrap();
            assert_eq!(self.child.try_wait().unwrap(), None, "it ended before {what}:\n{}", log());
            assert!(start.elapsed() < Duration::from_secs(15), "never {what}:\n{}", log());
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// TERM, and the exit code.
    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn space() -> (Space, tempfile::TempDir) {
    let space = Space::enter();
    veth("eth0", "peer0");
    set_up("eth0");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    (space, tempfile::tempdir().unwrap())
}

#[test]
fn a_ready_line_that_nobody_takes_ends_nothing() {
    let (space, directory) = space();
    let mut run = Run::start(&space, directory.path(), File::options().write(true).open("/dev/full").unwrap());
    run.says("ready: 1 service");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(run.child.try_wait().unwrap(), None);
    assert_eq!(run.stop(), Some(0));
    assert_ne!(program("eth0"), 0, "the packet path stays");
}

#[test]
fn a_first_start_that_is_stopped_before_it_is_ready_leaves_nothing() {
    let (space, directory) = space();
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    let mut run = Run::start(&space, directory.path(), File::create("/dev/null").unwrap());
    run.says("sysctl -w net.ipv4.ip_forward=1");
    assert_eq!(run.stop(), Some(0));
    assert_eq!(program("eth0"), 0);
    assert!(!space.pin_dir().exists() && !directory.path().join("s").exists());
}

#[test]
fn a_signal_during_the_start_waits_for_its_end() {
    let (space, directory) = space();
    let mut run = Run::start(&space, directory.path(), File::create("/dev/null").unwrap());
    run.until("pins", || space.pin_dir().join("v2").exists());
    run.signal(Signal::SIGHUP);
    run.says("ready: 1 service");
    assert_eq!(run.stop(), Some(0));
}
