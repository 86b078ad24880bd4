//! The packet path in this kernel: opened, adopted, refused and taken away, each in namespaces of its
//! own. Needs root.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod space;

use std::{fs, process};

use aya::maps::{Array, Map, MapData, xdp::DevMap};
use lb_common::{Nic, Reason, limits};
use lb_userspace::{
    datapath::{
        Datapath as _,
        kernel::{KernelDatapath, OpenError, detach},
    },
    model::XdpMode,
};
use nix::mount::{MsFlags, mount};
use space::{Space, bridge, delete, link, link_id, program, set_mtu, veth};

/// Why an open fails, as the operator reads it.
#[track_caller]
fn refusal(options: &lb_userspace::datapath::kernel::Options) -> String {
    match KernelDatapath::open(options) {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

/// No directory, no mount, no program.
#[track_caller]
fn nothing_is_left(space: &Space, nics: &[&str]) {
    assert!(!space.pin_dir().exists(), "{}", space.pin_dir().display());
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    assert!(!mounts.contains(space.pin_dir().to_str().unwrap()), "{mounts}");
    for nic in nics {
        assert_eq!(link(nic).xdp, None, "{nic}");
    }
}

#[test]
fn a_first_start_attaches_and_detach_leaves_nothing() {
    let space = Space::enter();
    veth("eth0", "peer0");
    veth("eth1", "peer1");
    let mut datapath = KernelDatapath::open(&space.options(&["eth0", "eth1", "eth0"])).unwrap();
    assert!(!datapath.adopted());
    let [first, second] = datapath.attached() else { panic!("{:?}", datapath.attached()) };
    assert_eq!((first.name.as_str(), first.mode, first.mac), ("eth0", "native", link("eth0").mac));
    assert_eq!((second.name.as_str(), second.ifindex), ("eth1", link("eth1").ifindex));
    assert_eq!(u32::from(second.nic), second.ifindex % 64);
    assert_eq!(datapath.reasons().unwrap(), [0; Reason::COUNT]);
    assert_eq!(datapath.flows().unwrap().max, 4096);

    drop(datapath);
    assert_ne!((program("eth0"), program("eth1")), (0, 0), "it goes on without us");

    assert!(detach(&space.pin_dir()).unwrap());
    nothing_is_left(&space, &["eth0", "eth1"]);
    assert!(!detach(&space.pin_dir()).unwrap(), "once more, and nothing to do");
}

#[test]
fn the_kernels_own_type_information_is_not_needed() {
    let space = Space::enter();
    veth("eth0", "peer0");
    // A kernel built without CONFIG_DEBUG_INFO_BTF, as far as a process can see. It still takes ours with the maps.
    mount(Some("tmpfs"), "/sys/kernel", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    assert!(!fs::exists("/sys/kernel/btf/vmlinux").unwrap());
    let mut datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    assert_eq!(datapath.reasons().unwrap(), [0; Reason::COUNT]);
    drop(datapath);
    assert!(KernelDatapath::open(&space.options(&["eth0"])).unwrap().adopted());
    assert!(detach(&space.pin_dir()).unwrap());
    nothing_is_left(&space, &["eth0"]);
}

#[test]
fn an_open_packet_path_takes_itself_away() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    assert!(matches!(detach(&space.pin_dir()), Err(OpenError::Occupied { .. })));
    datapath.detach().unwrap();
    nothing_is_left(&space, &["eth0"]);
}

#[test]
fn a_restart_puts_a_new_program_into_the_same_link() {
    let space = Space::enter();
    veth("eth0", "peer0");
    drop(KernelDatapath::open(&space.options(&["eth0"])).unwrap());
    let before = (program("eth0"), link_id(&space.pin_dir(), "eth0"));
    let datapath = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    assert!(datapath.adopted());
    assert_eq!(datapath.attached()[0].mode, "native");
    let after = (program("eth0"), link_id(&space.pin_dir(), "eth0"));
    assert!(after.0 != before.0 && after.1 == before.1, "{before:?} {after:?}");
}

/// The NICs that the packet path knows, each with its device at the same index.
fn nics(space: &Space) -> Vec<u32> {
    let map = |name: &str| {
        let data = MapData::from_pin(space.pin_dir().join("v2").join(name)).unwrap();
        Map::from_map_data(data).unwrap()
    };
    let nics: Array<_, Nic> = map("NICS").try_into().unwrap();
    let devices: DevMap<_> = map("DEVICES").try_into().unwrap();
    let there = (0..limits::NICS as u32).filter_map(|index| {
        let ifindex = nics.get(&index, 0).unwrap().ifindex;
        // An empty place of a DEVMAP is no key.
        assert_eq!(devices.get(index, 0).map_or(0, |device| device.if_index), ifindex);
        (ifindex != 0).then_some(ifindex)
    });
    there.collect()
}

#[test]
fn nics_come_and_go_between_starts() {
    let space = Space::enter();
    veth("eth0", "peer0");
    veth("eth1", "peer1");
    drop(KernelDatapath::open(&space.options(&["eth0"])).unwrap());
    drop(KernelDatapath::open(&space.options(&["eth1"])).unwrap());
    assert_eq!(program("eth0"), 0, "named no more");
    assert_ne!(program("eth1"), 0);
    assert_eq!(nics(&space), [link("eth1").ifindex]);

    // The same name, another NIC: its link is attached to nothing.
    delete("eth1");
    veth("eth1", "peer1");
    let datapath = KernelDatapath::open(&space.options(&["eth0", "eth1"])).unwrap();
    assert_ne!(program("eth1"), 0);
    assert_eq!(datapath.attached()[1].ifindex, link("eth1").ifindex);
    assert_eq!(fs::read_dir(space.pin_dir().join("v2/links")).unwrap().count(), 2);
    let mut both = [link("eth0").ifindex, link("eth1").ifindex];
    both.sort_by_key(|ifindex| ifindex % 64);
    assert_eq!(nics(&space), both);
}

#[test]
fn a_second_instance_is_refused_and_told_who_is_first() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let _first = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    match KernelDatapath::open(&space.options(&["eth0"])) {
        Err(OpenError::Occupied { pid, pin_dir }) => {
            assert_eq!((pid, pin_dir), (Some(process::id()), space.pin_dir()));
        }
        other => panic!("{:?}", other.err()),
    }
    assert_ne!(program("eth0"), 0);
}

#[test]
fn somebody_elses_program_is_named_and_stays() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let _theirs = KernelDatapath::open(&space.options(&["eth0"])).unwrap();
    let id = program("eth0");
    let mut options = space.options(&["eth0"]);
    options.pin_dir.set_file_name("others");
    assert_eq!(
        refusal(&options),
        format!(
            "eth0: another XDP program is attached (tidegate, id {id}, native); \
             it is a tidegate's with other pins: `tidegate detach --pin-dir DIR` takes it off"
        )
    );
    assert_eq!(program("eth0"), id);
    assert!(!options.pin_dir.exists());
}

#[test]
fn what_cannot_be_attached_to_is_said_and_nothing_stays() {
    let space = Space::enter();
    veth("eth0", "peer0");
    bridge("br0");
    assert_eq!(refusal(&space.options(&["eth0", "eth7"])), "eth7: no such interface; there are br0, eth0, lo, peer0");
    nothing_is_left(&space, &["eth0"]);
    assert_eq!(
        refusal(&space.options(&["eth0", "br0"])),
        "br0 is a bridge, whose packets XDP does not see whole; attach to the ports of it"
    );
    nothing_is_left(&space, &["eth0"]);
    assert!(refusal(&space.options(&[])).contains("--iface"));
    nothing_is_left(&space, &["eth0"]);
}

#[test]
fn a_driver_without_xdp_is_refused_or_served_in_generic_mode() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut options = space.options(&["eth0", "lo"]);
    options.xdp = XdpMode::Native;
    assert_eq!(
        refusal(&options),
        "lo: cannot attach in driver mode: the driver has no XDP; use `--xdp generic` or another interface"
    );
    nothing_is_left(&space, &["eth0", "lo"]);

    options.xdp = XdpMode::Auto;
    let datapath = KernelDatapath::open(&options).unwrap();
    let modes: Vec<_> = datapath.attached().iter().map(|nic| nic.mode).collect();
    assert_eq!(modes, ["native", "generic"]);
    drop(datapath);

    // The other way about: what cannot be changed stays as it is.
    options.xdp = XdpMode::Native;
    assert!(refusal(&options).starts_with("lo: cannot attach in driver mode: the driver has no XDP"));
    assert_eq!(link("lo").xdp.unwrap().mode, "generic");
    options.xdp = XdpMode::Auto;
    assert!(KernelDatapath::open(&options).unwrap().adopted());
}

#[test]
fn an_mtu_that_a_driver_refuses_is_named() {
    let space = Space::enter();
    veth("eth0", "peer0");
    for nic in ["eth0", "peer0"] {
        set_mtu(nic, 9000);
    }
    let mut options = space.options(&["eth0"]);
    options.xdp = XdpMode::Native;
    assert_eq!(
        refusal(&options),
        "eth0: cannot attach in driver mode: the MTU of 9000 is too large for it, here or at the peer; \
         use `--xdp generic` or another interface"
    );
    nothing_is_left(&space, &["eth0"]);
}

#[test]
fn the_mode_follows_the_options() {
    let space = Space::enter();
    veth("eth0", "peer0");
    let mut options = space.options(&["eth0"]);
    for (xdp, mode) in [
        (XdpMode::Generic, "generic"),
        (XdpMode::Auto, "generic"),
        (XdpMode::Native, "native"),
        (XdpMode::Auto, "native"),
        (XdpMode::Generic, "generic"),
    ] {
        options.xdp = xdp;
        let datapath = KernelDatapath::open(&options).unwrap();
        assert_eq!(datapath.attached()[0].mode, mode, "{xdp:?}");
        assert_eq!(link("eth0").xdp.unwrap().mode, mode, "{xdp:?}");
    }
}

#[test]
fn a_restart_that_fails_leaves_what_was_running() {
    let space = Space::enter();
    veth("eth0", "peer0");
    veth("eth1", "peer1");
    drop(KernelDatapath::open(&space.options(&["eth0"])).unwrap());
    let before = program("eth0");
    let mut options = space.options(&["eth0", "eth1", "lo"]);
    options.xdp = XdpMode::Native;
    assert!(refusal(&options).starts_with("lo: cannot attach in driver mode"));
    assert_eq!((program("eth0"), program("eth1")), (before, 0));
    assert!(KernelDatapath::open(&space.options(&["eth0"])).unwrap().adopted());
}

#[test]
fn a_missing_capability_is_named() {
    use caps::{CapSet, Capability};
    let space = Space::enter();
    for capability in [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN, Capability::CAP_BPF] {
        caps::drop(None, CapSet::Effective, capability).unwrap();
    }
    let Err(OpenError::NotPermitted(what)) = KernelDatapath::open(&space.options(&["lo"])) else { panic!("permitted") };
    assert!(what.starts_with("not permitted: CAP_NET_ADMIN and CAP_BPF are missing; run as root"), "{what}");
    for capability in [Capability::CAP_NET_ADMIN, Capability::CAP_SYS_ADMIN, Capability::CAP_BPF] {
        caps::raise(None, CapSet::Effective, capability).unwrap();
    }
    nothing_is_left(&space, &["lo"]);
}
