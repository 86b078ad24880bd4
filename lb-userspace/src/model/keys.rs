//! A model as keys and values, as an operator writes them: what two models differ in is what their keys differ in.
//!
//! Every struct is taken apart by name and whole, so that a field that is new does not compile until it has its line
//! here. What has an identity of its own, services by name and backends by address, is left to whoever compares.

use std::{collections::BTreeMap, fmt::Display, num::NonZeroU32, path::PathBuf, time::Duration};

use super::{
    Access, AllDown, Backend, Drain, Health, Http, Limits, LiveFlows, LogConnections, Measure, Model, Node, Rate,
    Retry, Service, Timeouts, XdpMode,
};
use crate::time::spelt;

/// Keys as in the file, with dots, and their values.
pub type Keys = BTreeMap<&'static str, String>;

impl Model {
    /// All but services.
    pub fn keys(&self) -> Keys {
        let Self { node, log_level, log_connections, socket, http, services: _ } = self;
        let Node { interfaces, xdp, max_flows, announce_vips } = node;
        Keys::from([
            ("node.interfaces", interfaces.shown()),
            ("node.xdp", xdp.shown()),
            ("node.max_flows", max_flows.shown()),
            ("node.announce_vips", announce_vips.to_string()),
            ("log.level", log_level.map(|level| level.to_string().to_lowercase()).shown()),
            ("log.connections", log_connections.shown()),
            ("admin.socket", socket.shown()),
            ("admin.http", http.shown()),
        ])
    }
}

impl Service {
    /// All but backends.
    pub fn keys(&self) -> Keys {
        let Self {
            listen,
            slots,
            health,
            timeouts,
            drain,
            all_down,
            on_down,
            retry,
            measure,
            limits,
            access,
            backends: _,
        } = self;
        let Timeouts { syn, established, fin } = timeouts;
        let Drain { time, then } = drain;
        let Limits { rate, per_source } = limits;
        let Access { allow, deny } = access;
        let mut keys = Keys::from([
            ("listen", listen.shown()),
            ("slots", slots.shown()),
            ("timeouts.syn", syn.shown()),
            ("timeouts.established", established.shown()),
            ("timeouts.fin", fin.shown()),
            ("drain.for", time.shown()),
            ("drain.then", then.shown()),
            ("all_down", all_down.shown()),
            ("on_down", on_down.shown()),
            ("retry", retry.shown()),
            ("measure", measure.shown()),
            ("limits.rate", rate.map_or("none".to_owned(), |rate| rate.shown())),
            ("limits.per_source", per_source.map_or("none".to_owned(), |most| most.to_string())),
            ("allow", allow.as_ref().map_or("none".to_owned(), |prefixes| prefixes.to_vec().shown())),
            ("deny", if deny.is_empty() { "none".to_owned() } else { deny.to_vec().shown() }),
            ("health", if health.is_some() { "tcp" } else { "none" }.to_owned()),
        ]);
        if let Some(Health { port, interval, timeout, rise, fall }) = health {
            let port = port.map_or("the backend's".to_owned(), |port| port.to_string());
            keys.extend([
                ("health.tcp.port", port),
                ("health.interval", interval.shown()),
                ("health.timeout", timeout.shown()),
                ("health.rise", rise.shown()),
                ("health.fall", fall.shown()),
            ]);
        }
        keys
    }
}

impl Backend {
    /// All but its address.
    pub fn keys(&self) -> Keys {
        let Self { name, address: _, weight } = self;
        Keys::from([("name", name.clone().unwrap_or_else(|| "none".to_owned())), ("weight", weight.shown())])
    }
}

/// A value as it would stand in the file.
pub(crate) trait Shown {
    fn shown(&self) -> String;
}

impl Shown for u16 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for u32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for NonZeroU32 {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for String {
    fn shown(&self) -> String {
        self.clone()
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> String {
        self.display().to_string()
    }
}

impl Shown for Http {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl Shown for XdpMode {
    fn shown(&self) -> String {
        format!("{self:?}").to_lowercase()
    }
}

impl Shown for LogConnections {
    fn shown(&self) -> String {
        match self {
            Self::Off => "off".to_owned(),
            Self::Errors => "errors".to_owned(),
            Self::All => "all".to_owned(),
            Self::OneIn(number) => format!("1/{number}"),
        }
    }
}

impl Shown for LiveFlows {
    fn shown(&self) -> String {
        match self {
            Self::Keep => "keep",
            Self::Reset => "reset",
        }
        .to_owned()
    }
}

impl Shown for AllDown {
    fn shown(&self) -> String {
        match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
            Self::Any => "any",
        }
        .to_owned()
    }
}

impl Shown for Retry {
    fn shown(&self) -> String {
        match self {
            Self::None => "none",
            Self::Refused => "refused",
        }
        .to_owned()
    }
}

impl Shown for Measure {
    fn shown(&self) -> String {
        match self {
            Self::FirstByte => "first-byte",
            Self::Handshake => "handshake",
            Self::None => "none",
        }
        .to_owned()
    }
}

impl Shown for Rate {
    fn shown(&self) -> String {
        self.to_string()
    }
}

impl<T: Display> Shown for Vec<T> {
    fn shown(&self) -> String {
        format!("[{}]", self.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

/// A key that the file may leave out.
impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> String {
        self.as_ref().map_or("the default".to_owned(), Shown::shown)
    }
}

impl Shown for Duration {
    fn shown(&self) -> String {
        spelt(*self)
    }
}
