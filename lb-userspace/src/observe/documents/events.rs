//! The documents of `events`: what changed, when and why.

use serde::{Deserialize, Serialize};

/// One change: a line of `events --json`. A subject that was not there before has no `from`, one that is gone no `to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// What changed: `start`, `ready`, `service`, `backend`, `reload`, `change`, `hold`, `interface`, `vip`, `ground`,
    /// `http`; or `missed`, in the place of those that a follower was too slow for.
    pub kind: String,
    /// The service that it is about.
    pub service: Option<String>,
    /// The backend's name in the file, else its address.
    pub backend: Option<String>,
    /// How it was.
    pub from: Option<String>,
    /// How it is.
    pub to: Option<String>,
    /// Why.
    pub reason: String,
}

/// The answer to `events`, and of `/v1/events`: the last ones, newest last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happenings {
    /// At most as many as were asked for.
    pub events: Vec<Happening>,
}
