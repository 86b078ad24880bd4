//! The file as meant: always valid, with every default filled in.
//!
//! Only [`config`](crate::config) makes one, so no later code asks whether a port is a port or a name is known.

use std::{collections::BTreeMap, net::SocketAddrV4, num::NonZeroU32, path::PathBuf, time::Duration};

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
    /// How long a removed backend keeps its live flows.
    pub drain: Duration,
    /// Its backends in the order of the file, no address:port twice; at least one.
    pub backends: Vec<Backend>,
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
