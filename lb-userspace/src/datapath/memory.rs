//! A packet path in memory, for tests: it fails on demand, and it refuses every step that would leave
//! something pointing at nothing, so a plan in a wrong order is an error and not a lost packet.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail, ensure};
use lb_common::{Backend, BackendId, Reason, Traffic};

use super::{
    Attached, Datapath, FlowCounts, Snapshot, Step,
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
    /// What backends have carried.
    pub traffic: BTreeMap<BackendId, Traffic>,
    /// The NICs.
    pub attached: Vec<Attached>,
    /// How many steps succeed before one fails; the failing one and all after it until this is set anew.
    pub failing_after: Option<usize>,
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
            }
            Step::PutBackend(id, backend) => {
                ensure!(*id != 0 && backend.flags & Backend::PRESENT != 0, "backend {id} is nobody");
                let old = maps.backends.get(id);
                let moved = old.is_some_and(|old| endpoint(old) != endpoint(backend) || old.service != backend.service);
                ensure!(!moved, "the id {id} of a backend that is there is given to another");
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
            }
            Step::AddLocal(_) | Step::RemoveLocal(_) | Step::NameService(..) | Step::AddEndpoint(_) => {}
            Step::WithdrawService(listen) => {
                ensure!(maps.services.contains_key(listen), "{listen:?} is not served");
            }
        }
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
        }
        self.maps.note(step);
        self.applied.push(step.clone());
        Ok(())
    }

    fn flows(&mut self) -> Result<FlowCounts> {
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
            let [client, vip] = [entry.client, entry.vip].map(lb_common::Endpoint::from);
            list.offer((client.address, client.port, vip.address, vip.port), entry.id, || entry.clone());
        }
        Ok(list.listing())
    }

    fn traffic(&mut self, ids: &[BackendId]) -> Result<BTreeMap<BackendId, Traffic>> {
        let none = Traffic { packets: [0; 2], bytes: [0; 2] };
        Ok(ids.iter().map(|id| (*id, self.traffic.get(id).copied().unwrap_or(none))).collect())
    }

    fn reasons(&mut self) -> Result<[u64; Reason::COUNT]> {
        Ok([0; Reason::COUNT])
    }

    fn attached(&self) -> &[Attached] {
        &self.attached
    }
}
