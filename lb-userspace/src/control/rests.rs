//! What is out of use and must rest before its number is given to another.
//!
//! A packet under way may have read a table a moment before it changed, so everything rests for a
//! second ([`REST`]); then a sweep that begins after that rest must show no flow of a backend. Until
//! then the backend's entry stays, and its flows with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use lb_common::{BackendId, slots};

use super::wish::Wish;
use crate::{
    datapath::{FlowCounts, ServiceId, Snapshot},
    time::Now,
};

/// How long numbers and tables rest.
pub(super) const REST: Duration = Duration::from_secs(1);
/// The longest time between two sweeps. They are due when nobody drains, too: a sweep frees the places of
/// flows that are over.
const SELDOM: Duration = Duration::from_secs(10);

/// What rests.
#[derive(Debug)]
pub(super) struct Rests {
    backends: BTreeMap<BackendId, Now>,
    services: BTreeMap<ServiceId, Instant>,
    tables: BTreeMap<u16, Instant>,
    retire: BTreeSet<BackendId>,
    last_sweep: Instant,
}

impl Rests {
    /// Nothing rests, and the first sweep is not due for a while.
    pub(super) fn new(now: Now) -> Self {
        Self {
            backends: BTreeMap::new(),
            services: BTreeMap::new(),
            tables: BTreeMap::new(),
            retire: BTreeSet::new(),
            last_sweep: now.at,
        }
    }

    /// Notes what is out of use after a plan was done whole. `before` is what the maps held before it.
    pub(super) fn note(&mut self, before: &BTreeSet<u16>, have: &Snapshot, wish: &Wish, now: Now) {
        self.backends.retain(|id, _| have.backends.contains_key(id) && !wish.members.contains(id));
        for id in have.backends.keys().filter(|id| !wish.members.contains(id)) {
            self.backends.entry(*id).or_insert(now);
        }
        self.retire.retain(|id| self.backends.contains_key(id));
        self.services.retain(|id, _| have.names.contains_key(id) && !wish.wanted.services.contains_key(id));
        for id in have.names.keys().filter(|id| !wish.wanted.services.contains_key(id)) {
            self.services.entry(*id).or_insert(now.at);
        }
        let used = large_tables(have);
        for table in before.difference(&used) {
            self.tables.insert(*table, now.at + REST);
        }
        self.tables.retain(|table, until| *until > now.at && !used.contains(table));
    }

    /// When the next sweep is due.
    pub(super) fn sweep_at(&self) -> Instant {
        let last = self.last_sweep;
        let rested = self.backends.values().map(|since| since.at + REST).filter(|at| *at > last).min();
        // Whoever has rested since the last sweep is swept for at once; the longer the others drain, the
        // less often.
        let youngest = self.backends.values().filter_map(|since| last.checked_duration_since(since.at)).min();
        let again = last + youngest.map_or(SELDOM, |drained| (drained / 10).clamp(REST, SELDOM));
        rested.map_or(again, |first| first.min(again))
    }

    /// Takes in a sweep that began at `now`, and says whether any backend can be retired by it.
    pub(super) fn swept(&mut self, flows: &FlowCounts, now: Now) -> bool {
        let rested = self.backends.iter().filter(|(_, since)| since.at + REST <= now.at);
        self.retire = rested.map(|(id, _)| *id).filter(|id| !flows.names(*id)).collect();
        self.last_sweep = now.at;
        !self.retire.is_empty()
    }

    /// Backends that may be retired.
    pub(super) fn retire(&self) -> &BTreeSet<BackendId> {
        &self.retire
    }

    /// Services that may be forgotten: out of use for long enough, and all their backends retired.
    pub(super) fn forget(&self, have: &Snapshot, now: Now) -> BTreeSet<ServiceId> {
        let rested = self.services.iter().filter(|(_, since)| **since + REST <= now.at).map(|(id, _)| *id);
        let left = have.backends.iter().filter(|(id, _)| !self.retire.contains(id));
        let named: BTreeSet<ServiceId> = left.map(|(_, backend)| backend.service).collect();
        rested.filter(|id| !named.contains(id)).collect()
    }

    /// When a service may first be forgotten that has no backends to wait for.
    pub(super) fn forget_at(&self, have: &Snapshot) -> Option<Instant> {
        let named: BTreeSet<ServiceId> = have.backends.values().map(|backend| backend.service).collect();
        self.services.iter().filter(|(id, _)| !named.contains(id)).map(|(_, since)| *since + REST).min()
    }

    /// Large tables that rest.
    pub(super) fn tables(&self) -> BTreeSet<u16> {
        self.tables.keys().copied().collect()
    }

    /// Since when a backend drains.
    pub(super) fn drains_since(&self, id: BackendId) -> Option<SystemTime> {
        self.backends.get(&id).map(|since| since.wall)
    }
}

/// The large tables that services point to.
pub(super) fn large_tables(have: &Snapshot) -> BTreeSet<u16> {
    have.services.values().filter(|service| service.slots == slots::LARGE).map(|service| service.table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_swept_for_also_when_nobody_drains() {
        let now = Now::read();
        let mut rests = Rests::new(now);
        assert_eq!(rests.sweep_at(), now.at + SELDOM);
        let later = now.after(Duration::from_secs(30));
        assert!(!rests.swept(&FlowCounts::default(), later));
        assert_eq!(rests.sweep_at(), later.at + SELDOM);
    }
}
