//! Which number every service, backend and large table has.
//!
//! The snapshot is the only memory: who has a number in the maps keeps it, across reloads, failures and
//! restarts. A service is known by its name, a backend by its service and address:port. A number
//! is free when nothing in the maps has it; [`Wanted::retire`](super::Wanted::retire) keeps those in the
//! maps that flows or packets under way may still name.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lb_common::{BackendId, Endpoint, limits, slots};

use super::endpoint;
use crate::datapath::{ServiceId, Snapshot};

/// What wants numbers: a service with its backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The service's name.
    pub name: Arc<str>,
    /// The slots of its table.
    pub slots: u32,
    /// Where its backends listen.
    pub backends: Vec<Endpoint>,
}

/// A service's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its own.
    pub id: ServiceId,
    /// Its table's, among tables of its size.
    pub table: u16,
}

/// Everybody's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Services by name.
    pub services: BTreeMap<Arc<str>, Place>,
    /// Backends by service and endpoint.
    pub backends: BTreeMap<(ServiceId, Endpoint), BackendId>,
    /// What got no number, as sentences for the operator.
    pub short: Vec<String>,
}

/// Numbers for all orders; `resting` are large tables that a packet under way may still read.
pub fn number(have: &Snapshot, orders: &[Order], resting: &BTreeSet<u16>) -> Numbers {
    let mut numbers = Numbers::default();
    let names: BTreeMap<&str, ServiceId> = have.names.iter().map(|(id, name)| (name.as_str(), *id)).collect();
    let mut free_services = (0..limits::SERVICES as ServiceId).filter(|id| !have.names.contains_key(id));
    let mut backends: BTreeMap<(ServiceId, Endpoint), BackendId> =
        have.backends.iter().map(|(id, backend)| ((backend.service, endpoint(backend)), *id)).collect();
    let mut free_backends = (1..limits::BACKENDS as BackendId).filter(|id| !have.backends.contains_key(id));
    let mut large = LargeTables::new(have, resting);
    for order in orders {
        let Some(id) = names.get(&*order.name).copied().or_else(|| free_services.next()) else {
            numbers.short.push(format!("{}: no room for another service, {} are there", order.name, limits::SERVICES));
            continue;
        };
        let Some(table) = (if order.slots == slots::LARGE { large.table(id) } else { Some(id) }) else {
            let most = limits::LARGE_SERVICES;
            numbers.short.push(format!(
                "{}: no room for another table of {} slots, {most} are there",
                order.name,
                slots::LARGE
            ));
            continue;
        };
        numbers.services.insert(order.name.clone(), Place { id, table });
        for listens in &order.backends {
            match backends.remove(&(id, *listens)).or_else(|| free_backends.next()) {
                Some(number) => {
                    numbers.backends.insert((id, *listens), number);
                }
                None => numbers.short.push(format!(
                    "{}: no room for another backend, {} are there; those that drain make room as their flows end",
                    order.name,
                    limits::BACKENDS - 1
                )),
            }
        }
    }
    numbers
}

/// Who has which place in `LARGE_TABLES`.
struct LargeTables {
    taken: BTreeMap<ServiceId, u16>,
    free: Vec<u16>,
}

impl LargeTables {
    fn new(have: &Snapshot, resting: &BTreeSet<u16>) -> Self {
        let large = have.services.values().filter(|service| service.slots == slots::LARGE);
        let taken: BTreeMap<ServiceId, u16> = large.map(|service| (service.id, service.table)).collect();
        let used: BTreeSet<u16> = taken.values().chain(resting).copied().collect();
        // The lowest is at the end, where `pop` takes it.
        let free = (0..limits::LARGE_SERVICES as u16).rev().filter(|table| !used.contains(table)).collect();
        Self { taken, free }
    }

    fn table(&mut self, id: ServiceId) -> Option<u16> {
        self.taken.get(&id).copied().or_else(|| self.free.pop())
    }
}
