//! The gateway's addresses: those that it has, and VIPs put on it and taken away again.
//!
//! What is put here is for whoever asks who has the address, and never for the gateway's own use: of scope
//! host, so that the kernel chooses it as the source of no packet that leaves (inet_select_addr), and with a
//! preferred lifetime of zero, which tells people and their tools the same. Both together are the mark by
//! which it is known again; whose it is, the pinned maps say.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use rtnetlink::{
    AddressMessageBuilder, Error,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo},
    },
};

use super::{Netlink, now};

/// One address of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The address.
    pub address: Ipv4Addr,
    /// The kernel's number of the interface.
    pub ifindex: u32,
    /// Who is reached through it directly: this address, of which so many bits count.
    pub subnet: (Ipv4Addr, u8),
    /// It looks like one that [`Netlink::add_address`] made.
    pub is_marked: bool,
}

impl Address {
    /// Whether its subnet has more than itself, and `other` in it.
    pub fn reaches(&self, other: Ipv4Addr) -> bool {
        let (subnet, bits) = self.subnet;
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        bits < 32 && (u32::from(subnet) ^ u32::from(other)) & mask == 0
    }
}

impl Netlink {
    /// All IPv4 addresses of this network namespace.
    pub async fn addresses(&self) -> Result<BTreeSet<Address>> {
        let all = self.handle().address().get().execute().try_filter_map(async |message| Ok(address(&message)));
        all.try_collect().await.context("cannot list the gateway's addresses")
    }

    /// Puts a VIP on an interface. One that is there already is left as it is.
    pub async fn add_address(&self, address: Ipv4Addr, ifindex: u32) -> Result<()> {
        let mut request = self.handle().address().add(ifindex, address.into(), 32);
        *request.message_mut() = marked(address, ifindex);
        match request.execute().await {
            Err(Error::NetlinkError(error)) if -error.raw_code() == libc::EEXIST => Ok(()),
            done => done.with_context(|| format!("cannot add {address}/32 to interface {ifindex}")),
        }
    }

    /// Takes a VIP from an interface; one that is not there is no fault.
    pub async fn remove_address(&self, address: Ipv4Addr, ifindex: u32) -> Result<()> {
        let request = self.handle().address().del(marked(address, ifindex));
        match request.execute().await {
            Err(Error::NetlinkError(error)) if matches!(-error.raw_code(), libc::EADDRNOTAVAIL | libc::ENODEV) => {
                Ok(())
            }
            done => done.with_context(|| format!("cannot remove {address}/32 from interface {ifindex}")),
        }
    }
}

/// Takes away whatever bears our mark of these VIPs, for those who cannot wait in a runtime.
pub fn remove_marked_now(vips: &BTreeSet<Ipv4Addr>) -> Result<()> {
    if vips.is_empty() {
        return Ok(());
    }
    now(async |netlink| {
        for found in netlink.addresses().await? {
            if found.is_marked && vips.contains(&found.address) {
                netlink.remove_address(found.address, found.ifindex).await?;
                log::info!("{}/32 is taken away from interface {} again", found.address, found.ifindex);
            }
        }
        Ok(())
    })
}

/// What asks for, and names, an address with our mark.
fn marked(address: Ipv4Addr, ifindex: u32) -> AddressMessage {
    let mut message = AddressMessageBuilder::<Ipv4Addr>::new().index(ifindex).address(address, 32).build();
    message.header.scope = AddressScope::Host;
    let mut lifetime = CacheInfo::default();
    (lifetime.ifa_valid, lifetime.ifa_preferred) = (u32::MAX, 0);
    message.attributes.push(AddressAttribute::CacheInfo(lifetime));
    message
}

fn address(message: &AddressMessage) -> Option<Address> {
    let header = &message.header;
    if header.family != AddressFamily::Inet {
        return None;
    }
    let (mut local, mut peer) = (None, None);
    let mut is_deprecated = header.flags.contains(AddressHeaderFlags::Deprecated);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => local = Some(*address),
            AddressAttribute::Address(IpAddr::V4(address)) => peer = Some(*address),
            AddressAttribute::Flags(flags) => is_deprecated |= flags.contains(AddressFlags::Deprecated),
            _ => {}
        }
    }
    let address = local.or(peer)?;
    let is_marked = is_deprecated && header.scope == AddressScope::Host && header.prefix_len == 32;
    let subnet = (peer.unwrap_or(address), header.prefix_len);
    Some(Address { address, ifindex: header.index, subnet, is_marked })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_reaches_its_neighbours_and_a_single_address_nobody() {
        let reaches = |subnet: [u8; 4], bits, other: [u8; 4]| {
            let address =
                Address { address: subnet.into(), ifindex: 2, subnet: (subnet.into(), bits), is_marked: false };
            address.reaches(other.into())
        };
        assert!(reaches([192, 0, 2, 1], 24, [192, 0, 2, 200]));
        assert!(!reaches([192, 0, 2, 1], 24, [192, 0, 3, 1]));
        assert!(reaches([192, 0, 2, 0], 31, [192, 0, 2, 1]) && !reaches([192, 0, 2, 0], 31, [192, 0, 2, 2]));
        assert!(reaches([10, 0, 0, 1], 0, [203, 0, 113, 10]));
        assert!(!reaches([192, 0, 2, 1], 32, [192, 0, 2, 1]));
    }
}
