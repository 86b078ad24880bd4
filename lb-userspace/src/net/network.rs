//! Netlink as the control loop asks it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use anyhow::Result;
use tokio::sync::mpsc;

use super::{Netlink, NextHop};
use crate::control::Network;

impl Network for Netlink {
    async fn next_hop(&self, address: Ipv4Addr) -> Result<NextHop> {
        self.next_hop(address).await
    }

    async fn locals(&self) -> Result<BTreeSet<Ipv4Addr>> {
        self.locals().await
    }

    async fn resolve(&self, ifindex: u32, neighbour: Ipv4Addr) -> Result<()> {
        self.resolve(ifindex, neighbour).await
    }

    async fn names(&self) -> Result<BTreeMap<u32, String>> {
        self.names().await
    }

    fn changes(&self) -> mpsc::Receiver<()> {
        self.changes()
    }
}
