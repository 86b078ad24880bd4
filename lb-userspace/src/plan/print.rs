//! Plans as people read them: one step a line, with names where the maps have numbers.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::SocketAddrV4};

use lb_common::{Backend, BackendId, slots::LARGE};

use super::endpoint;
use crate::datapath::{ServiceId, Snapshot, Step};

/// Tables up to this size are printed slot by slot.
const SHORT_TABLE: usize = 16;

/// A plan that starts from a snapshot.
pub struct Printed<'a> {
    names: BTreeMap<ServiceId, Cow<'a, str>>,
    backends: BTreeMap<BackendId, Backend>,
    services: BTreeMap<(u32, u16), ServiceId>,
    steps: &'a [Step],
}

impl<'a> Printed<'a> {
    /// `steps`, to be done on `have`.
    pub fn new(have: &'a Snapshot, steps: &'a [Step]) -> Self {
        let mut printed = Self {
            names: have.names.iter().map(|(id, name)| (*id, name.as_str().into())).collect(),
            backends: have.backends.clone(),
            services: have.services.values().map(|service| ((service.slots, service.table), service.id)).collect(),
            steps,
        };
        for step in steps {
            match step {
                Step::NameService(id, name) => drop(printed.names.insert(*id, name.as_str().into())),
                Step::PutBackend(id, backend) => drop(printed.backends.insert(*id, *backend)),
                Step::PublishService(_, service) => {
                    printed.services.insert((service.slots, service.table), service.id);
                }
                _ => {}
            }
        }
        printed
    }

    fn name(&self, id: ServiceId) -> &str {
        self.names.get(&id).map_or("?", |name| name)
    }

    fn backend(&self, id: BackendId) -> String {
        match self.backends.get(&id) {
            Some(backend) => SocketAddrV4::from(endpoint(backend)).to_string(),
            None if id == 0 => "nobody".to_owned(),
            None => format!("{id}?"),
        }
    }

    fn table(&self, ids: &[BackendId]) -> String {
        if ids.len() <= SHORT_TABLE {
            return ids.iter().map(|id| self.backend(*id)).collect::<Vec<_>>().join(" ");
        }
        let mut counts: BTreeMap<BackendId, usize> = BTreeMap::new();
        for id in ids {
            *counts.entry(*id).or_default() += 1;
        }
        let counts = counts.iter().map(|(id, count)| format!("{}×{count}", self.backend(*id)));
        counts.collect::<Vec<_>>().join(" ")
    }

    fn line(&self, step: &Step) -> String {
        let socket = |endpoint| SocketAddrV4::from(endpoint);
        match step {
            Step::AddLocal(address) => format!("local    + {address}"),
            Step::RemoveLocal(address) => format!("local    - {address}"),
            Step::NameService(id, name) => format!("name     {id} {name}"),
            Step::PutBackend(id, backend) => {
                let (service, address) = (self.name(backend.service), socket(endpoint(backend)));
                let way = if backend.flags & Backend::REACHABLE == 0 {
                    "by kernel".to_owned()
                } else {
                    format!("by nic {} to {:?}", backend.nic, backend.hop)
                };
                format!("put      {id} {service} {address} {way}")
            }
            Step::AddEndpoint(endpoint) => format!("endpoint + {}", socket(*endpoint)),
            Step::RemoveEndpoint(endpoint) => format!("endpoint - {}", socket(*endpoint)),
            Step::FillTable { slots, table, ids } => {
                // An ordinary table has its service's number.
                let id = self.services.get(&(*slots, *table)).copied().or((*slots != LARGE).then_some(*table));
                let name = id.map_or("?", |id| self.name(id));
                format!("fill     {name} {slots}: {}", self.table(ids))
            }
            Step::PublishService(listen, service) => {
                format!("publish  {} {} {}", socket(*listen), self.name(service.id), service.slots)
            }
            Step::Announce(address) => format!("announce + {address}"),
            Step::Unannounce(address) => format!("announce - {address}"),
            Step::WithdrawService(listen) => format!("withdraw {}", socket(*listen)),
            Step::RetireBackend(id) => format!("retire   {id} {}", self.backend(*id)),
            Step::ForgetService(id) => format!("forget   {id} {}", self.name(*id)),
        }
    }
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{}", self.line(step)))
    }
}
