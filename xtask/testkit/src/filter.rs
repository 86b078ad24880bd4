//! A firewall that forwards nothing: what `nft add chain ip filter forward '{ type filter hook forward priority 0; policy drop; }'` does.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::host::Host;

const NFTABLES: u16 = 10;
const BEGIN: u16 = 16;
const END: u16 = 17;
const NEW_TABLE: u16 = NFTABLES << 8;
const NEW_CHAIN: u16 = NFTABLES << 8 | 3;
/// `NLM_F_REQUEST`, `NLM_F_ACK`, `NLM_F_CREATE`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const CREATE: u16 = 0x400;
const IPV4: u8 = 2;
/// `NF_INET_FORWARD`.
const FORWARD: u32 = 2;
/// `NLA_F_NESTED` and the attribute of a chain's hook.
const HOOK: u16 = 0x8000 | 4;

impl Host {
    /// Drops every packet that this host's stack would forward. Its own are not touched.
    pub fn forward_nothing(&self) -> Result<()> {
        self.call(drop_forwarded).with_context(|| format!("cannot filter on {}", self.name()))
    }
}

fn drop_forwarded() -> Result<()> {
    let table = attribute(1, b"filter\0");
    let hook = [attribute(1, &FORWARD.to_be_bytes()), attribute(2, &[0; 4])].concat();
    let parts = [(1, &b"filter\0"[..]), (3, b"forward\0"), (HOOK, &hook), (5, &[0; 4]), (7, b"filter\0")];
    let chain = parts.map(|(kind, value)| attribute(kind, value)).concat();
    let batch = [
        message(BEGIN, REQUEST, 0, NFTABLES, &[]),
        message(NEW_TABLE, REQUEST | CREATE, IPV4, 0, &table),
        message(NEW_CHAIN, REQUEST | CREATE | ACK, IPV4, 0, &chain),
        message(END, REQUEST, 0, NFTABLES, &[]),
    ];
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    send(socket.as_raw_fd(), &batch.concat(), MsgFlags::empty())?;
    let mut answer = [0; 4096];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let error = answer
        .get(16..20)
        .filter(|_| length >= 20)
        .map(|code| i32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
    ensure!(error == Some(0), "the kernel says {error:?} to a new chain");
    Ok(())
}

/// A netlink message with netfilter's own header.
fn message(kind: u16, flags: u16, family: u8, resource: u16, attributes: &[u8]) -> Vec<u8> {
    let length = (20 + attributes.len()) as u32;
    let [high, low] = resource.to_be_bytes();
    let head = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8], &[family, 0, high, low]];
    [&head.concat(), attributes].concat()
}

/// An attribute, filled up to four octets.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = (4 + value.len()) as u16;
    let mut attribute = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}
