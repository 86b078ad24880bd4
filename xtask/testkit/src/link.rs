//! Links, addresses, routes and neighbours of hosts, by netlink.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;
use rtnetlink::{
    AddressMessageBuilder, Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder,
    new_connection,
    packet_route::{
        AddressFamily,
        link::{InfoData, InfoKind, InfoVeth, LinkAttribute},
        neighbour::NeighbourState,
    },
};

use crate::host::Host;

/// An Ethernet address.
pub type Mac = [u8; 6];

impl Host {
    /// A veth pair: `name` on this host and `peer_name` on `peer`, both up.
    pub fn connect(&self, name: &str, peer: &Host, peer_name: &str) -> Result<()> {
        let end = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer_name.to_owned())
            .setns_by_fd(peer.namespace().as_fd().as_raw_fd())
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .name(name.to_owned())
            .set_info_data(InfoData::Veth(InfoVeth::Peer(end)))
            .build();
        self.netlink(async move |netlink| Ok(netlink.link().add(pair).execute().await?))
            .with_context(|| format!("cannot connect {}:{name} to {}:{peer_name}", self.name(), peer.name()))?;
        self.up(name)?;
        peer.up(peer_name)
    }

    /// Makes a switch of these links.
    pub fn bridge(&self, name: &str, ports: &[&str]) -> Result<()> {
        let bridge = LinkBridge::new(name).mcast_snooping(false).up().build();
        self.netlink(async move |netlink| Ok(netlink.link().add(bridge).execute().await?))
            .with_context(|| format!("cannot make bridge {name} on {}", self.name()))?;
        ports.iter().try_for_each(|port| self.plug(name, port))
    }

    /// Makes a link a port of a switch of this host.
    pub fn plug(&self, switch: &str, port: &str) -> Result<()> {
        let master = self.index(switch)?;
        self.change(port, move |link| link.controller(master))
    }

    /// Deletes a link, and its peer with it: what a card that is pulled does.
    pub fn pull(&self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        self.netlink(async move |netlink| Ok(netlink.link().del(index).execute().await?))
            .with_context(|| format!("cannot delete link {name} of {}", self.name()))
    }

    /// Sets a link up.
    pub fn up(&self, name: &str) -> Result<()> {
        self.change(name, LinkMessageBuilder::up)
    }

    /// Sets a link down: what a pulled cable does.
    pub fn down(&self, name: &str) -> Result<()> {
        self.change(name, LinkMessageBuilder::down)
    }

    /// Gives a link another name, for which it goes down a moment.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        self.down(name)?;
        let wanted = new.to_owned();
        self.change(name, move |link| link.name(wanted))?;
        self.up(new)
    }

    /// Sets a link's MTU.
    pub fn mtu(&self, name: &str, mtu: u32) -> Result<()> {
        self.change(name, move |link| link.mtu(mtu))
    }

    /// Gives a link another Ethernet address.
    pub fn set_mac(&self, name: &str, mac: Mac) -> Result<()> {
        self.change(name, move |link| link.address(mac.to_vec()))
    }

    /// The kernel's number of a link.
    pub fn index(&self, name: &str) -> Result<u32> {
        Ok(self.link(name)?.0)
    }

    /// A link's Ethernet address.
    pub fn mac(&self, name: &str) -> Result<Mac> {
        Ok(self.link(name)?.1)
    }

    /// Gives a link addresses, all of one prefix length.
    pub fn addresses(&self, name: &str, addresses: impl IntoIterator<Item = Ipv4Addr>, prefix: u8) -> Result<()> {
        let (index, addresses) = (self.index(name)?, addresses.into_iter().collect::<Vec<_>>());
        self.netlink(async move |netlink| {
            for address in addresses {
                let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
                let mut request = netlink.address().add(index, IpAddr::V4(address), prefix);
                *request.message_mut() = message;
                request.execute().await.with_context(|| format!("address {address}/{prefix}"))?;
            }
            Ok(())
        })
        .with_context(|| format!("cannot give {}:{name} its addresses", self.name()))
    }

    /// Takes an address from a link, however it came there.
    pub fn forget_address(&self, name: &str, address: Ipv4Addr, prefix: u8) -> Result<()> {
        let index = self.index(name)?;
        let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix).build();
        self.netlink(async move |netlink| Ok(netlink.address().del(message).execute().await?))
            .with_context(|| format!("cannot take {address}/{prefix} from {}:{name}", self.name()))
    }

    /// Routes a prefix through a neighbour; `0.0.0.0/0` is the default route.
    pub fn route(&self, prefix: Ipv4Addr, length: u8, via: Ipv4Addr) -> Result<()> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(prefix, length).gateway(via).build();
        self.netlink(async move |netlink| Ok(netlink.route().add(route).execute().await?))
            .with_context(|| format!("cannot route {prefix}/{length} through {via} on {}", self.name()))
    }

    /// Fixes a neighbour's Ethernet address.
    pub fn neighbour(&self, name: &str, address: Ipv4Addr, mac: Mac) -> Result<()> {
        let index = self.index(name)?;
        self.netlink(async move |netlink| {
            let request = netlink.neighbours().add(index, IpAddr::V4(address)).link_layer_address(&mac);
            Ok(request.state(NeighbourState::Permanent).replace().execute().await?)
        })
        .with_context(|| format!("cannot fix neighbour {address} on {}:{name}", self.name()))
    }

    /// Forgets what a link knows of its neighbours, fixed ones included.
    pub fn forget_neighbours(&self, name: &str) -> Result<()> {
        let index = self.index(name)?;
        self.netlink(async move |netlink| {
            let known: Vec<_> =
                netlink.neighbours().get().set_address_family(AddressFamily::Inet).execute().try_collect().await?;
            for neighbour in known.into_iter().filter(|neighbour| neighbour.header.ifindex == index) {
                netlink.neighbours().del(neighbour).execute().await?;
            }
            Ok(())
        })
        .with_context(|| format!("cannot forget the neighbours of {}:{name}", self.name()))
    }

    /// The names of the links, `lo` included.
    pub fn links(&self) -> Result<Vec<String>> {
        self.netlink(async move |netlink| {
            let links: Vec<_> = netlink.link().get().execute().try_collect().await?;
            Ok(links
                .into_iter()
                .flat_map(|link| link.attributes)
                .filter_map(|attribute| match attribute {
                    LinkAttribute::IfName(name) => Some(name),
                    _ => None,
                })
                .collect())
        })
    }

    /// A link's number and Ethernet address.
    fn link(&self, name: &str) -> Result<(u32, Mac)> {
        let wanted = name.to_owned();
        let link = self
            .netlink(async move |netlink| Ok(netlink.link().get().match_name(wanted).execute().try_next().await?))
            .with_context(|| format!("{} has no link {name}", self.name()))?;
        let Some(link) = link else { bail!("{} has no link {name}", self.name()) };
        let mac = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(mac) => Mac::try_from(mac.as_slice()).ok(),
            _ => None,
        });
        Ok((link.header.index, mac.unwrap_or_default()))
    }

    fn change(
        &self,
        name: &str,
        how: impl FnOnce(LinkMessageBuilder<LinkUnspec>) -> LinkMessageBuilder<LinkUnspec>,
    ) -> Result<()> {
        let message = how(LinkUnspec::new_with_index(self.index(name)?)).build();
        self.netlink(async move |netlink| Ok(netlink.link().set(message).execute().await?))
            .with_context(|| format!("cannot change link {name} of {}", self.name()))
    }

    /// One conversation with the kernel in this host's namespace.
    fn netlink<T, F>(&self, talk: impl FnOnce(Handle) -> F + Send + 'static) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send,
    {
        self.run(async move {
            let (connection, handle, _) = new_connection().context("cannot open a netlink socket")?;
            tokio::spawn(connection);
            talk(handle).await
        })
    }
}
