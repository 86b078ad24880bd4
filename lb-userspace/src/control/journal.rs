//! What has happened: the last state changes, and those who wait for the next.
//!
//! Everything here is bounded. The past is a ring; the future is a broadcast channel in which a follower that is too
//! slow loses the oldest, and is told how many, so that nobody can make the loop wait or memory grow.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::sync::broadcast;

use crate::{
    observe::documents::Happening,
    time::{Now, rfc3339},
};

/// State changes that are kept: at some 200 octets each, less than a megabyte.
pub const KEPT: usize = 4096;
/// State changes that a follower may be behind.
pub const AHEAD: usize = 1024;

/// The past up to now, and all that comes after.
#[derive(Debug)]
pub struct Following {
    /// Newest last.
    pub past: Vec<Arc<Happening>>,
    /// What happens from now on.
    pub next: broadcast::Receiver<Arc<Happening>>,
}

/// The ring, and its followers.
#[derive(Debug)]
pub(super) struct Journal {
    past: VecDeque<Arc<Happening>>,
    next: broadcast::Sender<Arc<Happening>>,
    counts: BTreeMap<&'static str, u64>,
}

/// What changed, before it has a time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) kind: &'static str,
    pub(super) service: Option<String>,
    pub(super) backend: Option<String>,
    pub(super) from: Option<&'static str>,
    pub(super) to: Option<&'static str>,
    pub(super) reason: String,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { past: VecDeque::new(), next: broadcast::Sender::new(AHEAD), counts: BTreeMap::new() }
    }

    /// Takes a note, and tells those who follow.
    pub(super) fn write(&mut self, note: Note, now: Now) {
        *self.counts.entry(note.kind).or_default() += 1;
        let happening = Arc::new(Happening {
            time: rfc3339(now.wall),
            kind: note.kind.to_owned(),
            service: note.service,
            backend: note.backend,
            from: note.from.map(str::to_owned),
            to: note.to.map(str::to_owned),
            reason: note.reason,
        });
        if self.past.len() == KEPT {
            self.past.pop_front();
        }
        self.past.push_back(Arc::clone(&happening));
        // Nobody follows: that is no failure.
        let _ = self.next.send(happening);
    }

    /// How many there were of each kind since the start.
    pub(super) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The last so many, newest last, and what comes.
    pub(super) fn follow(&self, limit: usize) -> Following {
        let skipped = self.past.len().saturating_sub(limit);
        Following { past: self.past.iter().skip(skipped).cloned().collect(), next: self.next.subscribe() }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast::error::TryRecvError;

    use super::*;

    fn note(number: usize) -> Note {
        Note { kind: "reload", reason: number.to_string(), ..Note::default() }
    }

    fn reasons(past: &[Arc<Happening>]) -> Vec<usize> {
        past.iter().map(|happening| happening.reason.parse().unwrap()).collect()
    }

    #[test]
    fn the_ring_forgets_the_oldest() {
        let mut journal = Journal::new();
        let now = Now::read();
        (0..KEPT + 3).for_each(|number| journal.write(note(number), now));
        assert_eq!(reasons(&journal.follow(usize::MAX).past), (3..KEPT + 3).collect::<Vec<_>>());
        assert_eq!(reasons(&journal.follow(2).past), [KEPT + 1, KEPT + 2]);
        assert_eq!(journal.counts()["reload"], KEPT as u64 + 3);
    }

    #[test]
    fn a_follower_that_does_not_listen_loses_the_oldest_and_is_told() {
        let mut journal = Journal::new();
        let now = Now::read();
        let mut following = journal.follow(10);
        (0..AHEAD + 5).for_each(|number| journal.write(note(number), now));
        assert_eq!(following.next.try_recv().unwrap_err(), TryRecvError::Lagged(5));
        assert_eq!(following.next.try_recv().unwrap().reason, "5");
    }
}
