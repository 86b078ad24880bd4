//! A room: where a gateway's files and pins are, without a name outside.
//!
//! It is a mount namespace with a `/run` in memory, the `/sys` of the host's own network and an own BPF
//! file system in `/sys/fs/bpf`. Processes of the gateway run in it; the test reaches its files through
//! an open descriptor. It outlives every process in it, so pins survive a restart of the controller, and
//! goes with the last that holds it, so nothing is left on the disk.

use std::{
    fs::{self, File},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::namespace::Namespace;

/// The directory in memory, as processes in the room see it.
const RUN: &str = "/run";
/// The BPF file system, as processes in the room see it.
const PINS: &str = "/sys/fs/bpf";

/// Files and pins of one gateway.
#[derive(Debug)]
pub struct Room {
    mounts: OwnedFd,
    run: OwnedFd,
    pins: OwnedFd,
}

impl Room {
    /// Makes a room for processes that live in `network`.
    pub fn new(network: &Arc<Namespace>) -> Result<Self> {
        let network = Arc::clone(network);
        thread::spawn(move || furnish(&network))
            .join()
            .unwrap_or_else(|_| bail!("the thread that makes a room panicked"))
    }

    /// A file's path for processes in the room: `/run/NAME`.
    pub fn inside(&self, name: &str) -> PathBuf {
        Path::new(RUN).join(name)
    }

    /// The same file's path for everybody else in this process.
    pub fn outside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.run.as_raw_fd())).join(name)
    }

    /// The directory of pins for processes in the room.
    pub fn pins_inside(&self, name: &str) -> PathBuf {
        Path::new(PINS).join(name)
    }

    /// The same directory for everybody else in this process.
    pub fn pins_outside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.pins.as_raw_fd())).join(name)
    }

    /// Writes a file in place.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.outside(name), text).with_context(|| format!("cannot write {name} of the gateway"))
    }

    /// Replaces a file by rename, as editors and configuration management do.
    pub fn replace(&self, name: &str, text: &str) -> Result<()> {
        let fresh = format!(".{name}.new");
        self.write(&fresh, text)?;
        fs::rename(self.outside(&fresh), self.outside(name))
            .with_context(|| format!("cannot replace {name} of the gateway"))
    }
}

/// The mount namespace.
impl AsFd for Room {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.mounts.as_fd()
    }
}

/// Runs on a thread of its own, which ends afterwards: what it moved into lives on in the descriptors.
fn furnish(network: &Namespace) -> Result<Room> {
    network.enter()?;
    unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace; in a container, give it CAP_SYS_ADMIN")?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .context("cannot make mounts private")?;
    for (kind, place) in [("tmpfs", RUN), ("sysfs", "/sys"), ("bpf", PINS)] {
        mount(Some(kind), place, Some(kind), MsFlags::empty(), nothing)
            .with_context(|| format!("cannot mount {kind} on {place}"))?;
    }
    Ok(Room {
        mounts: File::open("/proc/thread-self/ns/mnt").context("cannot open /proc/thread-self/ns/mnt")?.into(),
        run: directory(RUN)?,
        pins: directory(PINS)?,
    })
}

fn directory(path: &str) -> Result<OwnedFd> {
    let options = fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_PATH).open(path);
    Ok(options.with_context(|| format!("cannot open {path}"))?.into())
}
