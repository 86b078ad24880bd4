//! The next hop towards an address.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _};
use rtnetlink::{
    Error, RouteMessageBuilder,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType},
    },
};

use super::{Netlink, NextHop};

impl Netlink {
    /// How frames get to `address` now.
    pub async fn next_hop(&self, address: Ipv4Addr) -> Result<NextHop> {
        let Some((ifindex, neighbour)) = self.route(address).await? else { return Ok(NextHop::NoRoute) };
        let mac = self.neighbour(ifindex, neighbour).await?;
        Ok(mac.map_or(NextHop::Unresolved { ifindex, neighbour }, |mac| NextHop::Known { ifindex, mac }))
    }

    /// Asks the kernel to find a neighbour, as if it had a packet for it. Does not wait for the answer.
    pub async fn resolve(&self, ifindex: u32, neighbour: Ipv4Addr) -> Result<()> {
        // From 5.16 on, USE takes the permanence from an entry that an operator made (__neigh_update).
        if self.neighbour(ifindex, neighbour).await?.is_some() {
            return Ok(());
        }
        let request = self.handle().neighbours().add(ifindex, neighbour.into());
        // A state would be taken as known; NONE with USE sends the kernel's own probe (neighbour(7), NTF_USE).
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use).replace();
        request.execute().await.with_context(|| format!("cannot ask the kernel to resolve {neighbour}"))
    }

    /// The interface and the neighbour that a packet to `address` goes to.
    async fn route(&self, address: Ipv4Addr) -> Result<Option<(u32, Ipv4Addr)>> {
        let question = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(address, 32).build();
        let mut answers = self.handle().route().get(question).execute();
        match answers.try_next().await {
            Ok(Some(route)) => Ok(hop(&route, address)),
            Ok(None) => Ok(None),
            // Unreachable, prohibited, black hole: what routes of these kinds answer (fib_props).
            Err(Error::NetlinkError(error))
                if matches!(
                    -error.raw_code(),
                    libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("cannot ask for the route to {address}")),
        }
    }

    /// The Ethernet address of a neighbour, where the kernel would use it.
    async fn neighbour(&self, ifindex: u32, neighbour: Ipv4Addr) -> Result<Option<[u8; 6]>> {
        let mut question = NeighbourMessage::default();
        question.header.family = AddressFamily::Inet;
        question.header.ifindex = ifindex;
        question.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(neighbour)));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(question));
        request.header.flags = NLM_F_REQUEST;
        let failed = || format!("cannot ask for the neighbour {neighbour}");
        let mut answers = self.handle().clone().request(request).with_context(failed)?;
        while let Some(answer) = answers.next().await {
            match answer.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) => return Ok(mac(&message)),
                NetlinkPayload::Error(error) if -error.raw_code() == libc::ENOENT => return Ok(None),
                NetlinkPayload::Error(error) => return Err(error.to_io()).with_context(failed),
                _ => {}
            }
        }
        Ok(None)
    }
}

fn hop(route: &RouteMessage, address: Ipv4Addr) -> Option<(u32, Ipv4Addr)> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let ifindex = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    })?;
    let router = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(router)) => Some(*router),
        _ => None,
    });
    Some((ifindex, router.unwrap_or(address)))
}

/// The Ethernet address that the kernel would send to, if it would send at once.
pub(super) fn mac(message: &NeighbourMessage) -> Option<[u8; 6]> {
    use NeighbourState::{Delay, Permanent, Probe, Reachable, Stale};
    if !matches!(message.header.state, Reachable | Stale | Delay | Probe | Permanent) {
        return None;
    }
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(octets) => octets.as_slice().try_into().ok(),
        _ => None,
    })
}
