//! The keys `defaults` and `services`: each service as it is written, one by one.
//!
//! What needs more than one service to be seen is in [`whole`](super::whole).

use std::net::{Ipv4Addr, SocketAddrV4};

use lb_common::slots;

use super::{
    address::{self, endpoint},
    fields::{self, Fields},
    health,
    keys::Room,
    policy::{self, Policy},
    report::{Complaint, Place, Report, Value},
    scalar,
    tree::Kind,
};
use crate::model::Health;

const MODES: (&[(&str, ())], &[&str]) = (&[("nat", ())], &["snat", "dsr-l2", "dsr-ipip", "dsr-gue"]);
const PROTOCOLS: (&[(&str, ())], &[&str]) = (&[("tcp", ())], &["udp"]);
const ALGORITHMS: (&[(&str, ())], &[&str]) = (
    &[("source-hash", ())],
    &[
        "flow-hash",
        "round-robin",
        "random",
        "least-connections",
        "least-response-time",
        "first",
        "weighted-round-robin",
        "weighted-random",
        "weighted-least-connections",
    ],
);
const SLOTS: [u32; 2] = [slots::SMALL, slots::LARGE];
const LISTEN: &str = "write it like `listen: 203.0.113.10:80`, or a list of such";
const BACKENDS: &str = "write it like `backends: [10.0.1.11:8080, 10.0.1.12:8080]`";
const BACKEND: &str = "write 10.0.1.11:8080, or {address: 10.0.1.11:8080, weight: 1}";

/// What `defaults` and services share; `None` where it is not written.
#[derive(Debug, Default)]
pub(super) struct Settings {
    slots: Option<(u32, Place)>,
    health: health::Settings,
    policy: policy::Settings,
}

/// A service as it is written, with `defaults` under it.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) name: String,
    /// Where its name stands.
    pub(super) place: Place,
    pub(super) listens: Vec<Listen>,
    /// Whether all that `listen` names could be read.
    pub(super) listens_sound: bool,
    pub(super) backends: Vec<Backend>,
    pub(super) slots: u32,
    /// Where the slots are written, or the service's name.
    pub(super) slots_place: Place,
    pub(super) health: Option<Health>,
    pub(super) policy: Policy,
}

/// A VIP:port.
#[derive(Debug)]
pub(super) struct Listen {
    pub(super) endpoint: SocketAddrV4,
    pub(super) place: Place,
}

/// A backend as it is written.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) address: Ipv4Addr,
    pub(super) port: Option<u16>,
    pub(super) weight: u16,
    pub(super) name: Option<(String, Place)>,
    pub(super) place: Place,
}

impl Settings {
    /// Reads `defaults`.
    pub(super) fn defaults(report: &mut Report, value: Option<&Value<'_>>) -> Self {
        let fields = value.and_then(|value| Fields::read_optional(report, value, Room::Defaults));
        let Some(mut fields) = fields else { return Self::default() };
        let settings = Self::read(report, &mut fields);
        settings.health.alone(report);
        settings.policy.alone(report);
        settings
    }

    /// Takes the shared keys out of a map.
    fn read(report: &mut Report, fields: &mut Fields<'_>) -> Self {
        // One mode, protocol and algorithm in this version: they are checked and there is nothing to keep.
        for (key, (now, later)) in [("mode", MODES), ("protocol", PROTOCOLS), ("algorithm", ALGORITHMS)] {
            if let Some(value) = fields.take(key) {
                report.choice(&value, now, later);
            }
        }
        Self {
            slots: fields.take("slots").and_then(|value| Some((slots(report, &value)?, value.place()))),
            health: fields.take("health").map(|value| health::Settings::read(report, &value)).unwrap_or_default(),
            policy: policy::Settings::read(report, fields),
        }
    }
}

/// Reads `services`.
pub(super) fn services(report: &mut Report, value: &Value<'_>, defaults: &Settings) -> Vec<Draft> {
    const HELP: &str = "write at least one service: its name, and under it `listen` and `backends`";
    let entries = match value.kind() {
        Kind::Map(written) => fields::entries(report, value, written),
        Kind::Null => Vec::new(),
        Kind::Text { .. } | Kind::List(_) => {
            report.mismatch(value, "a map of services", HELP);
            return Vec::new();
        }
    };
    if entries.is_empty() {
        report.fault(value.place(), "no services", HELP);
    }
    let mut drafts = Vec::with_capacity(entries.len());
    for entry in entries {
        let service = value.under(&entry.key, entry.span, entry.value);
        if let Err(complaint) = scalar::name(&entry.key) {
            report.fault(service.key_place(), complaint.message, complaint.help);
        }
        drafts.extend(self::service(report, &entry.key, &service, defaults));
    }
    drafts
}

/// Reads one service.
fn service(report: &mut Report, name: &str, value: &Value<'_>, defaults: &Settings) -> Option<Draft> {
    let mut fields = Fields::read(report, value, Room::Service)?;
    let listen = fields.required(report, "listen", LISTEN);
    let backends = fields.required(report, "backends", BACKENDS);
    let own = Settings::read(report, &mut fields);
    let (listens, listens_sound) = listen.map_or((Vec::new(), false), |value| listens(report, &value));
    let place = value.key_place();
    let (slots, slots_place) = match own.slots.or_else(|| defaults.slots.clone()) {
        Some((slots, place)) => (slots, place),
        None => (slots::SMALL, place.clone()),
    };
    Some(Draft {
        name: name.to_owned(),
        place,
        listens,
        listens_sound,
        backends: backends.map_or_else(Vec::new, |value| self::backends(report, &value)),
        slots,
        slots_place,
        health: own.health.over(report, &defaults.health),
        policy: own.policy.over(report, &defaults.policy),
    })
}

/// Reads `listen`, and whether all of it could be read.
fn listens(report: &mut Report, value: &Value<'_>) -> (Vec<Listen>, bool) {
    let items = value.items();
    if items.is_empty() {
        report.fault(value.place(), "no address to listen on", LISTEN);
    }
    let wanted = items.len();
    let listens: Vec<Listen> = items.iter().filter_map(|item| listen(report, item)).collect();
    let sound = wanted > 0 && listens.len() == wanted;
    (listens, sound)
}

fn listen(report: &mut Report, value: &Value<'_>) -> Option<Listen> {
    let endpoint = report.text(value, "an address and port", LISTEN, |text| {
        let (address, port) = endpoint(text)?;
        let port = port.ok_or_else(|| {
            Complaint::new(format!("the port of {address} is missing"), format!("write it like {address}:80"))
        })?;
        Ok(SocketAddrV4::new(address, port))
    })?;
    Some(Listen { endpoint, place: value.place() })
}

/// Reads `backends`.
fn backends(report: &mut Report, value: &Value<'_>) -> Vec<Backend> {
    match value.kind() {
        Kind::List(items) if !items.is_empty() => {
            value.items().iter().filter_map(|item| backend(report, item)).collect()
        }
        Kind::List(_) | Kind::Null => {
            report.fault(value.place(), "no backends: a service needs at least one", BACKENDS);
            Vec::new()
        }
        Kind::Text { .. } | Kind::Map(_) => {
            report.mismatch(value, "a list of backends", BACKENDS);
            Vec::new()
        }
    }
}

/// Reads a backend, short or long.
fn backend(report: &mut Report, value: &Value<'_>) -> Option<Backend> {
    let Kind::Map(entries) = value.kind() else {
        let (address, port) = backend_address(report, value)?;
        return Some(Backend { address, port, weight: 1, name: None, place: value.place() });
    };
    if let [entry] = entries.as_slice()
        && endpoint(&entry.key).is_ok()
    {
        let place = value.under(&entry.key, entry.span, entry.value).key_place();
        let help = "write 10.0.1.11:8080 without a blank, and without a colon at the end";
        report.fault(Place { path: value.place().path, ..place }, "YAML takes this address for a key", help);
        return None;
    }
    let mut fields = Fields::read(report, value, Room::Backend)?;
    let written = fields.required(report, "address", BACKEND);
    let weight = fields.take("weight").map(|value| report.number(&value, "a weight", 0..=65_535));
    let name = fields.take("name").and_then(|value| {
        let name = |text: &str| scalar::name(text).map(|()| text.to_owned());
        Some((report.text(&value, "a name", "write it like `name: big-box`", name)?, value.place()))
    });
    let written = written?;
    let (address, port) = backend_address(report, &written)?;
    // A weight that could not be read is a fault already; it only must not look like zero.
    let weight = weight.flatten().and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
    Some(Backend { address, port, weight, name, place: written.place() })
}

fn backend_address(report: &mut Report, value: &Value<'_>) -> Option<address::Endpoint> {
    report.text(value, "an address", BACKEND, endpoint)
}

/// Reads `slots`.
fn slots(report: &mut Report, value: &Value<'_>) -> Option<u32> {
    let [small, large] = SLOTS;
    report.number_by(value, |text| {
        let complaint = |why: &str| Complaint::new(why, format!("write {small} or {large}"));
        let slots = scalar::number(text, "a number of slots", 0..=u32::MAX).map_err(|c| complaint(&c.message))?;
        let valid = SLOTS.contains(&slots);
        valid
            .then_some(slots)
            .ok_or_else(|| complaint(&format!("{slots} is not the size of a table ({small} or {large})")))
    })
}
