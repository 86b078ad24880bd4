//! A model as keys and values, as an operator writes them: what two models differ in is what their keys differ in.
//!
//! Every struct is taken apart by name and whole, so that a field that is new does not compile until it has its line
//! here. What has an identity of its own, services by name and backends by address, is left to whoever compares.

use std::{collections::BTreeMap, fmt::Display, num::NonZeroU32, path::PathBuf, time::Duration};

use super::{Backend, Health, Http, Model, Node, Service, XdpMode};
use crate::time::spelt;

/// Keys as in the file, with dots, and their values.
pub type Keys = BTreeMap<&'static str, String>;

impl Model {
    /// All but services.
    pub fn keys(&self) -> Keys {
        let Self { node, log_level, socket, http, services: _ } = self;
        let Node { interfaces, xdp, max_flows } = node;
        Keys::from([
            ("node.interfaces", interfaces.shown()),
            ("node.xdp", xdp.shown()),
            ("node.max_flows", max_flows.shown()),
            ("log.level", log_level.map(|level| level.to_string().to_lowercase()).shown()),
            ("admin.socket", socket.shown()),
            ("admin.http", http.shown()),
        ])
    }
}

impl Service {
    /// All but backends.
    pub fn keys(&self) -> Keys {
        let Self { listen, slots, health, drain, backends: _ } = self;
        let mut keys = Keys::from([
            ("listen", listen.shown()),
            ("slots", slots.shown()),
            ("drain", drain.shown()),
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
