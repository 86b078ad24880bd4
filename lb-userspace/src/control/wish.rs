//! What the packet path shall hold: the model, with those backends in the tables that are up and that
//! a way leads to.
//!
//! Where no backend is up and the service says `all_down: any`, the table has all of them, and none of them
//! resets its flows: a service that fails open is not cut off by `on_down: reset`.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddrV4,
    sync::Arc,
};

use lb_common::{Address4, Backend, BackendId, Mac, Port, Timeouts};

use super::{
    announce::{Announcer, Scene},
    rests::Rests,
    roster::Roster,
    surroundings::{Surroundings, Way},
    terms,
};
use crate::{
    balance::{Share, maglev},
    datapath::{Attached, ServiceId, Snapshot},
    health::{Health, Standing},
    model::{self, AllDown, LiveFlows, Model},
    plan::{self, Numbers, Order, Place, Verdicts, Wanted, number},
    time::Now,
};

/// All that a wish follows from.
pub(super) struct Facts<'a> {
    pub(super) model: &'a Model,
    pub(super) roster: &'a Roster,
    pub(super) surroundings: &'a Surroundings,
    pub(super) attached: &'a [Attached],
    pub(super) have: &'a Snapshot,
    pub(super) rests: &'a Rests,
    /// Who may connect, by service.
    pub(super) verdicts: &'a BTreeMap<Arc<str>, Arc<Verdicts>>,
    /// Jiffies a second.
    pub(super) hertz: u32,
    pub(super) announcer: &'a Announcer,
}

impl Facts<'_> {
    fn scene(&self) -> Scene<'_> {
        let is_on = self.model.node.announce_vips;
        Scene { is_on, have: self.have, found: self.surroundings, attached: self.attached }
    }
}

/// What shall be so.
pub(super) struct Wish {
    pub(super) wanted: Wanted,
    /// The backends of the file, by number: those that may get new flows.
    pub(super) members: BTreeSet<BackendId>,
    /// What cannot be had, for the operator.
    pub(super) short: Vec<String>,
}

/// What shall be so, as the facts are.
pub(super) fn wish(facts: &Facts<'_>, tables: &mut Tables, now: Now) -> Wish {
    let published = published(facts.have);
    let served: Vec<(Arc<str>, &model::Service)> = facts
        .model
        .services
        .iter()
        .filter(|(name, _)| published.contains(name.as_str()) || !is_awaited(facts, name, now))
        .map(|(name, service)| (name.as_str().into(), service))
        .collect();
    let orders: Vec<Order> = served.iter().map(|(name, service)| order(name, service)).collect();
    let numbers = number(facts.have, &orders, &facts.rests.tables());
    let mut wanted = Wanted {
        locals: facts.surroundings.locals(&facts.have.announced),
        retire: facts.rests.retire().clone(),
        forget: facts.rests.forget(facts.have, now),
        ..Wanted::default()
    };
    for (name, service) in &served {
        let Some(place) = numbers.services.get(name) else { continue };
        let shares = shares(facts, &numbers, place.id, name, service);
        members(facts, &numbers, place.id, (name, service), &shares, &mut wanted.backends);
        let ids = tables.table(name, service.slots, shares);
        wanted.services.insert(place.id, self::service(facts, *place, name, service, ids));
    }
    let vips = wanted.services.values().flat_map(|service| &service.listen).map(|listen| listen.address.into());
    wanted.announced = facts.announcer.flags(facts.scene(), &vips.collect(), now);
    tables.keep(&served);
    let members: BTreeSet<BackendId> = numbers.backends.values().copied().collect();
    for (id, draining) in facts.have.backends.iter().filter(|(id, _)| !members.contains(id)) {
        if !facts.rests.retire().contains(id) {
            wanted.backends.insert(*id, leaving(facts, *id, draining));
        }
    }
    Wish { wanted, members, short: numbers.short }
}

/// A service is served first when its backends have been heard of or have had the time for it, and
/// from then on as long as the file has it.
fn is_awaited(facts: &Facts<'_>, name: &str, now: Now) -> bool {
    facts.roster.team(name).is_some_and(|team| team.waits_until(now).is_some())
}

/// The services that endpoints lead to, by name.
pub(super) fn published(have: &Snapshot) -> BTreeSet<&str> {
    have.services.values().filter_map(|service| have.names.get(&service.id)).map(String::as_str).collect()
}

fn order(name: &Arc<str>, service: &model::Service) -> Order {
    let backends = service.backends.iter().map(|backend| backend.address.into()).collect();
    Order { name: name.clone(), slots: service.slots, backends }
}

/// A service with its policy.
fn service(
    facts: &Facts<'_>,
    place: Place,
    name: &Arc<str>,
    service: &model::Service,
    ids: Arc<[BackendId]>,
) -> plan::Service {
    let access = facts.verdicts.get(name).cloned().unwrap_or_default();
    plan::Service {
        name: name.clone(),
        listen: service.listen.iter().map(|listen| (*listen).into()).collect(),
        table: place.table,
        slots: service.slots,
        ids,
        flags: terms::flags(service, &access),
        limits: terms::limits(&service.limits, facts.hertz),
        access,
    }
}

/// The entries of a service's backends.
fn members(
    facts: &Facts<'_>,
    numbers: &Numbers,
    id: ServiceId,
    (name, service): (&str, &model::Service),
    shares: &[Share],
    entries: &mut BTreeMap<BackendId, Backend>,
) {
    let eligible: BTreeSet<BackendId> = shares.iter().filter(|share| share.weight > 0).map(|share| share.id).collect();
    let timeouts = terms::timeouts(&service.timeouts, facts.hertz);
    for backend in &service.backends {
        let Some(number) = numbers.backends.get(&(id, backend.address.into())) else { continue };
        let mut entry = entry(facts, *number, id, backend.address);
        let takes = eligible.contains(number);
        let resets = !takes && resets(facts, name, service, backend, &entry);
        mark(&mut entry, &[(Backend::ELIGIBLE, takes), (Backend::RESETS, resets)]);
        entries.insert(*number, Backend { timeouts, ..entry });
    }
}

/// The backends that take new flows: those that are up, or all where none is and the service fails open.
fn shares(facts: &Facts<'_>, numbers: &Numbers, id: ServiceId, name: &str, service: &model::Service) -> Vec<Share> {
    let team = facts.roster.team(name);
    let is_led_to = |backend: &&model::Backend| {
        !matches!(facts.surroundings.way(*backend.address.ip(), facts.attached), Way::None(_))
    };
    let is_up = |backend: &&model::Backend| {
        let health = team.and_then(|team| team.member(&backend.address));
        health.is_some_and(Health::is_up)
    };
    let share = |backend: &model::Backend| {
        let endpoint = backend.address.into();
        let id = *numbers.backends.get(&(id, endpoint))?;
        Some(Share { endpoint, weight: backend.weight, id })
    };
    let up: Vec<Share> = service.backends.iter().filter(is_up).filter(is_led_to).filter_map(share).collect();
    if !up.is_empty() || service.all_down != AllDown::Any {
        return up;
    }
    service.backends.iter().filter(is_led_to).filter_map(share).collect()
}

/// A backend's entry. Where the way is not known yet, what the maps say stays.
fn entry(facts: &Facts<'_>, id: BackendId, service: ServiceId, address: SocketAddrV4) -> Backend {
    let mut entry = facts.have.backends.get(&id).copied().unwrap_or(Backend {
        address: Address4::from(*address.ip()),
        port: Port::from(address.port()),
        flags: Backend::PRESENT,
        nic: 0,
        service,
        hop: Mac([0; 6]),
        zero: [0; 2],
        timeouts: Timeouts { syn: 0, established: 0, fin: 0 },
    });
    facts.surroundings.way(*address.ip(), facts.attached).mark(&mut entry);
    entry
}

/// Whether the flows of a backend of the file are to end. Of one that nothing is known of, it is as the
/// controller before us had it: unknown is neither down nor up.
fn resets(facts: &Facts<'_>, name: &str, service: &model::Service, backend: &model::Backend, entry: &Backend) -> bool {
    let health = facts.roster.team(name).and_then(|team| team.member(&backend.address));
    service.on_down == LiveFlows::Reset
        && match health.map(|health| health.standing) {
            Some(Standing::Down) => true,
            Some(Standing::Starting { was_out: true }) => entry.flags & Backend::RESETS != 0,
            Some(Standing::Up | Standing::Starting { was_out: false }) | None => false,
        }
}

/// The entry of a backend that is no longer wanted. Its flows keep the idle times of its service, or those that
/// it had last; what was to end before goes on ending.
fn leaving(facts: &Facts<'_>, id: BackendId, draining: &Backend) -> Backend {
    let mut entry = entry(facts, id, draining.service, plan::endpoint(draining).into());
    let name = facts.have.names.get(&draining.service);
    if let Some(service) = name.and_then(|name| facts.model.services.get(name)) {
        entry.timeouts = terms::timeouts(&service.timeouts, facts.hertz);
    }
    let resets = entry.flags & Backend::RESETS != 0 || facts.rests.is_cut(id);
    mark(&mut entry, &[(Backend::ELIGIBLE, false), (Backend::RESETS, resets)]);
    entry
}

/// Sets and clears flags.
fn mark(entry: &mut Backend, flags: &[(u16, bool)]) {
    for (flag, is_set) in flags {
        entry.flags = if *is_set { entry.flags | flag } else { entry.flags & !flag };
    }
}

/// The tables that were made last: one whose backends are the same is not made again.
#[derive(Default)]
pub(super) struct Tables(BTreeMap<Arc<str>, Table>);

/// A table and what it was made of.
struct Table {
    slots: u32,
    shares: Vec<Share>,
    ids: Arc<[BackendId]>,
}

impl Tables {
    fn table(&mut self, name: &Arc<str>, slots: u32, shares: Vec<Share>) -> Arc<[BackendId]> {
        match self.0.get(name) {
            Some(table) if table.slots == slots && table.shares == shares => table.ids.clone(),
            _ => {
                let ids: Arc<[BackendId]> = maglev(&shares, slots).into();
                self.0.insert(name.clone(), Table { slots, shares, ids: ids.clone() });
                ids
            }
        }
    }

    fn keep(&mut self, served: &[(Arc<str>, &model::Service)]) {
        if self.0.len() > served.len() {
            let names: BTreeSet<&Arc<str>> = served.iter().map(|(name, _)| name).collect();
            self.0.retain(|name, _| names.contains(name));
        }
    }
}
