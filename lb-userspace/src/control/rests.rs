//! What is out of use and must rest before its number is given to another.
//!
//! A packet under way may have read a table a moment before it changed, so everything rests for a
//! second ([`REST`]); then a sweep that begins after that rest must show no flow of a backend. Until
//! then the backend's entry stays, and its flows with it.
//!
//! A backend that is out of use drains: its live flows are left alone for the time that its service's `drain`
//! says, and then go on or are reset. The backends of a service that is gone drain as it said last.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    time::{Duration, Instant, UNIX_EPOCH},
};

use lb_common::{Backend, BackendId, slots};

use super::{drains::Drained, wish::Wish};
use crate::{
    datapath::{FlowCounts, ServiceId, Snapshot},
    model::{Drain, LiveFlows, Model},
    plan::endpoint,
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
    backends: BTreeMap<BackendId, Draining>,
    /// What each service said last.
    drains: BTreeMap<ServiceId, Drain>,
    /// What the controller before us knew of those that drain; nothing once the first plan is done.
    recalled: Option<Vec<Drained>>,
    services: BTreeMap<ServiceId, Instant>,
    tables: BTreeMap<u16, Instant>,
    retire: BTreeSet<BackendId>,
    last_sweep: Instant,
}

/// A backend that is out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Draining {
    /// Since when; also before this controller started.
    pub(super) since: Now,
    /// Since when this controller knows that nothing leads to it.
    noted: Instant,
    /// What its service says; nothing where the service was gone before this controller started.
    pub(super) drain: Option<Drain>,
    /// Whether the time is over, and this was said.
    pub(super) is_over: bool,
}

impl Draining {
    /// When its flows are no longer left alone; never, where that is beyond what can be counted.
    pub(super) fn until(&self) -> Option<Instant> {
        self.drain.and_then(|drain| self.since.at.checked_add(drain.time))
    }
}

impl Rests {
    /// Nothing rests, and the first sweep is not due for a while.
    pub(super) fn new(now: Now) -> Self {
        Self {
            backends: BTreeMap::new(),
            drains: BTreeMap::new(),
            recalled: Some(Vec::new()),
            services: BTreeMap::new(),
            tables: BTreeMap::new(),
            retire: BTreeSet::new(),
            last_sweep: now.at,
        }
    }

    /// Takes in how long backends drain. What the file says now counts for those, too, that drain already.
    pub(super) fn heed(&mut self, model: &Model, have: &Snapshot, now: Now) {
        self.drains.retain(|id, _| have.names.contains_key(id));
        for (id, name) in &have.names {
            self.drains.extend(model.services.get(name).map(|service| (*id, service.drain)));
        }
        for (id, draining) in &mut self.backends {
            let service = have.backends.get(id).map(|backend| backend.service);
            draining.drain = service.and_then(|service| self.drains.get(&service)).copied().or(draining.drain);
            draining.is_over &= draining.until().is_some_and(|until| until <= now.at);
        }
    }

    /// Notes what is out of use after a plan was done whole. `before` is what the maps held before it.
    pub(super) fn note(&mut self, before: &BTreeSet<u16>, have: &Snapshot, wish: &Wish, now: Now) {
        self.backends.retain(|id, _| have.backends.contains_key(id) && !wish.members.contains(id));
        for (id, backend) in have.backends.iter().filter(|(id, _)| !wish.members.contains(id)) {
            let drain = self.drains.get(&backend.service).copied();
            let recalled = self.recalled.iter().flatten().find(|one| is_of(one, backend, have));
            self.backends.entry(*id).or_insert_with(|| Draining {
                since: recalled.map_or(now, |one| now.before(UNIX_EPOCH + Duration::from_millis(one.since_ms))),
                noted: now.at,
                drain: drain.or(recalled.map(Drained::drain)),
                is_over: false,
            });
        }
        self.recalled = None;
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

    /// When the next sweep is due; `is_often` for a sweep each second.
    pub(super) fn sweep_at(&self, is_often: bool) -> Instant {
        let last = self.last_sweep;
        if is_often {
            return last + REST;
        }
        let rested = self.backends.values().map(|draining| draining.noted + REST).filter(|at| *at > last).min();
        // Whoever has rested since the last sweep is swept for at once; the longer the others drain, the
        // less often.
        let youngest = self.backends.values().filter_map(|one| last.checked_duration_since(one.noted)).min();
        let again = last + youngest.map_or(SELDOM, |drained| (drained / 10).clamp(REST, SELDOM));
        rested.map_or(again, |first| first.min(again))
    }

    /// Takes in a sweep that began at `now`, and says whether any backend can be retired by it.
    pub(super) fn swept(&mut self, flows: &FlowCounts, now: Now) -> bool {
        let rested = self.backends.iter().filter(|(_, draining)| draining.noted + REST <= now.at);
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

    /// A backend that drains.
    pub(super) fn draining(&self, id: BackendId) -> Option<&Draining> {
        self.backends.get(&id)
    }

    /// Takes in what the controller before us knew.
    pub(super) fn recall(&mut self, drains: Vec<Drained>) {
        self.recalled = Some(drains);
    }

    /// What the controller after us shall know; nothing before the first plan is done.
    pub(super) fn drained(&self, have: &Snapshot) -> Option<Vec<Drained>> {
        if self.recalled.is_some() {
            return None;
        }
        let drained = self.backends.iter().filter_map(|(id, draining)| {
            let (backend, drain) = (have.backends.get(id)?, draining.drain?);
            let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            Some(Drained {
                service: have.names.get(&backend.service)?.clone(),
                address: endpoint(backend).into(),
                since_ms: millis(draining.since.wall.duration_since(UNIX_EPOCH).unwrap_or_default()),
                for_ms: millis(drain.time),
                resets: drain.then == LiveFlows::Reset,
            })
        });
        Some(drained.collect())
    }

    /// When the time of some backend is over.
    pub(super) fn ends_at(&self) -> Option<Instant> {
        self.backends.values().filter(|draining| !draining.is_over).filter_map(Draining::until).min()
    }

    /// The backends whose time is over by now; each is told once.
    pub(super) fn ended(&mut self, now: Now) -> Vec<(BackendId, Drain)> {
        let mut ended = Vec::new();
        for (id, draining) in self.backends.iter_mut().filter(|(_, draining)| !draining.is_over) {
            draining.is_over = draining.until().is_some_and(|until| until <= now.at);
            ended.extend(draining.drain.filter(|_| draining.is_over).map(|drain| (*id, drain)));
        }
        ended
    }

    /// Whether the flows of a backend that drains are to end now.
    pub(super) fn is_cut(&self, id: BackendId) -> bool {
        let draining = self.backends.get(&id).filter(|draining| draining.is_over);
        draining.and_then(|draining| draining.drain).is_some_and(|drain| drain.then == LiveFlows::Reset)
    }
}

fn is_of(drained: &Drained, backend: &Backend, have: &Snapshot) -> bool {
    SocketAddrV4::from(endpoint(backend)) == drained.address
        && have.names.get(&backend.service) == Some(&drained.service)
}

/// The large tables that services point to.
pub(super) fn large_tables(have: &Snapshot) -> BTreeSet<u16> {
    have.services.values().filter(|service| service.slots == slots::LARGE).map(|service| service.table).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_nobody_wrote_ends_never() {
        let now = Now::read();
        let one = |millis| {
            let drain = Drain { time: Duration::from_millis(millis), then: LiveFlows::Reset };
            Draining { since: now, noted: now.at, drain: Some(drain), is_over: false }
        };
        assert_eq!(one(1000).until(), Some(now.at + Duration::from_secs(1)));
        // A state directory that somebody edited must not keep the controller from starting.
        assert_eq!(
            Draining { drain: Some(Drain { time: Duration::MAX, then: LiveFlows::Keep }), ..one(0) }.until(),
            None
        );
    }

    #[test]
    fn places_are_swept_for_also_when_nobody_drains() {
        let now = Now::read();
        let mut rests = Rests::new(now);
        assert_eq!(rests.sweep_at(false), now.at + SELDOM);
        let later = now.after(Duration::from_secs(30));
        assert!(!rests.swept(&FlowCounts::default(), later));
        assert_eq!(rests.sweep_at(false), later.at + SELDOM);
    }
}
