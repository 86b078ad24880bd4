//! The file as meant: always valid, with every default filled in.
//!
//! Only [`config`](crate::config) makes one, so no later code asks whether a port is a port or a name is known.

use std::{
    collections::BTreeMap,
    fmt,
    net::{SocketAddr, SocketAddrV4},
    num::NonZeroU32,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;

mod keys;

pub use keys::Keys;

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    /// `node`.
    pub node: Node,
    /// `log.level`, where the file names one.
    pub log_level: Option<log::LevelFilter>,
    /// `log.connections`.
    pub log_connections: LogConnections,
    /// `admin.socket`, where the file names one.
    pub socket: Option<PathBuf>,
    /// `admin.http`, where the file names one.
    pub http: Option<Http>,
    /// `services`, by name: the service's identity across reloads.
    pub services: BTreeMap<String, Service>,
}

/// The gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// NICs to attach to; empty where the file names none (`--iface` may).
    pub interfaces: Vec<String>,
    /// How to attach.
    pub xdp: XdpMode,
    /// Flows that the flow table is made for.
    pub max_flows: u32,
    /// Whether VIPs that the gateway does not have are put on it and announced.
    pub announce_vips: bool,
}

/// Which connections get a line in the log when they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogConnections {
    /// None.
    #[default]
    Off,
    /// Those that did not end well.
    Errors,
    /// All.
    All,
    /// One in so many.
    OneIn(NonZeroU32),
}

/// Where HTTP is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// Nowhere.
    Off,
    /// At this address.
    At(SocketAddr),
}

impl fmt::Display for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("none"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// How the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum XdpMode {
    /// In the driver, else in the kernel's generic hook, and said loudly.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// In the generic hook.
    Generic,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its VIP:port endpoints (TCP), none of which another service has.
    pub listen: Vec<SocketAddrV4>,
    /// Slots of its table: [`lb_common::slots::SMALL`] or [`lb_common::slots::LARGE`].
    pub slots: u32,
    /// How its backends are probed; `None` for `health: none`.
    pub health: Option<Health>,
    /// When its flows are over.
    pub timeouts: Timeouts,
    /// What becomes of the live flows of a backend that was removed.
    pub drain: Drain,
    /// What becomes of new connections while no backend is up.
    pub all_down: AllDown,
    /// What becomes of the live flows of a backend that goes down.
    pub on_down: LiveFlows,
    /// What becomes of a handshake that a backend refuses.
    pub retry: Retry,
    /// What the packet path times.
    pub measure: Measure,
    /// How many connections may be opened.
    pub limits: Limits,
    /// Who may open them.
    pub access: Access,
    /// Its backends in the order of the file, no address:port twice; at least one.
    pub backends: Vec<Backend>,
}

/// Idle times after which a flow is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// In the handshake.
    pub syn: Duration,
    /// After it; a connection that one side has finished counts as established.
    pub established: Duration,
    /// Once both sides have finished, or one broke off.
    pub fin: Duration,
}

/// The end of a backend that is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// How long its live flows are left alone.
    pub time: Duration,
    /// What becomes of those that live then.
    pub then: LiveFlows,
}

/// What becomes of live flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LiveFlows {
    /// They go on as long as they live.
    #[default]
    Keep,
    /// The next packet of each is answered with RST.
    Reset,
}

/// What becomes of new connections while no backend is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AllDown {
    /// They are answered with RST.
    #[default]
    Reject,
    /// They are dropped.
    Drop,
    /// They go to all backends, as if these were up.
    Any,
}

/// What becomes of a handshake that a backend refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Retry {
    /// The client hears of it.
    #[default]
    None,
    /// It goes to another backend.
    Refused,
}

/// What the packet path times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Measure {
    /// From the client's first payload to the backend's.
    #[default]
    FirstByte,
    /// From SYN to SYN-ACK.
    Handshake,
    /// Nothing.
    None,
}

/// How many connections may be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Limits {
    /// New connections of all clients together.
    pub rate: Option<Rate>,
    /// Connections of one client address at a time.
    pub per_source: Option<NonZeroU32>,
}

/// At most so many at once, and then as many as come back in this time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub connections: NonZeroU32,
    /// In which time: a second, a minute or an hour.
    pub time: Duration,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = match self.time.as_secs() {
            60 => "m",
            3600 => "h",
            _ => "s",
        };
        write!(f, "{}/{unit}", self.connections)
    }
}

/// Who may open connections: whoever `deny` does not name, and `allow` names where it is there. Services that
/// take a list from `defaults` share it. Both are in order, each prefix once.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Access {
    /// The IPv4 prefixes of `allow`; `None` where everybody may.
    pub allow: Option<Arc<[Ipv4Net]>>,
    /// The IPv4 prefixes of `deny`.
    pub deny: Arc<[Ipv4Net]>,
}

/// TCP probes of a service's backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The port to knock on, where it is not the backend's own.
    pub port: Option<u16>,
    /// Between two probes of one backend.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Successes in a row that bring a backend up.
    pub rise: NonZeroU32,
    /// Failures in a row that take it down.
    pub fall: NonZeroU32,
}

/// One backend of one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Its name, where the file gives one.
    pub name: Option<String>,
    /// Where it listens.
    pub address: SocketAddrV4,
    /// Its share of new flows, 0 to 65535; 0 takes none.
    pub weight: u16,
}
