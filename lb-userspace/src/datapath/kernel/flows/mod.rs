//! The flow tables, read through memory that they share with the packet path.
//!
//! [`sweep`](Flows::sweep) looks at the tags, 16 octets a set, and at the entries of those places that are
//! held. It takes no lock: an entry that changes under it is counted as it was or as it will be. The place of
//! what is over is freed by exchanging its tag for zero, if it still is what was read: so new flows find
//! empty places, and the few near sets stay for those that live.

mod mapping;
mod sweep;
mod table;

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use lb_common::{Flow, Half, limits, stage};

pub(super) use self::sweep::{Sweep, Swept, Terms};
use self::table::Table;
use crate::datapath::{
    entry::{Clock, Entry},
    query::{Listing, Query, Shortlist},
};

pub(super) struct Flows {
    flows: Table<Flow>,
    halves: Table<Half>,
    sets: u32,
}

/// The maps of both tables.
pub(super) struct Parts {
    pub(super) flows: MapData,
    pub(super) flow_tags: MapData,
    pub(super) halves: MapData,
    pub(super) half_tags: MapData,
}

impl Flows {
    pub(super) fn map(parts: &Parts, sets: u32) -> Result<Self> {
        let half_sets = limits::half_sets(sets) as usize;
        Ok(Self {
            flows: Table::map(&parts.flows, &parts.flow_tags, sets as usize, limits::WAYS).context("FLOWS")?,
            halves: Table::map(&parts.halves, &parts.half_tags, half_sets, limits::HALF_WAYS).context("HALVES")?,
            sets,
        })
    }

    /// Looks at everything once, counts what lives, and frees what is over.
    pub(super) fn sweep(&self, sweep: Sweep<'_>) -> Swept {
        sweep.of(&self.flows, &self.halves, room(self.sets.into()))
    }

    /// The connections that are wanted. Nothing is freed.
    pub(super) fn list(&self, query: &Query, clock: Clock) -> Listing {
        let mut list = Shortlist::new(query);
        self.flows.each(|place| {
            let flow = place.read();
            let key = (flow.client, flow.client_port, flow.vip, flow.vip_port);
            if place.is_whole() {
                list.offer(key, flow.backend_id, || Entry::of_flow(&flow, clock));
            }
        });
        self.halves.each(|place| {
            let half = place.read();
            let key = (half.client, half.client_port, half.vip, half.vip_port);
            if place.is_whole() && half.state[1] & stage::ENDED == 0 {
                list.offer(key, half.backend_id, || Entry::of_half(&half, clock));
            }
        });
        list.listing()
    }
}

/// Flows that a table of so many sets is made for; the inverse of [`limits::flow_sets`].
pub(super) fn room(sets: u64) -> u64 {
    sets * limits::WAYS as u64 * 6 / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_the_inverse_of_sets() {
        for max in [1024, 65_536, 1_000_000, 30_000_000] {
            assert!((u64::from(max)..u64::from(max) + 8).contains(&room(limits::flow_sets(max).into())), "{max}");
        }
    }
}
