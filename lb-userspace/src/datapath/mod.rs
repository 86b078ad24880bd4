//! What the controller may ask of the packet path.
//!
//! [`kernel`] does it with BPF maps and is the only user of aya; [`memory`] does it in memory and
//! fails on demand, for tests. Neither decides anything.

pub mod choice;
pub mod entry;
pub mod kernel;
pub mod query;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use anyhow::Result;
use bytemuck::Zeroable as _;
use ipnet::Ipv4Net;
use lb_common::{Backend, BackendId, Endpoint, Limits, Reason, Service, Times, Traffic};

use self::{
    choice::Choice,
    entry::Ending,
    query::{Listing, Query},
};
use crate::model::LogConnections;

pub mod memory;

/// A service's number: its index in the maps of tables and names.
pub type ServiceId = u16;

/// Clients of one service: a key of the map of who may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Prefix {
    /// The service.
    pub service: ServiceId,
    /// Its clients.
    pub clients: Ipv4Net,
}

/// What the maps hold: all that a plan starts from. Read once at start; the controller keeps its own
/// copy up to date by [`Snapshot::note`] with each step that was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The services' names, by id.
    pub names: BTreeMap<ServiceId, String>,
    /// The endpoints that are served.
    pub services: BTreeMap<Endpoint, Service>,
    /// The slot tables of `services`, by {slots, table}: backend ids, 0 for nobody.
    pub tables: BTreeMap<(u32, u16), Vec<BackendId>>,
    /// The backends, those included that only keep their last flows.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Endpoints of backends: replies come from there.
    pub endpoints: BTreeSet<Endpoint>,
    /// The gateway's own addresses.
    pub locals: BTreeSet<Ipv4Addr>,
    /// The limits of services that have any.
    pub limits: BTreeMap<ServiceId, Limits>,
    /// Who may connect, as [`Origin`](lb_common::Origin) says it; of all prefixes that a client is in, the longest counts.
    pub access: BTreeMap<Prefix, u32>,
    /// VIPs that are, were or are about to be on the gateway because we put them there.
    pub announced: BTreeSet<Ipv4Addr>,
}

/// One write to the packet path. The order of a plan never drops a packet: what is pointed to is
/// written before what points to it, and removed after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The gateway has this address.
    AddLocal(Ipv4Addr),
    /// The gateway has lost this address.
    RemoveLocal(Ipv4Addr),
    /// Names a service id, for the next controller.
    NameService(ServiceId, String),
    /// Makes a backend, or changes its flags and next hop. A new one starts with zeroed traffic and times.
    PutBackend(BackendId, Backend),
    /// Sets the limits of a service; all zero for none.
    PutLimits(ServiceId, Limits),
    /// Says whether clients may connect.
    PutAccess(Prefix, u32),
    /// Says nothing of them any more.
    RemoveAccess(Prefix),
    /// Replies may come from here.
    AddEndpoint(Endpoint),
    /// Fills the whole table {slots, table} in one write.
    FillTable { slots: u32, table: u16, ids: Vec<BackendId> },
    /// Serves an endpoint, or changes which table it points to. The datapath keeps the address filter
    /// and the map of VIPs in line with what is published.
    PublishService(Endpoint, Service),
    /// From now on this VIP is ours alone: ports of it that no service has are refused. It has to be served, and
    /// comes before its address is put on the gateway.
    Announce(Ipv4Addr),
    /// Serves an endpoint no longer; connections through it go on.
    WithdrawService(Endpoint),
    /// The VIP is not ours alone, or not on the gateway any more.
    Unannounce(Ipv4Addr),
    /// Replies no longer come from here.
    RemoveEndpoint(Endpoint),
    /// Frees a backend id that no flow names any more.
    RetireBackend(BackendId),
    /// Frees a service id.
    ForgetService(ServiceId),
}

/// What one sweep of the flow table saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowCounts {
    /// Flows of services that have not ended and are not idle beyond their timeout.
    pub live: u64,
    /// Handshakes with services under way, and flows in mid-life that are not believed yet.
    pub half_open: u64,
    /// Flows that the table is made for.
    pub max: u64,
    /// How long the sweep took.
    pub took: Duration,
    /// Live flows by backend; backends without any are missing.
    pub by_backend: BTreeMap<BackendId, u64>,
    /// Announced VIPs that nothing has been served on for a while and that no flow names.
    pub quiet: BTreeSet<Ipv4Addr>,
    /// What is half open, by backend; backends without any are missing.
    pub handshakes: BTreeMap<BackendId, u64>,
    /// Backends of connections that have ended: they stay a while for what is late, or is sent again.
    pub closing: BTreeSet<BackendId>,
    /// Connections that were found to be over and that [`Datapath::tell_of`] asks for; each is told of once.
    pub ended: Vec<Ending>,
    /// And so many more, which nobody is told of.
    pub untold: u64,
}

impl FlowCounts {
    /// Whether anything still leads to a backend.
    pub fn names(&self, id: BackendId) -> bool {
        self.by_backend.contains_key(&id) || self.handshakes.contains_key(&id) || self.closing.contains(&id)
    }
}

/// A NIC that the program is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// Its name.
    pub name: String,
    /// The kernel's number of it.
    pub ifindex: u32,
    /// Its index in the map of NICs, as [`Backend::nic`] names it.
    pub nic: u16,
    /// Its own Ethernet address.
    pub mac: [u8; 6],
    /// In the driver (`native`) or the generic hook (`generic`).
    pub mode: &'static str,
}

/// The packet path as the controller sees it.
pub trait Datapath {
    /// All that the maps hold.
    fn snapshot(&mut self) -> Result<Snapshot>;
    /// Does one step, whole or not at all.
    fn apply(&mut self, step: &Step) -> Result<()>;
    /// Sweeps the flow tables: counts what lives, and frees what is over.
    fn flows(&mut self) -> Result<FlowCounts>;
    /// Says which connections sweeps tell of when they have ended; none at first.
    fn tell_of(&mut self, endings: LogConnections);
    /// Looks for connections. Nothing is freed or counted.
    fn list(&mut self, query: &Query) -> Result<Listing>;
    /// What the maps say to a client that opens a connection; `None` where nothing is served on the endpoint.
    fn choice(&mut self, client: Ipv4Addr, listen: Endpoint) -> Result<Option<Choice>>;
    /// What went to and came from each of these backends, all CPUs together.
    fn traffic(&mut self, ids: &[BackendId]) -> Result<BTreeMap<BackendId, Traffic>>;
    /// How fast each of these backends answers; those that nothing was timed of have a count of zero.
    fn times(&mut self, ids: &[BackendId]) -> Result<BTreeMap<BackendId, Times>>;
    /// How many packets ended for each reason, all CPUs together, in the order of [`Reason::ALL`].
    fn reasons(&mut self) -> Result<[u64; Reason::COUNT]>;
    /// The NICs that the program is attached to, those that vanished since included.
    fn attached(&self) -> &[Attached];
    /// Jiffies a second: what the packet path counts time in.
    fn hertz(&self) -> u32;
    /// Attaches to the NIC that has the name of one that vanished. Flows of the old one go on by the new one.
    fn attach(&mut self, name: &str) -> Result<()>;
}

impl Snapshot {
    /// What the maps hold after `step`.
    pub fn note(&mut self, step: &Step) {
        match step {
            Step::AddLocal(address) => {
                self.locals.insert(*address);
            }
            Step::RemoveLocal(address) => {
                self.locals.remove(address);
            }
            Step::NameService(id, name) => {
                self.names.insert(*id, name.clone());
            }
            Step::PutBackend(id, backend) => {
                self.backends.insert(*id, *backend);
            }
            Step::PutLimits(id, limits) if *limits == Limits::zeroed() => {
                self.limits.remove(id);
            }
            Step::PutLimits(id, limits) => {
                self.limits.insert(*id, *limits);
            }
            Step::PutAccess(prefix, verdict) => {
                self.access.insert(*prefix, *verdict);
            }
            Step::RemoveAccess(prefix) => {
                self.access.remove(prefix);
            }
            Step::AddEndpoint(endpoint) => {
                self.endpoints.insert(*endpoint);
            }
            Step::FillTable { slots, table, ids } => {
                self.tables.insert((*slots, *table), ids.clone());
            }
            Step::PublishService(endpoint, service) => {
                let old = self.services.insert(*endpoint, *service);
                self.forget_table(old);
            }
            Step::WithdrawService(endpoint) => {
                let old = self.services.remove(endpoint);
                self.forget_table(old);
            }
            Step::Announce(address) => {
                self.announced.insert(*address);
            }
            Step::Unannounce(address) => {
                self.announced.remove(address);
            }
            Step::RemoveEndpoint(endpoint) => {
                self.endpoints.remove(endpoint);
            }
            Step::RetireBackend(id) => {
                self.backends.remove(id);
            }
            Step::ForgetService(id) => {
                self.names.remove(id);
            }
        }
    }

    /// A table that no service points to any more is nobody's: what is in it is not to be relied on.
    fn forget_table(&mut self, service: Option<Service>) {
        let Some(old) = service else { return };
        if !self.services.values().any(|service| (service.slots, service.table) == (old.slots, old.table)) {
            self.tables.remove(&(old.slots, old.table));
        }
    }
}
