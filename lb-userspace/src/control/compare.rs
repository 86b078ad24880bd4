//! What a model would change: keys, services and backends, and how many clients would go elsewhere. Nothing is done.
//!
//! The table that a service would have is made as if backends that nothing is known of were up, for that is what
//! whoever adds one means.

use std::{collections::BTreeMap, net::SocketAddrV4};

use lb_common::BackendId;

use super::{controller::Controller, report::Load, surroundings::Way};
use crate::{
    balance::{Share, maglev},
    datapath::Datapath,
    health::Standing,
    model::{AllDown, Backend, Drain, Keys, LiveFlows, Model, Service},
    observe::documents::{BackendDiff, Change, Diff, KeyDiff, ServiceDiff},
    plan::endpoint,
    time::{Now, spelt},
};

impl<D: Datapath> Controller<D> {
    /// What the model would change.
    pub(super) fn diff(&mut self, new: &Model, now: Now) -> Result<Diff, String> {
        let load = self.load(now)?;
        let Some(old) = &self.model else { return Err("no file is in force yet".to_owned()) };
        let keys = differences(&old.keys(), &new.keys());
        let mut names: Vec<&String> = old.services.keys().chain(new.services.keys()).collect();
        names.sort_unstable();
        names.dedup();
        let services: Vec<ServiceDiff> = names
            .into_iter()
            .filter_map(|name| self.service_diff(name, old.services.get(name), new.services.get(name), &load))
            .collect();
        let changed = !keys.is_empty() || !services.is_empty();
        Ok(Diff { changed, keys, services, needs_restart: self.needs_restart(new) })
    }

    /// What would become of a service; nothing where it stays as it is.
    fn service_diff(
        &self,
        name: &str,
        old: Option<&Service>,
        new: Option<&Service>,
        load: &Load,
    ) -> Option<ServiceDiff> {
        if old == new {
            return None;
        }
        let flows = self.flows_of(name, load);
        let keys =
            differences(&old.map(Service::keys).unwrap_or_default(), &new.map(Service::keys).unwrap_or_default());
        let backends = backend_diffs(old, new, &flows);
        let gone = backends.iter().filter(|backend| backend.change == Change::Removed);
        let diff = ServiceDiff {
            name: name.to_owned(),
            change: change(old.is_some(), new.is_some())?,
            moved: old.zip(new).map_or(0, |(_, new)| self.moved(name, new)),
            slots: new.or(old)?.slots,
            draining: gone.map(|backend| backend.flows).sum(),
            drain: fate(new.or(old)?.drain),
            flows: flows.values().sum(),
            keys,
            backends,
        };
        // The same backends in another order: nobody would notice.
        let is_same = diff.change == Change::Changed && diff.keys.is_empty() && diff.backends.is_empty();
        (!is_same).then_some(diff)
    }

    /// The live flows of a service's backends.
    fn flows_of(&self, name: &str, load: &Load) -> BTreeMap<SocketAddrV4, u64> {
        let mine = self
            .have
            .backends
            .iter()
            .filter(|(_, backend)| self.have.names.get(&backend.service).is_some_and(|known| known == name));
        let flows = |id: &BackendId| load.flows.by_backend.get(id).copied().unwrap_or(0);
        mine.map(|(id, backend)| (endpoint(backend).into(), flows(id))).collect()
    }

    /// How many slots would lead to another backend than they do.
    fn moved(&self, name: &str, new: &Service) -> u32 {
        let then = self.table(name, new);
        let now = self.table_in_force(name);
        if now.is_empty() {
            return 0;
        }
        if now.len() == then.len() {
            return now.iter().zip(&then).filter(|(now, then)| now != then).count() as u32;
        }
        // Another number of slots: where a client was says nothing of where it will be.
        let share = |table: &[Option<SocketAddrV4>]| {
            let mut counts: BTreeMap<Option<SocketAddrV4>, f64> = BTreeMap::new();
            table.iter().for_each(|backend| *counts.entry(*backend).or_default() += 1.0 / table.len() as f64);
            counts
        };
        let (now, then) = (share(&now), share(&then));
        let stay: f64 = then.iter().map(|(backend, part)| part * now.get(backend).copied().unwrap_or(0.0)).sum();
        ((1.0 - stay) * f64::from(new.slots)).round() as u32
    }

    /// Who stands in the slots of a service's table; nobody where it is not served.
    fn table_in_force(&self, name: &str) -> Vec<Option<SocketAddrV4>> {
        let id = self.have.names.iter().find(|(_, known)| *known == name).map(|(id, _)| *id);
        let service = self.have.services.values().find(|service| Some(service.id) == id);
        let table = service.and_then(|service| self.have.tables.get(&(service.slots, service.table)));
        let address = |id: &BackendId| self.have.backends.get(id).map(|backend| endpoint(backend).into());
        table.into_iter().flatten().map(address).collect()
    }

    /// Who would stand in the slots of a service's table.
    fn table(&self, name: &str, service: &Service) -> Vec<Option<SocketAddrV4>> {
        let is_led_to = |backend: &&Backend| !matches!(self.way(backend.address), Some(Way::None(_)));
        let would_serve = |backend: &&Backend| self.would_serve(name, backend.address);
        let mut takers: Vec<&Backend> = service.backends.iter().filter(is_led_to).filter(would_serve).collect();
        if takers.is_empty() && service.all_down == AllDown::Any {
            takers = service.backends.iter().filter(is_led_to).collect();
        }
        let share = |(backend, id): (&&Backend, BackendId)| Share {
            endpoint: backend.address.into(),
            weight: backend.weight,
            id,
        };
        let shares: Vec<Share> = takers.iter().zip(1..).map(share).collect();
        let taker = |id: &BackendId| takers.get(usize::from(*id).checked_sub(1)?).map(|backend| backend.address);
        maglev(&shares, service.slots).iter().map(taker).collect()
    }

    /// Whether a backend would be up, as far as it is known.
    fn would_serve(&self, service: &str, address: SocketAddrV4) -> bool {
        let health = self.roster.team(service).and_then(|team| team.member(&address));
        health.is_none_or(|health| health.standing != Standing::Down)
    }
}

/// What becomes of the live flows of backends that go.
fn fate(drain: Drain) -> String {
    match drain.then {
        LiveFlows::Keep => "until they end".to_owned(),
        LiveFlows::Reset => format!("for {} at most, then they are reset", spelt(drain.time)),
    }
}

fn change(was: bool, will_be: bool) -> Option<Change> {
    match (was, will_be) {
        (false, true) => Some(Change::Added),
        (true, false) => Some(Change::Removed),
        (true, true) => Some(Change::Changed),
        (false, false) => None,
    }
}

/// What would become of a service's backends; those that stay as they are are left out.
fn backend_diffs(
    old: Option<&Service>,
    new: Option<&Service>,
    flows: &BTreeMap<SocketAddrV4, u64>,
) -> Vec<BackendDiff> {
    let by_address = |service: Option<&'_ Service>| -> BTreeMap<SocketAddrV4, Backend> {
        let backends = service.into_iter().flat_map(|service| &service.backends);
        backends.map(|backend| (backend.address, backend.clone())).collect()
    };
    let (old, new) = (by_address(old), by_address(new));
    let mut addresses: Vec<SocketAddrV4> = old.keys().chain(new.keys()).copied().collect();
    addresses.sort_unstable();
    addresses.dedup();
    let diff = |address: SocketAddrV4| {
        let (old, new) = (old.get(&address), new.get(&address));
        let name = new.or(old)?.name.clone();
        Some(BackendDiff {
            name: name.unwrap_or_else(|| address.to_string()),
            address: address.to_string(),
            change: change(old.is_some(), new.is_some())?,
            keys: differences(&old.map(Backend::keys).unwrap_or_default(), &new.map(Backend::keys).unwrap_or_default()),
            flows: flows.get(&address).copied().unwrap_or(0),
        })
    };
    addresses.into_iter().filter_map(diff).filter(|diff| !diff.keys.is_empty()).collect()
}

/// The keys that have another value.
fn differences(old: &Keys, new: &Keys) -> Vec<KeyDiff> {
    let mut keys: Vec<&str> = old.keys().chain(new.keys()).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    let diff = |key: &str| KeyDiff { key: key.to_owned(), from: old.get(key).cloned(), to: new.get(key).cloned() };
    keys.into_iter().map(diff).filter(|diff| diff.from != diff.to).collect()
}
