//! How many connections may be opened: what the packet path asks for is there before it asks.
//!
//! A limit of zero would let nobody in. So a change goes by way of limits that serve the service as it is
//! published before and after: what is new or changes is written first, what goes is cleared at the end.

use std::collections::BTreeSet;

use bytemuck::Zeroable as _;
use lb_common::Limits;

use super::Wanted;
use crate::datapath::{ServiceId, Snapshot, Step};

/// What is new or changes.
pub(super) fn put(have: &Snapshot, want: &Wanted, steps: &mut Vec<Step>) {
    let changes = changes(have, want).into_iter();
    let new = changes.map(|(id, old, new)| (id, old, bridge(&old, &new))).filter(|(_, old, between)| old != between);
    steps.extend(new.map(|(id, _, between)| Step::PutLimits(id, between)));
}

/// What goes.
pub(super) fn clear(have: &Snapshot, want: &Wanted, steps: &mut Vec<Step>) {
    let changes = changes(have, want).into_iter();
    let gone = changes.filter(|(_, old, new)| bridge(old, new) != *new);
    steps.extend(gone.map(|(id, _, new)| Step::PutLimits(id, new)));
}

/// Services whose limits change, with the old ones and the new.
fn changes(have: &Snapshot, want: &Wanted) -> Vec<(ServiceId, Limits, Limits)> {
    let ids: BTreeSet<ServiceId> = have.limits.keys().chain(want.services.keys()).copied().collect();
    let change = |id: ServiceId| {
        let old = have.limits.get(&id).copied().unwrap_or(Limits::zeroed());
        (id, old, want.services.get(&id).map_or(Limits::zeroed(), |service| service.limits))
    };
    ids.into_iter().map(change).filter(|(_, old, new)| old != new).collect()
}

/// Limits for whoever still asks for the old ones and for whoever asks for the new ones.
fn bridge(old: &Limits, new: &Limits) -> Limits {
    let rate = if new.interval > 0 { new } else { old };
    let source = if new.per_source > 0 { new } else { old };
    Limits { interval: rate.interval, burst: rate.burst, per_source: source.per_source, zero: 0 }
}
