//! News of routes, neighbours, addresses and links, melted into "something changed".
//!
//! A neighbour that the kernel merely checks again (REACHABLE, STALE, PROBE) is no news: only its
//! Ethernet address, or the loss of it, is. News that were lost count as news.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use futures::{StreamExt as _, channel::mpsc::UnboundedReceiver};
use rtnetlink::{
    MulticastGroup, new_multicast_connection,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage},
    },
    sys::SocketAddr,
};
use tokio::{sync::mpsc, time};

use super::{Netlink, hops};

/// What a change of a next hop or a local address is announced to.
const GROUPS: &[MulticastGroup] = &[
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Nexthop,
];
/// How long to wait before another socket is opened after one failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Neighbours remembered; beyond that each is news once more.
const NEIGHBOURS: usize = 65_536;

type News = UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>;

impl Netlink {
    /// Says that something may have changed; several changes may be one word. It ends with its receiver.
    pub fn changes(&self) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel(1);
        // Listening begins here, not when the task first runs: nothing in between is missed.
        let first = listen();
        tokio::spawn(follow(first, sender));
        receiver
    }
}

fn listen() -> Option<News> {
    match new_multicast_connection(GROUPS) {
        Ok((connection, _, news)) => {
            tokio::spawn(connection);
            Some(news)
        }
        Err(error) => {
            log::warn!("cannot follow routes and neighbours: {error}; trying again");
            None
        }
    }
}

async fn follow(mut news: Option<News>, sender: mpsc::Sender<()>) {
    let mut neighbours = Neighbours::default();
    loop {
        while let Some(news) = news.as_mut() {
            let message = tokio::select! {
                message = news.next() => message,
                () = sender.closed() => return,
            };
            let Some((message, _)) = message else { break };
            if neighbours.is_news(&message.payload) {
                // A full channel already says so.
                let _ = sender.try_send(());
            }
        }
        tokio::select! {
            () = time::sleep(PAUSE) => {}
            () = sender.closed() => return,
        }
        news = listen();
        neighbours = Neighbours::default();
        let _ = sender.try_send(());
    }
}

/// The neighbours' Ethernet addresses as last announced.
#[derive(Default)]
struct Neighbours(HashMap<(u32, IpAddr), Option<[u8; 6]>>);

impl Neighbours {
    fn is_news(&mut self, payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
        match payload {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour)) => {
                self.note(neighbour, hops::mac(neighbour))
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(neighbour)) => self.note(neighbour, None),
            NetlinkPayload::InnerMessage(_) => true,
            // The socket's buffer ran over (ENOBUFS): what was lost may have been anything.
            NetlinkPayload::Overrun(_) => {
                self.0.clear();
                true
            }
            _ => false,
        }
    }

    fn note(&mut self, neighbour: &NeighbourMessage, mac: Option<[u8; 6]>) -> bool {
        let address = neighbour.attributes.iter().find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(IpAddr::V4(*address)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
            _ => None,
        });
        // Entries of a bridge's table have no address.
        let Some(address) = address else { return false };
        if self.0.len() >= NEIGHBOURS {
            self.0.clear();
        }
        let before = self.0.insert((neighbour.header.ifindex, address), mac);
        // One that was never heard of and has no Ethernet address yet changes nothing.
        before.unwrap_or_default() != mac
    }
}
