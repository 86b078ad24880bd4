//! Where pins may stand: on a bpffs that is there, on one that we mount, and nowhere else. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod space;

use std::{fs, path::Path, thread};

use caps::{CapSet, Capability};
use lb_userspace::datapath::{
    Datapath as _,
    kernel::{KernelDatapath, OpenError, Options, detach},
};
use nix::mount::{MsFlags, mount};
use space::{Space, program, run, veth};

fn mount_bpffs(path: &Path) {
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
}

fn mounts() -> String {
    fs::read_to_string("/proc/thread-self/mountinfo").unwrap()
}

#[test]
fn pins_on_a_file_system_that_is_there_leave_it_there() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let shared = space.pin_dir();
    fs::create_dir(&shared).unwrap();
    mount_bpffs(&shared);
    fs::create_dir(shared.join("others")).unwrap();
    let options = Options { pin_dir: shared.join("a/tidegate"), ..space.options(&["eth0"]) };
    drop(KernelDatapath::open(&options).unwrap());
    assert!(options.pin_dir.join("v2/links").is_dir());
    assert!(detach(&options.pin_dir).unwrap());
    assert!(!options.pin_dir.exists() && shared.join("others").is_dir());
    assert!(mounts().contains(shared.to_str().unwrap()));
    assert_eq!(program("eth0"), 0);

    // The root of the file system itself: nothing but our pins is taken away.
    let options = Options { pin_dir: shared.clone(), ..options };
    drop(KernelDatapath::open(&options).unwrap());
    assert!(detach(&options.pin_dir).unwrap());
    assert!(shared.join("others").is_dir() && !shared.join("v2").exists());
}

#[test]
fn names_with_dots_are_refused_before_the_kernel_does() {
    let space = Space::enter();
    fs::create_dir(space.pin_dir()).unwrap();
    mount_bpffs(&space.pin_dir());
    let options = Options { pin_dir: space.pin_dir().join("tide.gate"), ..space.options(&["lo"]) };
    let error = KernelDatapath::open(&options).err().unwrap().to_string();
    assert!(error.ends_with("has no names with dots, such as \"tide.gate\"; choose another --pin-dir"), "{error}");
}

#[test]
fn the_usual_place_is_mounted_when_it_is_asked_for() {
    let space = Space::enter();
    veth("eth0", "peer0");
    // A bare /sys of this test's own, in which nothing is mounted.
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
    let options = Options { pin_dir: "/sys/fs/bpf/tidegate".into(), ..space.options(&["eth0"]) };
    drop(KernelDatapath::open(&options).unwrap());
    assert!(mounts().contains("/sys/fs/bpf ") && options.pin_dir.join("v2").is_dir());
    assert!(detach(&options.pin_dir).unwrap());
    assert!(!options.pin_dir.exists());
    assert!(mounts().contains("/sys/fs/bpf "), "it is everyone's");
}

#[test]
fn a_directory_with_files_is_neither_hidden_nor_emptied() {
    let space = Space::enter();
    fs::create_dir_all(space.pin_dir().join("v2")).unwrap();
    fs::write(space.pin_dir().join("v2/precious"), "").unwrap();
    let error = KernelDatapath::open(&space.options(&["lo"])).err().unwrap().to_string();
    assert!(error.ends_with("holds files, and a mount would hide them; choose an empty --pin-dir"), "{error}");
    assert!(!detach(&space.pin_dir()).unwrap());
    assert!(space.pin_dir().join("v2/precious").is_file());
}

#[test]
fn two_starts_at_once_mount_once() {
    let space = Space::enter();
    veth("eth0", "peer0");
    for _ in 0..8 {
        let options = space.options(&["eth0"]);
        let open = || KernelDatapath::open(&options);
        let (one, other) = thread::scope(|scope| {
            let other = scope.spawn(open);
            (open(), other.join().unwrap())
        });
        let (first, second) = if one.is_ok() { (one, other) } else { (other, one) };
        let second = second.err().unwrap();
        assert!(!matches!(second, OpenError::NotPermitted(_)), "{second}");
        assert_eq!(mounts().matches(space.pin_dir().to_str().unwrap()).count(), 1);
        first.unwrap().detach().unwrap();
        assert!(!space.pin_dir().exists());
    }
}

#[test]
fn three_capabilities_are_enough_on_a_mounted_file_system() {
    let space = Space::enter();
    veth("eth0", "peer0");
    caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
    let error = KernelDatapath::open(&space.options(&["eth0"])).err().unwrap().to_string();
    let pins = space.pin_dir();
    assert_eq!(
        error,
        format!(
            "{0} is not on a BPF file system, and mounting one takes CAP_SYS_ADMIN; \
             as root: `mount -t bpf tidegate {0}`",
            pins.display()
        )
    );
    assert!(!pins.exists());
    caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
    fs::create_dir(&pins).unwrap();
    mount_bpffs(&pins);
    caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    datapath.flows().unwrap();
    drop(datapath);
    assert!(KernelDatapath::open(&space.options(&["eth0"])).unwrap().adopted());
    assert!(detach(&pins).unwrap());
    assert_eq!(program("eth0"), 0);
    caps::raise(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).unwrap();
}

#[test]
fn the_lock_is_of_the_pins_and_not_of_their_path() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let first = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    let other = space.pin_dir().with_file_name("other");
    std::os::unix::fs::symlink(space.pin_dir(), &other).unwrap();
    let options = Options { pin_dir: other.clone(), ..space.options(&["eth0"]) };
    assert!(matches!(KernelDatapath::open(&options), Err(OpenError::Occupied { pid: Some(_), .. })));
    drop(first);
    assert!(detach(&other).unwrap());
    assert!(!mounts().contains(space.pin_dir().to_str().unwrap()));
}

#[test]
fn it_opens_within_a_runtime_and_can_be_sent() {
    fn sendable(_: &impl Send) {}
    let space = Space::enter();
    veth("eth0", "peer0");
    run(async {
        let datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
        sendable(&datapath);
        tokio::task::yield_now().await;
        datapath.detach().unwrap();
    });
}
