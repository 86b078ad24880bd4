//! What is counted in the control plane since it started, for `/metrics`. Nothing is decided by it.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    health::{
        Outcome,
        prober::{Key, Probed},
    },
    observe::documents::{BackendsByService, Services, Status},
};

/// Upper bounds of the buckets of probes' durations, in seconds: a handshake in one rack takes a tenth of the first,
/// and timeouts are seconds.
pub const BOUNDS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// What probes find, in the words of the metrics.
pub const OUTCOMES: [&str; 5] = ["answered", "refused", "silent", "unreachable", "not_sent"];

/// The probes of one backend.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Probes {
    /// By outcome, in the order of [`OUTCOMES`].
    pub outcomes: [u64; OUTCOMES.len()],
    /// By duration, in the order of [`BOUNDS`]; those that took longer are in none.
    pub buckets: [u64; BOUNDS.len()],
    /// All durations together.
    pub took: Duration,
}

/// All that metrics are made of.
#[derive(Clone, Debug)]
pub struct Measures {
    /// As `status` has it.
    pub status: Status,
    /// As `services` has them.
    pub services: Services,
    /// As `backends` has them.
    pub backends: BackendsByService,
    /// Reloads that were good, and that were not.
    pub reloads: [u64; 2],
    /// Probes by service and address of the backend.
    pub probes: BTreeMap<(String, String), Probes>,
    /// State changes by kind.
    pub events: BTreeMap<&'static str, u64>,
    /// How long the last sweep of the flow table took.
    pub sweep: Duration,
}

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Reloads that were good, and that were not.
    pub(super) reloads: [u64; 2],
    probes: BTreeMap<Key, Probes>,
}

impl Tally {
    /// Counts a probe.
    pub(super) fn probed(&mut self, probed: &Probed) {
        let outcome = match probed.outcome {
            Outcome::Answered => 0,
            Outcome::Refused => 1,
            Outcome::Silent => 2,
            Outcome::Unreachable(_) => 3,
            Outcome::Ours(_) => 4,
        };
        let probes = self.probes.entry(probed.key.clone()).or_default();
        probes.outcomes[outcome] += 1;
        // A probe that was never sent says nothing about how long one takes.
        if matches!(probed.outcome, Outcome::Ours(_)) {
            return;
        }
        let seconds = probed.took.as_secs_f64();
        if let Some(bucket) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            probes.buckets[bucket] += 1;
        }
        probes.took += probed.took;
    }

    /// Forgets those who are not probed any more.
    pub(super) fn keep(&mut self, is_probed: impl Fn(&Key) -> bool) {
        self.probes.retain(|key, _| is_probed(key));
    }

    /// The probes of all backends.
    pub(super) fn probes(&self) -> BTreeMap<(String, String), Probes> {
        let named =
            |((service, address), probes): (&Key, &Probes)| ((service.to_string(), address.to_string()), *probes);
        self.probes.iter().map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_probe_counts_under_its_outcome_and_the_first_bound_that_it_keeps() {
        let mut tally = Tally::default();
        let key: Key = ("web".into(), "10.0.1.11:80".parse().unwrap());
        for (outcome, micros) in [
            (Outcome::Answered, 500),
            (Outcome::Answered, 501),
            (Outcome::Silent, 6_000_000),
            (Outcome::Ours(Errno::EMFILE), 1),
        ] {
            let took = Duration::from_micros(micros);
            tally.probed(&Probed { key: key.clone(), outcome, sent: Instant::now(), took });
        }
        let all = tally.probes();
        let probes = all[&("web".to_owned(), "10.0.1.11:80".to_owned())];
        assert_eq!((probes.outcomes, probes.buckets), ([2, 0, 1, 0, 1], [1, 1, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert_eq!(probes.took, Duration::from_micros(6_001_001));
        tally.keep(|_| false);
        assert!(tally.probes().is_empty());
    }
}
