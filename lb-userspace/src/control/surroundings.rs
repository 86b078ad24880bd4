//! What surrounds the gateway: its own addresses and the ways to its backends. One task asks the
//! kernel whenever it says that something changed, and tells the loop what is new.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::{StreamExt as _, stream};
use lb_common::{Backend, Mac};
use tokio::{
    sync::{mpsc, watch},
    time,
};

use super::Event;
use crate::{
    datapath::Attached,
    net::{Address, Link, NextHop},
};

/// What may be asked of the kernel's routing.
pub trait Network: Send + Sync + 'static {
    /// How frames get to an address.
    fn next_hop(&self, address: Ipv4Addr) -> impl Future<Output = Result<NextHop>> + Send;
    /// The gateway's own addresses.
    fn addresses(&self) -> impl Future<Output = Result<BTreeSet<Address>>> + Send;
    /// Has the kernel look for a neighbour.
    fn resolve(&self, ifindex: u32, neighbour: Ipv4Addr) -> impl Future<Output = Result<()>> + Send;
    /// A message whenever any of it may have changed.
    fn changes(&self) -> mpsc::Receiver<()>;
    /// All interfaces.
    fn links(&self) -> impl Future<Output = Result<Vec<Link>>> + Send;
}

/// What is so at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The gateway's own addresses.
    pub addresses: BTreeSet<Address>,
    /// The ways to backends.
    pub hops: BTreeMap<Ipv4Addr, NextHop>,
    /// The names of the interfaces; none where nothing is known yet.
    pub names: BTreeMap<u32, String>,
    /// The interfaces that are up and have a carrier.
    pub running: BTreeMap<u32, Running>,
    /// The interfaces without an XDP program.
    pub bare: BTreeSet<u32>,
}

/// An interface that carries frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// How often its carrier has come.
    pub ups: u32,
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
    /// What can be said where nothing can be asked: whatever the maps say.
    pub(super) fn unknown(locals: &BTreeSet<Ipv4Addr>) -> Self {
        let local = |local: &Ipv4Addr| Address { address: *local, ifindex: 0, subnet: (*local, 32), is_marked: false };
        Self { addresses: locals.iter().map(local).collect(), ..Self::default() }
    }

    /// Whether the kernel has ever been asked.
    pub fn is_known(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whoever has an address, by interface.
    pub fn at(&self, address: Ipv4Addr) -> impl Iterator<Item = &Address> {
        let first = Address { address, ifindex: 0, subnet: (Ipv4Addr::UNSPECIFIED, 0), is_marked: false };
        self.addresses.range(first..).take_while(move |at| at.address == address)
    }

    /// The gateway's own addresses, those aside that never leave it, and the VIPs that are on it for others only.
    pub(super) fn locals(&self, announced: &BTreeSet<Ipv4Addr>) -> BTreeSet<Ipv4Addr> {
        let own = self.addresses.iter().filter(|at| !at.address.is_loopback());
        own.filter(|at| !(at.is_marked && announced.contains(&at.address))).map(|at| at.address).collect()
    }

    /// The NICs that the program was attached to and that are no longer there.
    pub fn gone<'a>(&self, attached: &'a [Attached]) -> Vec<&'a str> {
        let is_gone = |nic: &&Attached| self.is_known() && !self.names.contains_key(&nic.ifindex);
        attached.iter().filter(is_gone).map(|nic| nic.name.as_str()).collect()
    }

    /// The NICs that the program was attached to and that are there without it: they came back.
    pub(super) fn returned(&self, attached: &[Attached]) -> Vec<String> {
        let is_back = |nic: &&Attached| match self.names.get(&nic.ifindex) {
            Some(_) => self.bare.contains(&nic.ifindex),
            None => self.names.values().any(|name| *name == nic.name),
        };
        attached.iter().filter(is_back).map(|nic| nic.name.clone()).collect()
    }

    /// The way to a backend by the NICs that the program is attached to.
    pub fn way(&self, address: Ipv4Addr, attached: &[Attached]) -> Way {
        if self.at(address).next().is_some() {
            return Way::None(format!("{address} is an address of the gateway itself"));
        }
        let ifindex = match self.hops.get(&address) {
            None => return Way::Unknown,
            Some(NextHop::NoRoute) => {
                let gone = self.gone(attached);
                return match gone.is_empty() {
                    true => Way::Kernel,
                    false => Way::None(format!("no route leads to {address}, and {} is gone", gone.join(", "))),
                };
            }
            Some(NextHop::Known { ifindex, .. } | NextHop::Unresolved { ifindex, .. }) => *ifindex,
        };
        let Some(nic) = attached.iter().find(|nic| nic.ifindex == ifindex) else {
            let name = self.names.get(&ifindex).cloned().unwrap_or_else(|| format!("interface {ifindex}"));
            return Way::None(if attached.iter().any(|nic| nic.name == name) {
                format!("its route leaves by {name}, which has come back and is not attached yet")
            } else {
                format!("its route leaves by {name}, which is not attached; add {name} to node.interfaces or --iface")
            });
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
        let others = entry.flags & !Backend::REACHABLE;
        match self {
            Self::Unknown => {}
            Self::Nic(nic, mac) => (entry.flags, entry.nic, entry.hop) = (others | Backend::REACHABLE, *nic, *mac),
            Self::Kernel | Self::None(_) => (entry.flags, entry.nic, entry.hop) = (others, 0, Mac([0; 6])),
        }
    }
}

/// Asks again this often for ways that are not whole, because neighbours were silent.
const AGAIN: Duration = Duration::from_secs(2);
/// Changes come in bursts: a NIC that goes down takes its routes and neighbours along.
const BURST: Duration = Duration::from_millis(20);
/// The pause between two looks is at least so many times what a look takes.
const CALM: u32 = 5;
/// Questions to the kernel at one time.
const AT_ONCE: usize = 16;

/// Follows the ways to `addresses` until the loop is gone.
pub async fn follow<N: Network>(
    network: Arc<N>,
    mut addresses: watch::Receiver<BTreeSet<Ipv4Addr>>,
    events: mpsc::Sender<Event>,
) {
    let mut changes = network.changes();
    let mut last: Option<Result<Surroundings, String>> = None;
    let mut is_all_new = true;
    loop {
        let wanted = addresses.borrow_and_update().clone();
        let start = Instant::now();
        let known = last.as_ref().and_then(|last| last.as_ref().ok()).filter(|_| !is_all_new);
        let found = look(&*network, &wanted, known).await.map_err(|error| format!("{error:#}"));
        let pause = BURST.max(start.elapsed() * CALM);
        let is_whole = found.as_ref().is_ok_and(|found| wanted.iter().all(|address| found.is_whole(*address)));
        if last.as_ref() != Some(&found) {
            if events.send(Event::Surroundings(found.clone())).await.is_err() {
                return;
            }
            last = Some(found);
        }
        is_all_new = tokio::select! {
            changed = addresses.changed() => {
                if changed.is_err() {
                    return;
                }
                false
            }
            Some(()) = changes.recv() => {
                time::sleep(pause).await;
                while changes.try_recv().is_ok() {}
                true
            }
            () = time::sleep(AGAIN.max(pause)), if !is_whole => false,
        };
    }
}

impl Surroundings {
    fn is_whole(&self, address: Ipv4Addr) -> bool {
        matches!(self.hops.get(&address), Some(NextHop::Known { .. }))
    }
}

/// Asks for everything, or, where something is `known`, for what is not whole in it.
async fn look<N: Network>(
    network: &N,
    addresses: &BTreeSet<Ipv4Addr>,
    known: Option<&Surroundings>,
) -> Result<Surroundings> {
    let (own, links) = (network.addresses().await?, network.links().await?);
    let running = |link: &Link| Some((link.ifindex, Running { mac: link.mac, ups: link.running? }));
    let running = links.iter().filter_map(running).collect();
    let bare = links.iter().filter(|link| link.xdp.is_none()).map(|link| link.ifindex).collect();
    let names = links.into_iter().map(|link| (link.ifindex, link.name)).collect();
    let mut found = Surroundings { addresses: own, names, running, bare, hops: BTreeMap::new() };
    let mut open = Vec::new();
    for address in addresses {
        match known.filter(|known| known.is_whole(*address)).and_then(|known| known.hops.get(address)) {
            Some(hop) => drop(found.hops.insert(*address, hop.clone())),
            None => open.push(*address),
        }
    }
    let mut answers =
        stream::iter(open).map(async |address| (address, network.next_hop(address).await)).buffer_unordered(AT_ONCE);
    while let Some((address, hop)) = answers.next().await {
        match hop {
            Ok(hop) => {
                if let NextHop::Unresolved { ifindex, neighbour } = hop
                    && let Err(error) = network.resolve(ifindex, neighbour).await
                {
                    log::debug!("cannot ask for {neighbour}: {error:#}");
                }
                found.hops.insert(address, hop);
            }
            // One question that failed says nothing of the others: its way stays as the maps have it.
            Err(error) => log::warn!("cannot ask for the way to {address}: {error:#}"),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const TWO: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
    const KNOWN: NextHop = NextHop::Known { ifindex: 2, mac: [2; 6] };

    /// Ways that the test sets, and who was asked for.
    #[derive(Default)]
    struct Set {
        ways: Mutex<BTreeMap<Ipv4Addr, NextHop>>,
        asked: Mutex<Vec<Ipv4Addr>>,
        resolved: Mutex<Vec<Ipv4Addr>>,
        changes: Mutex<Option<mpsc::Receiver<()>>>,
    }

    impl Network for Set {
        async fn next_hop(&self, address: Ipv4Addr) -> Result<NextHop> {
            self.asked.lock().unwrap().push(address);
            self.ways.lock().unwrap().get(&address).cloned().ok_or_else(|| anyhow::anyhow!("no buffer space"))
        }

        async fn addresses(&self) -> Result<BTreeSet<Address>> {
            Ok(BTreeSet::new())
        }

        async fn resolve(&self, _: u32, neighbour: Ipv4Addr) -> Result<()> {
            self.resolved.lock().unwrap().push(neighbour);
            Ok(())
        }

        async fn links(&self) -> Result<Vec<Link>> {
            Ok(Vec::new())
        }

        fn changes(&self) -> mpsc::Receiver<()> {
            self.changes.lock().unwrap().take().unwrap()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn asks_for_what_is_open_again_and_for_all_when_something_changed() {
        let set = Arc::new(Set::default());
        let (change, changes) = mpsc::channel(1);
        *set.changes.lock().unwrap() = Some(changes);
        let unresolved = NextHop::Unresolved { ifindex: 2, neighbour: TWO };
        *set.ways.lock().unwrap() = [(ONE, KNOWN), (TWO, unresolved.clone())].into();
        let (_addresses, wanted) = watch::channel([ONE, TWO].into());
        let (send, mut events) = mpsc::channel(4);
        tokio::spawn(follow(Arc::clone(&set), wanted, send));
        let mut seen = async || match events.recv().await {
            Some(Event::Surroundings(Ok(found))) => found.hops.into_values().collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(seen().await, [KNOWN, unresolved]);
        assert_eq!(*set.resolved.lock().unwrap(), [TWO]);
        set.ways.lock().unwrap().insert(TWO, KNOWN);
        assert_eq!(seen().await, [KNOWN, KNOWN]);
        assert_eq!(*set.asked.lock().unwrap(), [ONE, TWO, TWO], "who is known is not asked for again");
        // One that cannot be asked for leaves the others as they are.
        set.ways.lock().unwrap().insert(ONE, NextHop::NoRoute);
        set.ways.lock().unwrap().remove(&TWO);
        change.send(()).await.unwrap();
        assert_eq!(seen().await, [NextHop::NoRoute]);
    }

    #[test]
    fn a_way_that_is_not_ours_says_why() {
        let nic = Attached { name: "eth0".into(), ifindex: 2, nic: 5, mac: [0; 6], mode: "native" };
        let found = Surroundings {
            hops: [(TWO, NextHop::Known { ifindex: 3, mac: [3; 6] })].into(),
            names: [(3, "eth1".to_owned())].into(),
            ..Surroundings::unknown(&[ONE].into())
        };
        let way = |address| found.way(address, std::slice::from_ref(&nic));
        assert!(matches!(way(ONE), Way::None(why) if why.contains("the gateway itself")));
        assert!(matches!(way(TWO), Way::None(why) if why.contains("eth1, which is not attached")));
        assert_eq!(way(Ipv4Addr::new(10, 0, 0, 3)), Way::Unknown);
        // Deleted and made again, it has another number: naming it once more would not help.
        let again = Attached { name: "eth1".into(), ..nic.clone() };
        assert!(
            matches!(found.way(TWO, std::slice::from_ref(&again)), Way::None(why) if why.ends_with("not attached yet"))
        );
        assert_eq!(found.returned(&[nic.clone(), again]), ["eth1"]);
        // The same number, and no program on it.
        let same = Attached { ifindex: 3, ..nic.clone() };
        assert!(found.returned(std::slice::from_ref(&same)).is_empty());
        let bare = Surroundings { bare: [3].into(), ..found.clone() };
        assert_eq!(bare.returned(&[same]), ["eth0"]);
        // With the NIC its routes are gone.
        let routeless = Surroundings { hops: [(TWO, NextHop::NoRoute)].into(), ..found.clone() };
        let way = |ifindex| routeless.way(TWO, &[Attached { ifindex, ..nic.clone() }]);
        assert!(matches!(way(2), Way::None(why) if why.ends_with("and eth0 is gone")));
        assert_eq!(way(3), Way::Kernel);
        assert_eq!(found.gone(std::slice::from_ref(&nic)), ["eth0"]);
        assert!(found.gone(&[Attached { ifindex: 3, ..nic.clone() }]).is_empty());
        assert!(Surroundings::default().gone(std::slice::from_ref(&nic)).is_empty(), "nothing is known yet");
    }
}
