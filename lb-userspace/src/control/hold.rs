//! What to make of all backends being silent at once, once time passes: whether their traffic proves
//! them dead after all.
//!
//! [`health`](crate::health) says who is held. Here is only the way out that probes cannot give: if
//! packets go to the held backends for [`LONG_ENOUGH`] and not one comes back, then they are dead, or
//! cut off from us in a way in which nobody is served anyhow. New connections are then answered with
//! RST, which is better than silence. As long as a packet comes back the hold was right, and stays.

use std::{collections::BTreeSet, time::Duration};

use lb_common::{BackendId, Traffic};

use crate::time::Now;

/// How long traffic has to stay unanswered.
pub(super) const LONG_ENOUGH: Duration = Duration::from_secs(10);
/// How many packets have to stay unanswered: a SYN that is lost three times proves little.
const ENOUGH: u64 = 10;

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    /// Since when it lasts.
    pub(super) since: Now,
    /// The held backends.
    pub(super) ids: BTreeSet<BackendId>,
    /// Packets to them and from them, when either side last gave a sign of life.
    mark: Option<(Now, [u64; 2])>,
}

/// Packets to and from some backends together.
pub(super) fn packets<'a>(traffic: impl Iterator<Item = &'a Traffic>) -> [u64; 2] {
    traffic.fold([0; 2], |[to, from], traffic| [to + traffic.packets[0], from + traffic.packets[1]])
}

impl Hold {
    /// A hold that begins now.
    pub(super) fn new(ids: BTreeSet<BackendId>, now: Now) -> Self {
        Self { since: now, ids, mark: None }
    }

    /// Looks at the traffic of the held backends, and says whether it proves them dead.
    pub(super) fn looks_dead(&mut self, ids: BTreeSet<BackendId>, packets: [u64; 2], now: Now) -> bool {
        let [to, from] = packets;
        match self.mark {
            Some((since, [then_to, then_from])) if self.ids == ids && from == then_from && to >= then_to => {
                now.at - since.at >= LONG_ENOUGH && to - then_to >= ENOUGH
            }
            _ => {
                self.mark = Some((now, packets));
                self.ids = ids;
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[test]
    fn unanswered_traffic_ends_a_hold_and_answered_traffic_does_not() {
        let now = Now::read();
        let ids = BTreeSet::from([1, 2]);
        let mut hold = Hold::new(ids.clone(), now);
        assert!(!hold.looks_dead(ids.clone(), [100, 100], now));
        assert!(!hold.looks_dead(ids.clone(), [200, 100], now.after(second(9))));
        // An answer: from here on it counts anew.
        assert!(!hold.looks_dead(ids.clone(), [200, 101], now.after(second(10))));
        assert!(!hold.looks_dead(ids.clone(), [209, 101], now.after(second(20))), "too few to prove anything");
        assert!(hold.looks_dead(ids, [210, 101], now.after(second(20))));
    }

    #[test]
    fn without_traffic_a_hold_lasts() {
        let now = Now::read();
        let ids = BTreeSet::from([1, 2]);
        let mut hold = Hold::new(ids.clone(), now);
        assert!((0..1000).all(|passed| !hold.looks_dead(ids.clone(), [5, 5], now.after(second(passed)))));
    }
}
