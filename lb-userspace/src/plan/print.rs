//! Plans as people read them: one step a line, with names where the maps have numbers.

use std::{borrow::Cow, collections::BTreeMap, fmt, net::SocketAddrV4};

use lb_common::{Backend, BackendId, Limits, Origin, Service, slots::LARGE};

use super::endpoint;
use crate::datapath::{ServiceId, Snapshot, Step};

/// Tables up to this size are printed slot by slot.
const SHORT_TABLE: usize = 16;
/// The flags of a service by name.
const FLAGS: [(u32, &str); 7] = [
    (Service::DROPS, "drops"),
    (Service::RETRIES, "retries"),
    (Service::HANDSHAKE, "handshake"),
    (Service::FIRST_BYTE, "first-byte"),
    (Service::FILTERED, "filtered"),
    (Service::RATED, "rated"),
    (Service::PER_SOURCE, "per-source"),
];

/// A plan that starts from a snapshot.
pub struct Printed<'a> {
    names: BTreeMap<ServiceId, Cow<'a, str>>,
    backends: BTreeMap<BackendId, Backend>,
    before: &'a BTreeMap<BackendId, Backend>,
    services: BTreeMap<(u32, u16), ServiceId>,
    steps: &'a [Step],
}

impl<'a> Printed<'a> {
    /// `steps`, to be done on `have`.
    pub fn new(have: &'a Snapshot, steps: &'a [Step]) -> Self {
        let mut printed = Self {
            names: have.names.iter().map(|(id, name)| (*id, name.as_str().into())).collect(),
            backends: have.backends.clone(),
            before: &have.backends,
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

    /// A backend's entry, with its idle times in jiffies where they change.
    fn entry(&self, id: BackendId, backend: &Backend) -> String {
        let (service, address) = (self.name(backend.service), SocketAddrV4::from(endpoint(backend)));
        let mut line = match backend.flags & Backend::REACHABLE {
            0 => format!("put      {id} {service} {address} by kernel"),
            _ => format!("put      {id} {service} {address} by nic {} to {:?}", backend.nic, backend.hop),
        };
        for (bit, word) in [(Backend::ELIGIBLE, " eligible"), (Backend::RESETS, " resets")] {
            line.push_str(if backend.flags & bit == 0 { "" } else { word });
        }
        let times = backend.timeouts;
        if self.before.get(&id).is_some_and(|before| before.timeouts != times) {
            line.push_str(&format!(" idle {}/{}/{}", times.syn, times.established, times.fin));
        }
        line
    }

    fn line(&self, step: &Step) -> String {
        let socket = |endpoint| SocketAddrV4::from(endpoint);
        match step {
            Step::AddLocal(address) => format!("local    + {address}"),
            Step::RemoveLocal(address) => format!("local    - {address}"),
            Step::NameService(id, name) => format!("name     {id} {name}"),
            Step::PutBackend(id, backend) => self.entry(*id, backend),
            Step::PutLimits(id, limits) => format!("limits   {} {}", self.name(*id), limited(limits)),
            Step::PutAccess(prefix, verdict) => {
                let word = if *verdict == Origin::DENIED { "deny" } else { "allow" };
                format!("access   + {} {word} {}", self.name(prefix.service), prefix.clients)
            }
            Step::RemoveAccess(prefix) => format!("access   - {} {}", self.name(prefix.service), prefix.clients),
            Step::AddEndpoint(endpoint) => format!("endpoint + {}", socket(*endpoint)),
            Step::RemoveEndpoint(endpoint) => format!("endpoint - {}", socket(*endpoint)),
            Step::FillTable { slots, table, ids } => {
                // An ordinary table has its service's number.
                let id = self.services.get(&(*slots, *table)).copied().or((*slots != LARGE).then_some(*table));
                let name = id.map_or("?", |id| self.name(id));
                format!("fill     {name} {slots}: {}", self.table(ids))
            }
            Step::PublishService(listen, service) => {
                let flags = FLAGS.iter().filter(|(bit, _)| service.flags & bit != 0);
                let flags: String = flags.map(|(_, word)| format!(" {word}")).collect();
                format!("publish  {} {} {}{flags}", socket(*listen), self.name(service.id), service.slots)
            }
            Step::Announce(address) => format!("announce + {address}"),
            Step::Unannounce(address) => format!("announce - {address}"),
            Step::WithdrawService(listen) => format!("withdraw {}", socket(*listen)),
            Step::RetireBackend(id) => format!("retire   {id} {}", self.backend(*id)),
            Step::ForgetService(id) => format!("forget   {id} {}", self.name(*id)),
        }
    }
}

/// Limits as the packet path has them: times in 2⁻²⁰ jiffies.
fn limited(limits: &Limits) -> String {
    let Limits { interval, burst, per_source, .. } = limits;
    if (*interval, *per_source) == (0, 0) {
        return "none".to_owned();
    }
    format!("interval {interval} burst {burst} per source {per_source}")
}

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.steps.iter().try_for_each(|step| writeln!(f, "{}", self.line(step)))
    }
}
