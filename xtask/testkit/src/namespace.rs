//! A network namespace without a name: it lives as long as somebody holds it.

use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    thread,
};

use anyhow::{Context as _, Result, bail};
use nix::{
    sched::{CloneFlags, setns, unshare},
    unistd::geteuid,
};

/// A network namespace.
#[derive(Debug)]
pub struct Namespace(OwnedFd);

impl Namespace {
    /// Makes an empty one.
    pub fn new() -> Result<Self> {
        need_root()?;
        // A thread takes the namespace on, hands out its descriptor and ends: the caller's own thread stays where it is.
        let made = thread::spawn(|| -> Result<OwnedFd> {
            unshare(CloneFlags::CLONE_NEWNET)
                .context("cannot make a network namespace; in a container, give it CAP_SYS_ADMIN and CAP_NET_ADMIN")?;
            Ok(File::open("/proc/thread-self/ns/net").context("cannot open /proc/thread-self/ns/net")?.into())
        });
        made.join().map(|fd| fd.map(Self)).unwrap_or_else(|_| bail!("the thread that makes a namespace panicked"))
    }

    /// Moves the calling thread into it, for good.
    pub fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// An error that names the remedy where we are not root.
pub fn need_root() -> Result<()> {
    if geteuid().is_root() {
        return Ok(());
    }
    bail!("network namespaces and XDP need root: run `cargo xtask network`, which asks for it, or start this as root")
}
