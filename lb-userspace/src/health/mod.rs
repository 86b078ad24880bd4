//! Whether a backend is up: (what is known, outcome of a probe, now) → what is known. Pure.
//!
//! - **Starting**: nothing is known. One success admits a backend, one failure says it is down.
//! - **Adopted**: nothing is known, but the tables of the controller before us say something, and
//!   unknown is never down: who was in them stays until `fall` probes have failed, who was not has to
//!   answer `rise` times.
//! - **Up** and **down**: `fall` failures, or `rise` successes, without the contrary between them.
//!
//! **When all fall silent at once, it is we.** A refused connection is evidence that the network
//! works and the backend does not. Silence is not: if a firewall rule, a route or a NIC of the gateway
//! breaks our probes, every backend of every service falls silent in the same interval while their
//! traffic may still flow. So a silent backend is believed to be down only if it has a *witness*: a
//! backend at another address that answered a probe, even by refusing it, after the silence began
//! and before the last silent probe was sent. Or if no other address is up that could
//! testify: the last backend of all is as dead as it seems, and its clients shall have their RST.
//! Backends that die one by one have each other as witnesses. Those without one are *held*: up, in
//! the tables, and shouted about. The hold ends for each with its own answer, or with the first probe
//! that fails after a witness spoke; or for all, when their traffic proves them dead:
//! packets go to them and nothing comes back ([`control`](crate::control) watches that).
//!
//! A probe that could not be sent for a reason of our own (no file descriptors, no permission) says
//! nothing about the backend and changes nothing.

use std::{
    fmt,
    num::NonZeroU32,
    time::{Instant, SystemTime},
};

use nix::errno::Errno;

use crate::time::Now;

pub mod prober;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The handshake was completed.
    Answered,
    /// The backend answered with RST.
    Refused,
    /// Nothing came back within the timeout.
    Silent,
    /// The network says that the backend cannot be reached.
    Unreachable(Errno),
    /// The probe could not be sent for a reason of our own.
    Ours(Errno),
}

/// How much evidence is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Successes in a row that bring a backend up.
    pub rise: NonZeroU32,
    /// Failures in a row that take it down.
    pub fall: NonZeroU32,
}

/// Where a backend stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known; it has to answer once, or `rise` times.
    Starting {
        /// A table of the controller before us was without it.
        was_out: bool,
    },
    /// It takes new flows.
    Up,
    /// It takes none.
    Down,
}

/// What is known of one backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Where it stands.
    pub standing: Standing,
    /// Since when it stands there.
    pub since: SystemTime,
    /// Outcomes in a row that speak against where it stands.
    run: u32,
    last: Last,
    silence: Silence,
}

/// What is to be said of the last probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    NotProbed,
    Adopted,
    Never,
    Disproved,
    Probe(Outcome),
}

/// Whether anybody can testify that a silence is the backend's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Silence {
    None,
    Unwitnessed,
    Witnessed(Instant),
}

impl Health {
    /// A backend that nothing is known of.
    pub fn starting(now: Now) -> Self {
        Self::new(Standing::Starting { was_out: false }, Last::NotProbed, now)
    }

    /// A backend of which only the table of the controller before us is known.
    pub fn adopted(was_in: bool, now: Now) -> Self {
        let standing = if was_in { Standing::Up } else { Standing::Starting { was_out: true } };
        Self::new(standing, Last::Adopted, now)
    }

    /// A backend without probes: always up.
    pub fn unprobed(now: Now) -> Self {
        Self::new(Standing::Up, Last::Never, now)
    }

    /// The same backend when its service gets probes, or loses them.
    #[must_use]
    pub fn reprobed(self, probed: bool, now: Now) -> Self {
        match (self.standing, probed) {
            (Standing::Up, true) => Self { run: 0, last: Last::Adopted, ..self },
            (Standing::Up, false) => Self { run: 0, last: Last::Never, silence: Silence::None, ..self },
            (_, true) => Self::starting(now),
            (_, false) => Self::unprobed(now),
        }
    }

    fn new(standing: Standing, last: Last, now: Now) -> Self {
        Self { standing, since: now.wall, run: 0, last, silence: Silence::None }
    }

    /// Whether it may stand in a table.
    pub fn is_up(&self) -> bool {
        self.standing == Standing::Up
    }

    /// Whether any probe has said anything about it, or none ever will.
    pub fn is_known(&self) -> bool {
        !matches!(self.last, Last::NotProbed) && !matches!(self.last, Last::Probe(Outcome::Ours(_)))
    }

    /// Whether it waits for a witness of its silence.
    pub fn wants_witness(&self) -> bool {
        self.silence == Silence::Unwitnessed
    }

    /// Whether it would be down if its silence had a witness.
    pub fn is_held(&self, rules: Rules) -> bool {
        self.is_up() && self.run >= rules.fall.get() && self.silence != Silence::None
    }

    /// Another backend answered: the network works.
    pub fn witness(&mut self, now: Now) {
        if self.wants_witness() {
            self.silence = Silence::Witnessed(now.at);
        }
    }

    /// Its traffic proves that it is dead, whatever the probes are worth.
    pub fn disprove(&mut self, now: Now) {
        *self = Self { silence: self.silence, ..Self::new(Standing::Down, Last::Disproved, now) };
    }

    /// What is known after a probe that was sent at `sent`. `alone` says that no other address is up.
    #[must_use]
    pub fn after(mut self, outcome: Outcome, sent: Instant, rules: Rules, alone: bool, now: Now) -> Self {
        if let Outcome::Ours(_) = outcome {
            return Self { last: Last::Probe(outcome), ..self };
        }
        self.last = Last::Probe(outcome);
        self.silence = match (outcome, self.silence) {
            (Outcome::Answered | Outcome::Refused, _) => Silence::None,
            (_, Silence::None) => Silence::Unwitnessed,
            (_, silence) => silence,
        };
        let believed = match self.silence {
            Silence::None => true,
            Silence::Unwitnessed => alone,
            Silence::Witnessed(at) => alone || at <= sent,
        };
        let answered = outcome == Outcome::Answered;
        self.run = if answered == self.is_up() { 0 } else { self.run.saturating_add(1) };
        let turned = match self.standing {
            Standing::Starting { was_out } => !answered || self.run >= if was_out { rules.rise.get() } else { 1 },
            Standing::Up => self.run >= rules.fall.get() && believed,
            Standing::Down => self.run >= rules.rise.get(),
        };
        if turned {
            self.standing = if answered { Standing::Up } else { Standing::Down };
            self.since = now.wall;
            self.run = 0;
        }
        self
    }

    /// Why it stands where it stands, for people.
    pub fn reason(&self, rules: Option<Rules>) -> String {
        let (rise, fall) = rules.map_or((1, 1), |rules| (rules.rise.get(), rules.fall.get()));
        match (self.last, self.standing, self.run) {
            (Last::NotProbed, ..) => "not probed yet".to_owned(),
            (Last::Adopted, Standing::Up, _) => "as the table had it, not probed yet".to_owned(),
            (Last::Adopted, ..) => "not in the table so far, not probed yet".to_owned(),
            (Last::Never, ..) => "no health checks".to_owned(),
            (Last::Disproved, ..) => "silent, and its traffic is not answered".to_owned(),
            (Last::Probe(outcome @ Outcome::Ours(_)), ..) => outcome.to_string(),
            (Last::Probe(outcome), _, 0) => outcome.to_string(),
            (Last::Probe(outcome), Standing::Up, run) if run >= fall => {
                format!("{outcome}, {run} times: held, because all backends are silent at once")
            }
            (Last::Probe(outcome), Standing::Up, run) => format!("{outcome}: {run} of {fall} failures"),
            (Last::Probe(outcome), _, run) => format!("{outcome}: {run} of {rise} successes"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let desc = |errno: &Errno| errno.desc().to_lowercase();
        match self {
            Self::Answered => f.write_str("answers"),
            Self::Refused => f.write_str("connection refused"),
            Self::Silent => f.write_str("no answer within the timeout"),
            Self::Unreachable(errno) => f.write_str(&desc(errno)),
            Self::Ours(errno) => write!(f, "cannot probe: {}", desc(errno)),
        }
    }
}

#[cfg(test)]
mod tests;
