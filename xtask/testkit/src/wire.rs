//! Single frames on a link: what no well-behaved TCP would send, and what really passes.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt::RcvBufForce,
    },
};
use std::os::fd::AsFd as _;

use crate::host::Host;

/// Octets that may wait to be looked at, the kernel's own included.
const BUFFER: usize = 16 << 20;

/// A tap on one link of a host. It sees what comes in from its opening on, not what the host sends.
#[derive(Debug)]
pub struct Wire(OwnedFd);

impl Wire {
    /// Opens a tap.
    pub fn open(host: &Host, link: &str) -> Result<Self> {
        let index = host.index(link)?.try_into()?;
        host.call(move || open(index, libc::ETH_P_ALL))
            .map(Self)
            .with_context(|| format!("cannot tap {}:{link}", host.name()))
    }

    /// One that only sends: nothing is kept for it to see.
    pub(crate) fn deaf(host: &Host, link: &str) -> Result<Self> {
        let index = host.index(link)?.try_into()?;
        host.call(move || open(index, 0)).map(Self).with_context(|| format!("cannot send by {}:{link}", host.name()))
    }

    /// Sends a whole frame, from its Ethernet header on and without the trailing checksum.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.0.as_raw_fd(), frame, MsgFlags::empty()).context("cannot send a frame")?;
        Ok(())
    }

    /// The next frame that matches, or `None` when the time is up.
    pub fn next(&self, within: Duration, matches: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + within;
        let mut frame = vec![0; 65536];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let timeout = PollTimeout::try_from(left.as_millis().min(60_000) + 1)?;
            if poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
                continue;
            }
            let length = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT)?;
            if matches(&frame[..length]) {
                frame.truncate(length);
                return Ok(Some(frame));
            }
        }
    }

    /// Every frame that matches in this time.
    pub fn collect(&self, during: Duration, matches: impl Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
        let deadline = Instant::now() + during;
        let mut frames = Vec::new();
        while let Some(frame) = self.next(deadline.saturating_duration_since(Instant::now()), &matches)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// A socket on a link that sees frames of this protocol; of none, nothing.
fn open(index: i32, protocol: libc::c_int) -> Result<OwnedFd> {
    // No protocol before the bind: it would hear every link of the host meanwhile.
    let wire = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None::<SockProtocol>)?;
    let one: libc::c_int = 1;
    // SAFETY: the kernel reads one `c_int` during the call.
    let ignored = unsafe {
        libc::setsockopt(
            wire.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_IGNORE_OUTGOING,
            (&raw const one).cast(),
            size_of_val(&one).try_into()?,
        )
    };
    if ignored < 0 {
        return Err(io::Error::last_os_error()).context("cannot ignore what the host sends");
    }
    // The default holds a hundred frames: one large transfer is more.
    setsockopt(&wire, RcvBufForce, &BUFFER).context("cannot make the tap's buffer larger")?;
    // SAFETY: an address of zeros is a valid one.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET.try_into()?;
    address.sll_protocol = u16::try_from(protocol)?.to_be();
    address.sll_ifindex = index;
    let size = size_of_val(&address).try_into()?;
    // SAFETY: the kernel reads `size` octets of `address` during the call.
    if unsafe { libc::bind(wire.as_raw_fd(), (&raw const address).cast(), size) } < 0 {
        return Err(io::Error::last_os_error()).context("cannot bind to the link");
    }
    Ok(wire)
}
