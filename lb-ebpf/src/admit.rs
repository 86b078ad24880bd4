//! Who may open a connection with a service now: `allow` and `deny`, `limits.per_source`, `limits.rate`.

use lb_common::{Origin, Reason, Service, Source};

use super::{
    decision::{Decision, ends},
    spot::client_of,
    table::Tables,
};

/// A service's number and flags as one number, for functions that can be given no more.
#[inline(always)]
pub fn rules_of(service: &Service) -> u64 {
    (service.flags as u64) << 16 | service.id as u64
}

/// [`Calls::keeps_away`](super::table::Calls::keeps_away).
#[inline(always)]
pub fn keeps_away<T: Tables>(tables: &T, client: u64, rules: u64, opens: u8) -> Decision {
    let client = client_of(client).address;
    let (flags, service) = ((rules >> 16) as u32, rules as u16);
    if flags & Service::FILTERED != 0 && tables.access(&Origin::new(service, client)) == Origin::DENIED {
        return ends(Reason::Denied);
    }
    // A flow in mid-life may be one that another gateway lost: it is not new.
    if opens == 0 || flags & (Service::RATED | Service::PER_SOURCE) == 0 {
        return 0;
    }
    let Some(limits) = tables.limits(service) else { return 0 };
    if flags & Service::PER_SOURCE != 0
        && tables.connections(&Source { client, service, zero: [0; 2] }) >= limits.per_source
    {
        return ends(Reason::SourceLimited);
    }
    if flags & Service::RATED != 0
        && let Some(due) = tables.due(service)
    {
        // The generic cell rate algorithm (ITU-T I.371): the next connection's time, and how far it may lie ahead.
        let now = tables.jiffies() << 20;
        let at = due.get();
        let at = if at < now { now } else { at };
        if at.wrapping_sub(now) > limits.burst {
            return ends(Reason::RateLimited);
        }
        due.set(at.wrapping_add(limits.interval));
    }
    0
}
