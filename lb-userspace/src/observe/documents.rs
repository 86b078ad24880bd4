//! The JSON documents of the admin API and of `--json`. Their keys are promises: more may come, none of
//! these changes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod diff;
mod events;
mod flows;

pub use diff::{BackendDiff, Change, Diff, KeyDiff, ServiceDiff};
pub use events::{Happening, Happenings};
pub use flows::{Candidate, Explained, FlowLine, FlowLines};

/// `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of the controller.
    pub version: String,
    /// Programs are attached, the first tables published, and nothing on this host stands in the way.
    pub ready: bool,
    /// The controller's process.
    pub pid: u32,
    /// When it started.
    pub started_at: String,
    /// The file.
    pub config: Config,
    /// The NICs that the program is attached to, or will be when they are back.
    pub interfaces: Vec<Interface>,
    /// VIPs that the controller put on the gateway, and where.
    pub announced: Vec<Announced>,
    /// The flow table.
    pub flows: Flows,
    /// Packets by how they ended, and what was noted on their way; those that never happened are 0.
    pub packets: BTreeMap<String, u64>,
    /// Services in the file.
    pub services: usize,
    /// Backends in the file.
    pub backends: Backends,
    /// What is wrong right now and what to do about it; empty when all is well.
    pub faults: Vec<String>,
    /// What of this host may do harm, and what to do about it.
    pub warnings: Vec<String>,
    /// Where HTTP is served; nothing where it is off, or cannot be, which is a warning.
    pub http: Option<String>,
}

/// Whether packets are balanced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// As `status.ready`.
    pub ready: bool,
    /// Why not.
    pub reason: String,
}

/// `status.config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Its path.
    pub file: String,
    /// When what is in force was read.
    pub loaded_at: Option<String>,
    /// Why the file as it is now is not in force.
    pub fault: Option<String>,
    /// What of the file is not in force until the controller is restarted.
    pub needs_restart: Vec<String>,
}

/// One of `status.interfaces`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native` or `generic`; `gone` as long as the NIC is not there.
    pub mode: String,
}

/// One of `status.announced`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// The VIP.
    pub address: String,
    /// The interface that it was put on.
    pub interface: String,
}

/// `status.flows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// Not idle beyond their timeout.
    pub live: u64,
    /// Handshakes under way, beside those.
    pub half_open: u64,
    /// What the table is made for.
    pub max: u64,
}

/// `status.backends`, and `backends` of a service in `services`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backends {
    /// Those that are up.
    pub up: usize,
    /// Those that are down.
    pub down: usize,
    /// Those that nothing is known of yet.
    pub starting: usize,
    /// Those that were removed and keep their last flows.
    pub drain: usize,
}

/// `services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// All of them, by name.
    pub services: Vec<ServiceLine>,
}

/// One of `services.services`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceLine {
    /// The key in the file.
    pub name: String,
    /// Its VIP:port endpoints.
    pub listen: Vec<String>,
    /// `tcp`.
    pub protocol: String,
    /// `nat`.
    pub mode: String,
    /// `source-hash`.
    pub algorithm: String,
    /// Of its table.
    pub slots: u32,
    /// Whether packets to it are balanced.
    pub published: bool,
    /// Its backends.
    pub backends: Backends,
    /// Live flows.
    pub flows: u64,
    /// Of its backends, both directions.
    pub packets: u64,
    /// Of its backends, both directions.
    pub bytes: u64,
}

/// `backends`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendsByService {
    /// All services or the one that was asked for.
    pub services: Vec<ServiceBackends>,
}

/// One of `backends.services`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceBackends {
    /// The key in the file.
    pub name: String,
    /// `nat`.
    pub mode: String,
    /// `source-hash`.
    pub algorithm: String,
    /// What is timed: `first-byte`, `handshake` or `none`.
    pub measure: String,
    /// In the order of the file, then those that drain.
    pub backends: Vec<BackendLine>,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendLine {
    /// Its name in the file, else its address.
    pub name: String,
    /// `address:port`.
    pub address: String,
    /// `up`, `down`, `drain` or `starting`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Since when, RFC 3339 in UTC.
    pub since: String,
    /// Its part of new flows.
    pub weight: u16,
    /// Live flows.
    pub flows: u64,
    /// Both directions.
    pub packets: u64,
    /// Octets of IP packets, both directions.
    pub bytes: u64,
    /// Client to backend.
    pub to_backend: Count,
    /// Backend to client.
    pub from_backend: Count,
    /// How long it takes to answer, in milliseconds: each time moves it by an eighth. Nothing before the first.
    pub average_ms: Option<f64>,
    /// How many times were taken, modulo 2³².
    pub timed: u32,
    /// All of them together.
    pub timed_ms: f64,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Octets of IP packets.
    pub bytes: u64,
}

/// What came of `reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Why the file is not in force: it is bad.
    pub fault: Option<String>,
    /// Why the file is not in force although it is good: the packet path did not take it. It is tried again.
    pub failed: Option<String>,
    /// What of it is not in force until the controller is restarted.
    pub needs_restart: Vec<String>,
    /// What is wrong although the file is good.
    pub faults: Vec<String>,
}
