//! What `flows` and `explain` show.

use serde::{Deserialize, Serialize};

use super::Count;

/// `flows`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowLines {
    /// In the order of client, its port, and VIP.
    pub flows: Vec<FlowLine>,
    /// Whether there are more than were asked for.
    pub truncated: bool,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowLine {
    /// `address:port` that opened it.
    pub client: String,
    /// `address:port` that it was opened to.
    pub vip: String,
    /// The service's name; nothing where no service has it.
    pub service: Option<String>,
    /// The backend's name in the file, else its address.
    pub backend: String,
    /// `address:port` that serves it.
    pub backend_address: String,
    /// `tcp`.
    pub protocol: String,
    /// `handshake`, `mid-life`, `established`, `half-closed`, `closing`, `reset` or `direct`.
    pub state: String,
    /// Seconds since its first packet.
    pub age_s: u64,
    /// Seconds since its last packet.
    pub idle_s: u64,
    /// Both directions.
    pub packets: u64,
    /// Octets of IP packets, both directions.
    pub bytes: u64,
    /// Client to backend.
    pub to_backend: Count,
    /// Backend to client.
    pub from_backend: Count,
}

/// `explain`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The service on that VIP and port.
    pub service: String,
    /// `source-hash`.
    pub algorithm: String,
    /// Who serves the client, or would; nothing where nobody does.
    pub backend: Option<String>,
    /// `flow` where there is one, `table` where it would be new.
    pub from: String,
    /// Why this backend, or why none.
    pub why: String,
    /// All backends of the service, in the order of the file.
    pub candidates: Vec<Candidate>,
}

/// One of `explain.candidates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its name in the file, else its address.
    pub name: String,
    /// Whether new connections go to it.
    pub eligible: bool,
    /// Why, or why not.
    pub why: String,
}
