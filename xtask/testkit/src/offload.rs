//! Offload settings of links, by ioctl: what `ethtool -K` does.

use std::io;

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::AsRawFd as _;

use crate::host::Host;

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// The kernel's `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

impl Host {
    /// `ethtool -K NAME tx off`: the host computes whole checksums itself and sends no frame longer than the MTU.
    pub fn whole_checksums(&self, name: &str) -> Result<()> {
        let wanted = name.to_owned();
        self.call(move || set(&wanted, ETHTOOL_STXCSUM, 0))
            .with_context(|| format!("cannot turn the checksum offload of {}:{name} off", self.name()))
    }
}

fn set(name: &str, command: u32, data: u32) -> Result<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = Value { command, data };
    // SAFETY: a request of zeros is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: `request` names a `Value`, which the kernel reads and writes during the call; both outlive it.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}
