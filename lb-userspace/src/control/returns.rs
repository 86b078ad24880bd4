//! NICs that vanished and came back: the program is attached to them again, without a restart.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::controller::Controller;
use crate::{datapath::Datapath, time::Now};

/// The first and the longest pause before a NIC that refused is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// NICs that are back and could not be attached.
#[derive(Debug, Default)]
pub(super) struct Returns(BTreeMap<String, Refusal>);

#[derive(Debug)]
struct Refusal {
    why: String,
    again: Instant,
    pause: Duration,
}

impl Returns {
    /// What cannot be attached, for the operator.
    pub(super) fn refused(&self) -> impl Iterator<Item = String> {
        let line = |(nic, refusal): (&String, &Refusal)| {
            format!("{nic}: this NIC is back and cannot be attached: {}; it is tried again", refusal.why)
        };
        self.0.iter().map(line)
    }

    /// When the next try is due.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.0.values().map(|refusal| refusal.again).min()
    }

    fn is_due(&self, nic: &str, now: Now) -> bool {
        self.0.get(nic).is_none_or(|refusal| refusal.again <= now.at)
    }

    fn refuse(&mut self, nic: String, why: String, now: Now) {
        let pause = self.0.get(&nic).map_or(PAUSES.0, |refusal| (refusal.pause * 2).min(PAUSES.1));
        self.0.insert(nic, Refusal { why, again: now.at + pause, pause });
    }
}

impl<D: Datapath> Controller<D> {
    /// Attaches to the NICs that are back.
    pub(super) fn take_back(&mut self, now: Now) {
        let Some(found) = &mut self.surroundings else { return };
        let back = found.returned(self.datapath.attached());
        self.stale |= self.returns.0.len() != back.len();
        self.returns.0.retain(|nic, _| back.contains(nic));
        for nic in back {
            if !self.returns.is_due(&nic, now) {
                continue;
            }
            // Another place in the maps, or another reason: backends' ways and faults follow.
            self.stale = true;
            match self.datapath.attach(&nic) {
                Ok(()) => {
                    self.returns.0.remove(&nic);
                    let attached = self.datapath.attached().iter().filter(|attached| attached.name == nic);
                    for attached in attached {
                        // What was seen was seen before.
                        found.bare.remove(&attached.ifindex);
                        log::warn!(
                            "{nic} is back, as interface {}: attached again ({})",
                            attached.ifindex,
                            attached.mode
                        );
                    }
                }
                Err(error) => self.returns.refuse(nic, format!("{error:#}"), now),
            }
        }
    }
}
