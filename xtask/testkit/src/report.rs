//! What became of many requests.

use std::{
    collections::BTreeMap,
    fmt,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Which of the client's addresses asked.
    pub source: Ipv4Addr,
    /// When it began.
    pub began: Instant,
    /// When it was answered or given up.
    pub ended: Instant,
    /// The backend that answered, or why none did. An answer that names another client is a failure.
    pub outcome: Result<Arc<str>, String>,
}

/// Many requests, in the order in which they ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// All of them.
    pub samples: Vec<Sample>,
}

impl Report {
    /// Those that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(|sample| sample.outcome.is_err())
    }

    /// Those that began at or after `start`.
    #[must_use]
    pub fn since(&self, start: Instant) -> Self {
        Self { samples: self.samples.iter().filter(|sample| sample.began >= start).cloned().collect() }
    }

    /// Answers by backend.
    pub fn spread(&self) -> BTreeMap<Arc<str>, usize> {
        let mut spread = BTreeMap::new();
        for backend in self.samples.iter().filter_map(|sample| sample.outcome.as_ref().ok()) {
            *spread.entry(Arc::clone(backend)).or_default() += 1;
        }
        spread
    }

    /// The backends that each source was answered by, in the order of time and without repetition.
    pub fn by_source(&self) -> BTreeMap<Ipv4Addr, Vec<Arc<str>>> {
        let mut map = BTreeMap::<_, Vec<Arc<str>>>::new();
        for sample in &self.samples {
            let Ok(backend) = &sample.outcome else { continue };
            let backends = map.entry(sample.source).or_default();
            if backends.last() != Some(backend) {
                backends.push(Arc::clone(backend));
            }
        }
        map
    }

    /// From `event` to the moment after which every request that began succeeded; zero if none failed.
    pub fn disturbed_for(&self, event: Instant) -> Duration {
        let last = self.failures().map(|sample| sample.began).max();
        last.map(|last| last.saturating_duration_since(event)).unwrap_or_default()
    }

    /// Panics with the report if a request failed or there was none.
    #[track_caller]
    pub fn expect_no_failure(&self) {
        assert!(!self.samples.is_empty(), "there was no request");
        assert!(self.failures().next().is_none(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} failed", self.samples.len(), self.failures().count())?;
        for (backend, answers) in self.spread() {
            write!(f, "; {backend} answered {answers}")?;
        }
        let start = self.samples.iter().map(|sample| sample.began).min();
        for sample in self.failures().take(10) {
            let after = start.map(|start| sample.began - start).unwrap_or_default();
            let took = sample.ended - sample.began;
            let reason = sample.outcome.as_ref().err().map_or("", String::as_str);
            write!(f, "\n  after {after:.1?}: {} failed in {took:.1?}: {reason}", sample.source)?;
        }
        Ok(())
    }
}
