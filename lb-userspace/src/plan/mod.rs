//! From what the packet path has to what is wanted: a list of writes that never drops a packet. Pure.
//!
//! The order is the whole art. What is pointed to is written before what points to it: the gateway's
//! own addresses, names, limits, who may connect, backends and the endpoints that their replies come from,
//! then tables, then the services that name them. What nobody points to any more goes last, in the opposite order. So a
//! plan may stop after any step, by an error or by `kill -9`, and what is there then is whole: some
//! services are as they were and some as they should be.
//!
//! A backend that is no longer wanted is not retired by its absence: flows still name it. It stays
//! until [`Wanted::retire`] says that its id has rested and that no flow names it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};

use lb_common::{Backend, BackendId, Endpoint, Limits};

use crate::datapath::{ServiceId, Snapshot, Step};

mod access;
mod limits;
mod numbers;
mod print;

pub use access::{Verdicts, verdicts};
pub use numbers::{Numbers, Order, Place, number};
pub use print::Printed;

/// What the packet path shall hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The gateway's own addresses.
    pub locals: BTreeSet<Ipv4Addr>,
    /// VIPs that are ours alone on the gateway: announced before their address is put there, and until it is gone.
    pub announced: BTreeSet<Ipv4Addr>,
    /// All services that are served.
    pub services: BTreeMap<ServiceId, Service>,
    /// All backends that may get new flows, and any others whose entry shall change.
    pub backends: BTreeMap<BackendId, Backend>,
    /// Ids that have rested and that no flow names.
    pub retire: BTreeSet<BackendId>,
    /// Services that have rested and whose backends are all gone.
    pub forget: BTreeSet<ServiceId>,
}

/// One service as it shall be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name in the file.
    pub name: Arc<str>,
    /// Where it is served.
    pub listen: Vec<Endpoint>,
    /// Which table it points to.
    pub table: u16,
    /// How many slots that has.
    pub slots: u32,
    /// What stands in them.
    pub ids: Arc<[BackendId]>,
    /// Bits of [`lb_common::Service::flags`].
    pub flags: u32,
    /// How many connections may be opened; all zero for no limits.
    pub limits: Limits,
    /// Who may open them.
    pub access: Arc<Verdicts>,
}

/// The steps from `have` to `want`, in an order that is safe to stop anywhere.
pub fn plan(have: &Snapshot, want: &Wanted) -> Vec<Step> {
    let mut steps = Vec::new();
    build(have, want, &mut steps);
    publish(have, want, &mut steps);
    steps.extend(entries(have, want).filter(|(id, entry)| leaves(have, *id, entry)).map(put));
    clear(have, want, &mut steps);
    steps
}

/// What has to be there before a service may point to it.
fn build(have: &Snapshot, want: &Wanted, steps: &mut Vec<Step>) {
    steps.extend(want.locals.difference(&have.locals).map(|address| Step::AddLocal(*address)));
    for (id, service) in &want.services {
        if have.names.get(id).map(String::as_str) != Some(&*service.name) {
            steps.push(Step::NameService(*id, service.name.to_string()));
        }
    }
    limits::put(have, want, steps);
    access::put(have, want, steps);
    steps.extend(entries(have, want).filter(|(id, entry)| !leaves(have, *id, entry)).map(put));
    let endpoints: BTreeSet<Endpoint> = want.backends.values().map(endpoint).collect();
    steps.extend(endpoints.difference(&have.endpoints).map(|endpoint| Step::AddEndpoint(*endpoint)));
}

/// The backends whose entries change.
fn entries<'a>(have: &'a Snapshot, want: &'a Wanted) -> impl Iterator<Item = (BackendId, Backend)> + 'a {
    let new = want.backends.iter().filter(|(id, backend)| have.backends.get(id) != Some(backend));
    new.map(|(id, backend)| (*id, *backend))
}

/// Whether a backend takes no new flows any more: until its table is written anew it does.
fn leaves(have: &Snapshot, id: BackendId, entry: &Backend) -> bool {
    let took = have.backends.get(&id).is_some_and(|before| before.flags & Backend::ELIGIBLE != 0);
    took && entry.flags & Backend::ELIGIBLE == 0
}

fn put((id, backend): (BackendId, Backend)) -> Step {
    Step::PutBackend(id, backend)
}

/// Tables, then what points to them.
fn publish(have: &Snapshot, want: &Wanted, steps: &mut Vec<Step>) {
    for service in want.services.values() {
        if have.tables.get(&(service.slots, service.table)).map(Vec::as_slice) != Some(&*service.ids) {
            steps.push(Step::FillTable { slots: service.slots, table: service.table, ids: service.ids.to_vec() });
        }
    }
    let mut served = BTreeSet::new();
    for (id, service) in &want.services {
        let published =
            lb_common::Service { id: *id, table: service.table, slots: service.slots, flags: service.flags };
        for listen in &service.listen {
            served.insert(*listen);
            if have.services.get(listen) != Some(&published) {
                steps.push(Step::PublishService(*listen, published));
            }
        }
    }
    steps.extend(want.announced.difference(&have.announced).map(|address| Step::Announce(*address)));
    let gone = have.services.keys().filter(|listen| !served.contains(*listen));
    steps.extend(gone.map(|listen| Step::WithdrawService(*listen)));
}

/// What nothing points to any more.
fn clear(have: &Snapshot, want: &Wanted, steps: &mut Vec<Step>) {
    access::remove(have, want, steps);
    limits::clear(have, want, steps);
    steps.extend(have.announced.difference(&want.announced).map(|address| Step::Unannounce(*address)));
    let retired: BTreeSet<BackendId> = want
        .retire
        .iter()
        .copied()
        .filter(|id| have.backends.contains_key(id) && !want.backends.contains_key(id))
        .collect();
    let kept = have.backends.iter().filter(|(id, _)| !retired.contains(id) && !want.backends.contains_key(id));
    let used: BTreeSet<Endpoint> =
        kept.map(|(_, backend)| backend).chain(want.backends.values()).map(endpoint).collect();
    steps.extend(have.endpoints.difference(&used).map(|endpoint| Step::RemoveEndpoint(*endpoint)));
    steps.extend(retired.into_iter().map(Step::RetireBackend));
    let forgotten = want.forget.iter().filter(|id| have.names.contains_key(id) && !want.services.contains_key(id));
    steps.extend(forgotten.map(|id| Step::ForgetService(*id)));
    steps.extend(have.locals.difference(&want.locals).map(|address| Step::RemoveLocal(*address)));
}

/// Where a backend's replies come from.
pub fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint::tcp(backend.address, backend.port)
}
