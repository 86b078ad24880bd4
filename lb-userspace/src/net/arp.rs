//! Gratuitous ARP: a host's word to its neighbours that an address is to be found here.
//!
//! An ARP request in which sender and target are the address itself (RFC 5227, section 3, an ARP
//! announcement): nobody answers it, and whoever knows the address takes the new place of it.

use std::{
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

/// Octets of an Ethernet frame with an ARP packet for IPv4.
const LENGTH: usize = 42;

/// Says on an interface that `address` is at `mac`.
pub(super) fn announce(address: Ipv4Addr, ifindex: u32, mac: [u8; 6]) -> Result<()> {
    // No protocol: it is for sending only, and hears nothing.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None::<SockProtocol>)
        .context("cannot open a packet socket, which takes CAP_NET_RAW")?;
    send(&socket, ifindex, &frame(address, mac)).with_context(|| format!("cannot send ARP for {address}"))
}

fn frame(address: Ipv4Addr, mac: [u8; 6]) -> [u8; LENGTH] {
    let parts: [&[u8]; 8] = [
        &[0xff; 6],
        &mac,
        &[0x08, 0x06],
        // Ethernet and IPv4, addresses of 6 and 4 octets; a request.
        &[0, 1, 0x08, 0x00, 6, 4, 0, 1],
        &mac,
        &address.octets(),
        &[0; 6],
        &address.octets(),
    ];
    let mut frame = [0; LENGTH];
    for (place, octet) in frame.iter_mut().zip(parts.into_iter().flatten()) {
        *place = *octet;
    }
    frame
}

fn send(socket: &OwnedFd, ifindex: u32, frame: &[u8; LENGTH]) -> io::Result<()> {
    // SAFETY: an address of zeros is a valid one.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = ifindex as i32;
    let size = size_of_val(&to) as libc::socklen_t;
    // SAFETY: the kernel reads `LENGTH` octets of `frame` and `size` octets of `to` during the call.
    let sent =
        unsafe { libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), LENGTH, 0, (&raw const to).cast(), size) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_is_a_request_of_the_address_for_itself() {
        let mac = [2, 0, 0, 0, 0, 7];
        let frame = frame([203, 0, 113, 10].into(), mac);
        assert_eq!((&frame[..6], &frame[6..12], &frame[12..14]), (&[0xff; 6][..], &mac[..], &[8, 6][..]));
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!((&frame[22..28], &frame[28..32]), (&mac[..], &[203, 0, 113, 10][..]));
        assert_eq!((&frame[32..38], &frame[38..]), (&[0; 6][..], &[203, 0, 113, 10][..]));
    }
}
