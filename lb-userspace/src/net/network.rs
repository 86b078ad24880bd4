//! Netlink as the control loop and its herald ask it.

use std::{collections::BTreeSet, net::Ipv4Addr};

use anyhow::Result;
use tokio::sync::mpsc;

use super::{Address, Link, Netlink, NextHop, arp};
use crate::control::{Host, Network, Seat};

impl Network for Netlink {
    async fn next_hop(&self, address: Ipv4Addr) -> Result<NextHop> {
        self.next_hop(address).await
    }

    async fn addresses(&self) -> Result<BTreeSet<Address>> {
        self.addresses().await
    }

    async fn resolve(&self, ifindex: u32, neighbour: Ipv4Addr) -> Result<()> {
        self.resolve(ifindex, neighbour).await
    }

    async fn links(&self) -> Result<Vec<Link>> {
        self.links().await
    }

    fn changes(&self) -> mpsc::Receiver<()> {
        self.changes()
    }
}

impl Host for Netlink {
    async fn add(&self, seat: Seat) -> Result<()> {
        self.add_address(seat.vip, seat.ifindex).await
    }

    async fn remove(&self, seat: Seat) -> Result<()> {
        self.remove_address(seat.vip, seat.ifindex).await
    }

    async fn tell(&self, seat: Seat, mac: [u8; 6]) -> Result<()> {
        arp::announce(seat.vip, seat.ifindex, mac)
    }
}
