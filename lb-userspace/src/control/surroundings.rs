//! What surrounds the gateway: its own addresses and the ways to its backends. One task asks the
//! kernel whenever it says that something changed, and tells the loop what is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use futures::{StreamExt as _, stream};
use lb_common::{Backend, Mac};
use tokio::{
    sync::{mpsc, watch},
    time,
};

use super::Event;
use crate::{datapath::Attached, net::NextHop};

/// What may be asked of the kernel's routing.
pub trait Network: Send + Sync + 'static {
    /// How frames get to an address.
    fn next_hop(&self, address: Ipv4Addr) -> impl Future<Output = Result<NextHop>> + Send;
    /// The gateway's own addresses.
    fn locals(&self) -> impl Future<Output = Result<BTreeSet<Ipv4Addr>>> + Send;
    /// Has the kernel look for a neighbour.
    fn resolve(&self, ifindex: u32, neighbour: Ipv4Addr) -> impl Future<Output = Result<()>> + Send;
    /// A message whenever any of it may have changed.
    fn changes(&self) -> mpsc::Receiver<()>;
    /// The names of all interfaces.
    fn names(&self) -> impl Future<Output = Result<BTreeMap<u32, String>>> + Send;
}

/// What is so at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The gateway's own addresses.
    pub locals: BTreeSet<Ipv4Addr>,
    /// The ways to backends.
    pub hops: BTreeMap<Ipv4Addr, NextHop>,
    /// The names of the interfaces.
    pub names: BTreeMap<u32, String>,
}

/// The way to a backend, as the packet path can go it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By this NIC to this neighbour.
    Nic(u16, Mac),
    /// The kernel has to find it.
    Kernel,
    /// Not asked yet: whatever the maps say.
    Unknown,
    /// No packet path of ours leads there, and why.
    None(String),
}

impl Surroundings {
    /// The way to a backend by the NICs that the program is attached to.
    pub fn way(&self, address: Ipv4Addr, attached: &[Attached]) -> Way {
        if self.locals.contains(&address) {
            return Way::None(format!("{address} is an address of the gateway itself"));
        }
        let ifindex = match self.hops.get(&address) {
            None => return Way::Unknown,
            Some(NextHop::NoRoute) => return Way::Kernel,
            Some(NextHop::Known { ifindex, .. } | NextHop::Unresolved { ifindex, .. }) => *ifindex,
        };
        let Some(nic) = attached.iter().find(|nic| nic.ifindex == ifindex) else {
            let name = self.names.get(&ifindex).cloned().unwrap_or_else(|| format!("interface {ifindex}"));
            return Way::None(format!(
                "its route leaves by {name}, which is not attached; add {name} to node.interfaces or --iface"
            ));
        };
        match self.hops.get(&address) {
            Some(NextHop::Known { mac, .. }) => Way::Nic(nic.nic, Mac(*mac)),
            _ => Way::Kernel,
        }
    }
}

impl Way {
    /// Writes the way into a backend's entry.
    pub fn mark(&self, entry: &mut Backend) {
        match self {
            Self::Unknown => {}
            Self::Nic(nic, mac) => {
                (entry.flags, entry.nic, entry.hop) = (Backend::PRESENT | Backend::REACHABLE, *nic, *mac);
            }
            Self::Kernel | Self::None(_) => {
                (entry.flags, entry.nic, entry.hop) = (Backend::PRESENT, 0, Mac([0; 6]));
            }
        }
    }
}

/// Asks again at least this often, for neighbours that were silent.
const AGAIN: Duration = Duration::from_secs(2);
/// Changes come in bursts: a NIC that goes down takes its routes and neighbours along.
const BURST: Duration = Duration::from_millis(20);
/// Questions to the kernel at one time.
const AT_ONCE: usize = 16;

/// Follows the ways to `addresses` until the loop is gone.
pub async fn follow<N: Network>(
    network: Arc<N>,
    mut addresses: watch::Receiver<BTreeSet<Ipv4Addr>>,
    events: mpsc::Sender<Event>,
) {
    let mut changes = network.changes();
    let mut last = None;
    loop {
        let wanted = addresses.borrow_and_update().clone();
        let found = look(&*network, &wanted).await.map_err(|error| format!("{error:#}"));
        let again = match &found {
            Ok(found) => found.hops.values().any(|hop| !matches!(hop, NextHop::Known { .. })),
            Err(_) => true,
        };
        if last.as_ref() != Some(&found) {
            if events.send(Event::Surroundings(found.clone())).await.is_err() {
                return;
            }
            last = Some(found);
        }
        tokio::select! {
            changed = addresses.changed() => if changed.is_err() { return },
            Some(()) = changes.recv() => {
                time::sleep(BURST).await;
                while changes.try_recv().is_ok() {}
            }
            () = time::sleep(AGAIN), if again => {}
        }
    }
}

/// Asks for everything once.
async fn look<N: Network>(network: &N, addresses: &BTreeSet<Ipv4Addr>) -> Result<Surroundings> {
    let (locals, names) = (network.locals().await?, network.names().await?);
    let mut answers = stream::iter(addresses.iter().copied())
        .map(async |address| (address, network.next_hop(address).await))
        .buffer_unordered(AT_ONCE);
    let mut found = Surroundings { locals, names, hops: BTreeMap::new() };
    while let Some((address, hop)) = answers.next().await {
        let hop = hop?;
        if let NextHop::Unresolved { ifindex, neighbour } = hop
            && let Err(error) = network.resolve(ifindex, neighbour).await
        {
            log::debug!("cannot ask for {neighbour}: {error:#}");
        }
        found.hops.insert(address, hop);
    }
    Ok(found)
}
