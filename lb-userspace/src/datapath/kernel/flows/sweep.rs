//! One sweep: what lives is counted by backend, what is over makes room, and who has just ended is told of.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use lb_common::{Address4, BackendId, Flow, Half, Source, Timeouts, ended, idle, kind, limits, stage};

use super::table::{Place, Table};
use crate::{
    datapath::{
        FlowCounts,
        entry::{Clock, Ending, Entry, How},
    },
    model::LogConnections,
};

/// Endings that one sweep tells of; the others it counts.
const ENDINGS: usize = 1000;

/// What a backend's entry says of its flows.
#[derive(Clone, Copy, Debug)]
pub(in crate::datapath::kernel) struct Terms {
    pub(in crate::datapath::kernel) timeouts: Timeouts,
    pub(in crate::datapath::kernel) service: u16,
}

/// What a sweep goes by.
pub(in crate::datapath::kernel) struct Sweep<'a> {
    pub(in crate::datapath::kernel) clock: Clock,
    /// By backend id.
    pub(in crate::datapath::kernel) terms: &'a [Terms],
    /// VIPs that wait for their last flow.
    pub(in crate::datapath::kernel) leaving: &'a BTreeMap<Address4, Instant>,
    /// Who is to be told of when it ends.
    pub(in crate::datapath::kernel) endings: LogConnections,
    /// Whether connections are counted by client.
    pub(in crate::datapath::kernel) sources: bool,
}

/// What a sweep saw.
pub(in crate::datapath::kernel) struct Swept {
    pub(in crate::datapath::kernel) counts: FlowCounts,
    /// Those of the VIPs that are leaving that something still names.
    pub(in crate::datapath::kernel) named: BTreeSet<Address4>,
    /// For each connection that is [`kind::COUNTED`], the [`Source`] that it counts for.
    pub(in crate::datapath::kernel) sources: Vec<u64>,
}

/// A sweep under way.
struct Broom<'a> {
    sweep: Sweep<'a>,
    flows: Vec<u64>,
    handshakes: Vec<u64>,
    closing: Vec<u64>,
    swept: Swept,
}

impl Sweep<'_> {
    pub(super) fn of(self, flows: &Table<Flow>, halves: &Table<Half>, max: u64) -> Swept {
        let counts = FlowCounts { max, ..FlowCounts::default() };
        let mut broom = Broom {
            sweep: self,
            flows: vec![0; limits::BACKENDS],
            handshakes: vec![0; limits::BACKENDS],
            closing: vec![0; limits::BACKENDS],
            swept: Swept { counts, named: BTreeSet::new(), sources: Vec::new() },
        };
        // Flows first: where more end than can be told of, they matter more than handshakes that came to nothing.
        flows.each(|place| broom.flow(place));
        halves.each(|place| broom.half(place));
        let Broom { flows, handshakes, closing, mut swept, .. } = broom;
        swept.counts.by_backend = taken(&flows);
        swept.counts.handshakes = taken(&handshakes);
        swept.counts.closing = taken(&closing).into_keys().collect();
        swept
    }
}

/// Backends that have any.
fn taken(counts: &[u64]) -> BTreeMap<BackendId, u64> {
    let taken = counts.iter().zip(0..).filter(|(count, _)| **count > 0);
    taken.map(|(count, id)| (id, *count)).collect()
}

impl Broom<'_> {
    fn flow(&mut self, place: Place<'_, Flow>) {
        let flow = place.read();
        let is_over = self.terms(flow.backend_id).is_none_or(|terms| {
            let idle = idle(self.sweep.clock.now, flow.seen);
            idle > terms.timeouts.of(flow.state)
        });
        let is_direct = flow.kind & kind::DIRECT != 0;
        let is_news = !is_direct && flow.kind & kind::LOGGED == 0 && self.sweep.endings != LogConnections::Off;
        if is_over {
            if place.free() && is_news {
                self.tell(How::of_flow(&flow), |clock| Entry::of_flow(&flow, clock));
            }
        } else if ended(flow.state) {
            // It stays for late packets; the mark keeps it from being told of twice.
            if is_news && place.mark(flow.kind, kind::LOGGED) {
                self.tell(How::of_flow(&flow), |clock| Entry::of_flow(&flow, clock));
            }
            // What was lost on the way is sent again: its backend and its VIP have to be there for it.
            if !is_direct {
                if let Some(flows) = self.closing.get_mut(usize::from(flow.backend_id)) {
                    *flows += 1;
                }
                self.name(flow.vip);
            }
        } else if !is_direct {
            self.swept.counts.live += 1;
            if let Some(flows) = self.flows.get_mut(usize::from(flow.backend_id)) {
                *flows += 1;
            }
            self.name(flow.vip);
            self.count(flow.kind, flow.client, flow.backend_id);
        }
    }

    fn half(&mut self, place: Place<'_, Half>) {
        let half = place.read();
        let is_over = self
            .terms(half.backend_id)
            .is_none_or(|terms| idle(self.sweep.clock.now, half.created) > terms.timeouts.syn);
        // What its backend broke off is over at once.
        let is_broken = half.state[1] & stage::ENDED != 0;
        let is_direct = half.kind & kind::DIRECT != 0;
        if is_over || is_broken {
            // Of a flow in mid-life that nobody went on with there is nothing to tell: anybody can send an ACK.
            if place.free() && !is_direct && half.kind & kind::MIDLIFE == 0 {
                self.tell(How::of_half(&half), |clock| Entry::of_half(&half, clock));
            }
        } else if !is_direct {
            self.swept.counts.half_open += 1;
            if let Some(halves) = self.handshakes.get_mut(usize::from(half.backend_id)) {
                *halves += 1;
            }
            self.name(half.vip);
            self.count(half.kind, half.client, half.backend_id);
        }
    }

    fn terms(&self, id: BackendId) -> Option<&Terms> {
        self.sweep.terms.get(usize::from(id))
    }

    /// Somebody still talks to a VIP.
    fn name(&mut self, vip: Address4) {
        if !self.sweep.leaving.is_empty() && self.sweep.leaving.contains_key(&vip) {
            self.swept.named.insert(vip);
        }
    }

    /// A connection of its client's.
    fn count(&mut self, kind: u8, client: Address4, id: BackendId) {
        if self.sweep.sources && kind & kind::COUNTED != 0 {
            let service = self.terms(id).map(|terms| terms.service);
            let source = |service| bytemuck::must_cast::<_, u64>(Source { client, service, zero: [0; 2] });
            self.swept.sources.extend(service.map(source));
        }
    }

    /// A connection is over.
    fn tell(&mut self, how: How, entry: impl FnOnce(Clock) -> Entry) {
        if self.sweep.endings == LogConnections::Off {
            return;
        }
        let ending = Ending { entry: entry(self.sweep.clock), how };
        if !ending.is_wanted(self.sweep.endings) {
            return;
        }
        let counts = &mut self.swept.counts;
        if counts.ended.len() < ENDINGS {
            counts.ended.push(ending);
        } else {
            counts.untold += 1;
        }
    }
}
