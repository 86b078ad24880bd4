//! The documents of `diff`: what a file would change, and what that means for those who are connected.

use serde::{Deserialize, Serialize};

/// `diff`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// Whether the file would change anything.
    pub changed: bool,
    /// Keys outside of services.
    pub keys: Vec<KeyDiff>,
    /// Services that the file adds, removes or changes, by name.
    pub services: Vec<ServiceDiff>,
    /// What would not be in force until the controller is restarted.
    pub needs_restart: Vec<String>,
}

/// A key with another value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyDiff {
    /// With dots, as in the faults of a file.
    pub key: String,
    /// What it is; nothing where it has no meaning so far.
    pub from: Option<String>,
    /// What it would be; nothing where it would have no meaning.
    pub to: Option<String>,
}

/// What would become of something that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// It is new.
    Added,
    /// It goes.
    Removed,
    /// It stays, with other keys.
    Changed,
}

/// One of `diff.services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDiff {
    /// The key in the file.
    pub name: String,
    /// What would become of it.
    pub change: Change,
    /// Its keys.
    pub keys: Vec<KeyDiff>,
    /// Its backends, by address.
    pub backends: Vec<BackendDiff>,
    /// Slots of its table that would lead to another backend: that share of new connections.
    pub moved: u32,
    /// Slots of its table.
    pub slots: u32,
    /// Live flows that stay with backends that go.
    pub draining: u64,
    /// How long these stay.
    pub drain: String,
    /// All its live flows.
    pub flows: u64,
}

/// One of `diff.services.backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendDiff {
    /// Its name in the file, else its address.
    pub name: String,
    /// `address:port`.
    pub address: String,
    /// What would become of it.
    pub change: Change,
    /// Its keys.
    pub keys: Vec<KeyDiff>,
    /// Its live flows.
    pub flows: u64,
}
