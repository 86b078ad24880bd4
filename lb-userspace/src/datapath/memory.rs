//! A packet path in memory, for tests: it fails on demand, and it refuses every step that would leave
//! something pointing at nothing, so a plan in a wrong order is an error and not a lost packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use anyhow::{Result, bail, ensure};
use bytemuck::Zeroable as _;
use lb_common::{Backend, BackendId, Endpoint, Limits, Reason, Service, Times, Traffic};

use super::{
    Attached, Datapath, FlowCounts, Snapshot, Step,
    choice::Choice,
    entry::Entry,
    query::{Listing, Query, Shortlist},
};
use crate::{model::LogConnections, plan::endpoint};

/// Maps in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryDatapath {
    /// What the maps hold.
    pub maps: Snapshot,
    /// What sweeps see. Of what has ended the next one tells, and no other.
    pub flows: FlowCounts,
    /// What sweeps were asked to tell of.
    pub endings: LogConnections,
    /// What a look finds.
    pub entries: Vec<Entry>,
    /// How many connections clients have.
    pub connections: BTreeMap<Ipv4Addr, u32>,
    /// What backends have carried.
    pub traffic: BTreeMap<BackendId, Traffic>,
    /// How fast they have answered.
    pub times: BTreeMap<BackendId, Times>,
    /// The NICs.
    pub attached: Vec<Attached>,
    /// The numbers of NICs that came back, by name; to attach to any other fails.
    pub returned: BTreeMap<String, u32>,
    /// How many steps succeed before one fails; the failing one and all after it until this is set anew.
    pub failing_after: Option<usize>,
    /// Whether sweeps fail.
    pub failing_sweeps: bool,
    /// All steps that were done.
    pub applied: Vec<Step>,
}

impl MemoryDatapath {
    /// With one NIC, `eth0`, whose kernel number is 2.
    pub fn new() -> Self {
        let mac = [2, 0, 0, 0, 0, 1];
        let attached = Attached { name: "eth0".to_owned(), ifindex: 2, nic: 0, mac, mode: "native" };
        Self { attached: vec![attached], ..Self::default() }
    }

    fn tables_in_use(&self) -> BTreeSet<(u32, u16)> {
        self.maps.services.values().map(|service| (service.slots, service.table)).collect()
    }

    /// Whether the step leaves everything that is pointed to in place.
    fn check(&self, step: &Step) -> Result<()> {
        let maps = &self.maps;
        match step {
            Step::FillTable { slots, ids, .. } => {
                ensure!(ids.len() == *slots as usize, "a table of {} slots for {slots}", ids.len());
                let stranger = distinct(ids).into_iter().find(|id| !maps.backends.contains_key(id));
                ensure!(stranger.is_none(), "a table names backend {stranger:?}, which is not there");
                let takes = |id: &BackendId| maps.backends[id].flags & Backend::ELIGIBLE != 0;
                let closed = distinct(ids).into_iter().find(|id| !takes(id));
                ensure!(closed.is_none(), "a table names backend {closed:?}, which takes no new flows");
            }
            Step::PutBackend(id, backend) => {
                ensure!(*id != 0 && backend.flags & Backend::PRESENT != 0, "backend {id} is nobody");
                let old = maps.backends.get(id);
                let moved = old.is_some_and(|old| endpoint(old) != endpoint(backend) || old.service != backend.service);
                ensure!(!moved, "the id {id} of a backend that is there is given to another");
                let is_named = self.tables_in_use().iter().any(|table| maps.tables[table].contains(id));
                let takes = backend.flags & (Backend::ELIGIBLE | Backend::RESETS) == Backend::ELIGIBLE;
                ensure!(takes || !is_named, "a table leads to backend {id}, which would take no new flows");
            }
            Step::PublishService(listen, service) => {
                let Some(ids) = maps.tables.get(&(service.slots, service.table)) else {
                    bail!("{listen:?} points to a table that is not filled");
                };
                ensure!(maps.names.contains_key(&service.id), "{listen:?} points to a service without a name");
                let silent = distinct(ids).into_iter().find(|id| {
                    maps.backends.get(id).is_none_or(|backend| !maps.endpoints.contains(&endpoint(backend)))
                });
                ensure!(silent.is_none(), "replies of backend {silent:?} would not be known");
                self.check_policy(service, maps.limits.get(&service.id).unwrap_or(&Limits::zeroed()))?;
            }
            Step::PutLimits(id, limits) => {
                ensure!(maps.names.contains_key(id), "limits of service {id}, which has no name");
                let mut services = maps.services.values().filter(|service| service.id == *id);
                services.try_for_each(|service| self.check_policy(service, limits))?;
            }
            Step::PutAccess(prefix, _) => {
                ensure!(maps.names.contains_key(&prefix.service), "clients of a service without a name: {prefix:?}");
            }
            Step::RemoveAccess(prefix) => {
                ensure!(maps.access.contains_key(prefix), "nothing is said of {prefix:?}");
                let last = maps.access.keys().filter(|other| other.service == prefix.service).count() == 1;
                let mut services = maps.services.values().filter(|service| service.id == prefix.service);
                let is_asked = services.any(|service| service.flags & Service::FILTERED != 0);
                ensure!(!(last && is_asked), "everybody could connect with service {}", prefix.service);
            }
            Step::RemoveEndpoint(removed) => {
                // Its last backend is retired right after: only those in tables matter here.
                for table in self.tables_in_use() {
                    let ids = maps.tables.get(&table).map_or(Vec::new(), |ids| distinct(ids));
                    let mut named = ids.iter().filter_map(|id| maps.backends.get(id));
                    ensure!(named.all(|backend| endpoint(backend) != *removed), "a table still leads to {removed:?}");
                }
            }
            Step::RetireBackend(id) => {
                let in_use = self.tables_in_use();
                let named = in_use.iter().filter_map(|table| maps.tables.get(table)).any(|ids| ids.contains(id));
                ensure!(!named, "a table still names backend {id}");
                ensure!(!self.flows.names(*id), "flows still name backend {id}");
            }
            Step::ForgetService(id) => {
                ensure!(maps.services.values().all(|service| service.id != *id), "service {id} is still served");
                ensure!(
                    maps.backends.values().all(|backend| backend.service != *id),
                    "service {id} still has backends"
                );
                ensure!(!maps.limits.contains_key(id), "service {id} still has limits");
                ensure!(maps.access.keys().all(|prefix| prefix.service != *id), "service {id} still judges clients");
            }
            Step::AddLocal(_) | Step::RemoveLocal(_) | Step::NameService(..) | Step::AddEndpoint(_) => {}
            Step::Unannounce(_) => {}
            Step::Announce(address) => {
                let is_served = maps.services.keys().any(|listen| Ipv4Addr::from(listen.address) == *address);
                ensure!(is_served, "{address} is announced, and nothing is served on it");
            }
            Step::WithdrawService(listen) => {
                ensure!(maps.services.contains_key(listen), "{listen:?} is not served");
            }
        }
        Ok(())
    }

    /// Whether what a service's flags make the packet path ask for is there.
    fn check_policy(&self, service: &Service, limits: &Limits) -> Result<()> {
        let asks = |flag: u32| service.flags & flag != 0;
        ensure!(!asks(Service::RATED) || limits.interval > 0, "service {} has no rate", service.id);
        ensure!(!asks(Service::PER_SOURCE) || limits.per_source > 0, "service {} lets nobody in", service.id);
        let is_said = self.maps.access.keys().any(|prefix| prefix.service == service.id);
        ensure!(
            !asks(Service::FILTERED) || is_said,
            "service {} asks who may connect, and nothing is said",
            service.id
        );
        Ok(())
    }
}

/// The backends that a table names.
fn distinct(ids: &[BackendId]) -> Vec<BackendId> {
    let mut ids: Vec<BackendId> =
        ids.chunk_by(|one, other| one == other).filter_map(|run| run.first()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| *id != 0);
    ids
}

impl Datapath for MemoryDatapath {
    fn snapshot(&mut self) -> Result<Snapshot> {
        let in_use = self.tables_in_use();
        let mut maps = self.maps.clone();
        maps.tables.retain(|table, _| in_use.contains(table));
        Ok(maps)
    }

    fn apply(&mut self, step: &Step) -> Result<()> {
        match &mut self.failing_after {
            Some(0) => bail!("no memory, as the test wants it"),
            Some(left) => *left -= 1,
            None => {}
        }
        self.check(step)?;
        if let Step::PutBackend(id, _) = step
            && !self.maps.backends.contains_key(id)
        {
            self.traffic.remove(id);
            self.times.remove(id);
        }
        self.maps.note(step);
        self.applied.push(step.clone());
        Ok(())
    }

    fn flows(&mut self) -> Result<FlowCounts> {
        ensure!(!self.failing_sweeps, "no clock, as the test wants it");
        let mut swept = self.flows.clone();
        self.flows.ended.clear();
        self.flows.untold = 0;
        swept.ended.retain(|ending| ending.is_wanted(self.endings));
        Ok(swept)
    }

    fn tell_of(&mut self, endings: LogConnections) {
        self.endings = endings;
    }

    fn list(&mut self, query: &Query) -> Result<Listing> {
        let mut list = Shortlist::new(query);
        for entry in &self.entries {
            let [client, vip] = [entry.client, entry.vip].map(Endpoint::from);
            list.offer((client.address, client.port, vip.address, vip.port), entry.id, || entry.clone());
        }
        Ok(list.listing())
    }

    fn choice(&mut self, client: Ipv4Addr, listen: Endpoint) -> Result<Option<Choice>> {
        let Some(service) = self.maps.services.get(&listen).copied() else { return Ok(None) };
        let table = self.maps.tables.get(&(service.slots, service.table)).cloned().unwrap_or_default();
        let said = self.maps.access.iter().filter(|(prefix, _)| prefix.service == service.id);
        let said = said.filter(|(prefix, _)| prefix.clients.contains(&client));
        let verdict = said.max_by_key(|(prefix, _)| prefix.clients.prefix_len()).map_or(0, |(_, verdict)| *verdict);
        let per_source = self.maps.limits.get(&service.id).map_or(0, |limits| limits.per_source);
        let connections = self.connections.get(&client).copied().unwrap_or(0);
        Ok(Some(Choice { service, table, verdict, connections, per_source }))
    }

    fn traffic(&mut self, ids: &[BackendId]) -> Result<BTreeMap<BackendId, Traffic>> {
        let none = Traffic { packets: [0; 2], bytes: [0; 2] };
        Ok(ids.iter().map(|id| (*id, self.traffic.get(id).copied().unwrap_or(none))).collect())
    }

    fn times(&mut self, ids: &[BackendId]) -> Result<BTreeMap<BackendId, Times>> {
        let none = Times { average: 0, count: 0, sum: 0 };
        Ok(ids.iter().map(|id| (*id, self.times.get(id).copied().unwrap_or(none))).collect())
    }

    fn reasons(&mut self) -> Result<[u64; Reason::COUNT]> {
        Ok([0; Reason::COUNT])
    }

    fn attached(&self) -> &[Attached] {
        &self.attached
    }

    fn hertz(&self) -> u32 {
        1000
    }

    fn attach(&mut self, name: &str) -> Result<()> {
        let Some(ifindex) = self.returned.get(name) else { bail!("{name}: another XDP program is attached") };
        for nic in self.attached.iter_mut().filter(|nic| nic.name == name) {
            nic.ifindex = *ifindex;
        }
        Ok(())
    }
}
