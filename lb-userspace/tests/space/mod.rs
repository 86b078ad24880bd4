//! A place of a test's own: a network namespace, a mount namespace, and a directory for pins.
//!
//! All of it belongs to the test's thread and ends with it, whatever becomes of the test.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    fs::File,
    future::Future,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::maps::{Map, MapData};
use lb_userspace::{
    datapath::kernel::Options,
    model::XdpMode,
    net::{Link, links_now},
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    unistd::geteuid,
};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

pub(crate) struct Space {
    directory: tempfile::TempDir,
}

impl Space {
    /// Moves the calling thread to namespaces of its own.
    pub(crate) fn enter() -> Self {
        assert!(geteuid().is_root(), "this test makes namespaces and loads BPF programs: run it as root (sudo -E)");
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("private mounts");
        let space = Self { directory: tempfile::tempdir().unwrap() };
        set_up("lo");
        space
    }

    pub(crate) fn pin_dir(&self) -> PathBuf {
        self.directory.path().join("pins")
    }

    /// A map as it is pinned.
    pub(crate) fn pinned(&self, name: &str) -> Map {
        Map::from_map_data(MapData::from_pin(self.pin_dir().join("v2").join(name)).unwrap()).unwrap()
    }

    pub(crate) fn options(&self, interfaces: &[&str]) -> Options {
        Options {
            pin_dir: self.pin_dir(),
            interfaces: interfaces.iter().map(ToString::to_string).collect(),
            xdp: XdpMode::Auto,
            max_flows: 4096,
        }
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        let _ = umount2(&self.pin_dir(), MntFlags::MNT_DETACH);
    }
}

/// Another network namespace, reached by this thread for as long as a closure runs.
pub(crate) struct Elsewhere {
    here: File,
    there: File,
}

impl Elsewhere {
    pub(crate) fn new() -> Self {
        let own = || File::open("/proc/thread-self/ns/net").unwrap();
        let here = own();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let there = own();
        set_up("lo");
        setns(here.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        Self { here, there }
    }

    pub(crate) fn within<T>(&self, act: impl FnOnce() -> T) -> T {
        setns(self.there.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        let done = act();
        setns(self.here.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        done
    }

    /// Moves an interface there.
    pub(crate) fn take(&self, name: &str) {
        use std::os::fd::AsRawFd as _;
        set(LinkUnspec::new_with_name(name).setns_by_fd(self.there.as_raw_fd()));
    }
}

pub(crate) fn run<T>(act: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(act)
}

pub(crate) fn netlink<T, F: Future<Output = Result<T, rtnetlink::Error>>>(act: impl FnOnce(Handle) -> F) -> T {
    run(async {
        let (connection, handle, _) = rtnetlink::new_connection().unwrap();
        tokio::spawn(connection);
        act(handle).await.unwrap()
    })
}

fn set(link: LinkMessageBuilder<LinkUnspec>) {
    netlink(|handle| async move { handle.link().set(link.build()).execute().await });
}

pub(crate) fn set_up(name: &str) {
    set(LinkUnspec::new_with_name(name).up());
}

/// Two NICs with a wire between them, up.
pub(crate) fn veth(name: &str, peer: &str) {
    netlink(|handle| async move { handle.link().add(LinkVeth::new(name, peer).build()).execute().await });
    set_up(name);
    set_up(peer);
}

pub(crate) fn set_mtu(name: &str, mtu: u32) {
    set(LinkUnspec::new_with_name(name).mtu(mtu));
}

pub(crate) fn set_mac(name: &str, mac: [u8; 6]) {
    set(LinkUnspec::new_with_name(name).address(mac.to_vec()));
}

pub(crate) fn bridge(name: &str) {
    netlink(|handle| async move { handle.link().add(LinkBridge::new(name).build()).execute().await });
}

pub(crate) fn delete(name: &str) {
    let index = link(name).ifindex;
    netlink(|handle| async move { handle.link().del(index).execute().await });
}

pub(crate) fn add_address(name: &str, address: &str, prefix: u8) {
    let (index, address) = (link(name).ifindex, address.parse().unwrap());
    netlink(|handle| async move { handle.address().add(index, address, prefix).execute().await });
}

pub(crate) fn link(name: &str) -> Link {
    links_now().unwrap().into_iter().find(|link| link.name == name).unwrap_or_else(|| panic!("no NIC {name}"))
}

/// The number of the XDP program on a NIC, 0 for none.
pub(crate) fn program(name: &str) -> u32 {
    link(name).xdp.map_or(0, |xdp| xdp.program)
}

/// The kernel's number of a pinned link.
pub(crate) fn link_id(pin_dir: &Path, name: &str) -> u32 {
    use aya::programs::links::{FdLink, PinnedLink};
    let path = pin_dir.join("v2/links").join(link(name).ifindex.to_string());
    FdLink::from(PinnedLink::from_pin(path).unwrap()).info().unwrap().id()
}
