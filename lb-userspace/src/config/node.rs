//! The keys of the gateway itself: `node`, `log` and `admin`.

use std::{collections::HashMap, path::PathBuf};

use lb_common::limits::{DEFAULT_MAX_FLOWS, MAX_FLOWS, NICS};
use log::LevelFilter;

use super::{
    fields::Fields,
    keys::Room,
    report::{Complaint, Report, Value},
    scalar::{self, shown},
    tree::Kind,
};
use crate::model::{Node, XdpMode};

const XDP: [(&str, XdpMode); 3] = [("auto", XdpMode::Auto), ("native", XdpMode::Native), ("generic", XdpMode::Generic)];
const SWITCH: [(&str, bool); 2] = [("true", true), ("false", false)];
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::Off),
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];
/// Octets of a socket's path: `sun_path` of unix(7) less its final zero.
const SOCKET_PATH: usize = 107;

/// Reads `node`.
pub(super) fn node(report: &mut Report, value: Option<&Value<'_>>) -> Node {
    let mut node =
        Node { interfaces: Vec::new(), xdp: XdpMode::Auto, max_flows: DEFAULT_MAX_FLOWS, announce_vips: true };
    let Some(mut fields) = value.and_then(|value| Fields::read_optional(report, value, Room::Node)) else {
        return node;
    };
    if let Some(value) = fields.take("interfaces") {
        node.interfaces = interfaces(report, &value);
    }
    if let Some(xdp) = fields.take("xdp").and_then(|value| report.choice(&value, &XDP, &[])) {
        node.xdp = xdp;
    }
    let flows = |value| report.number(&value, "a number of flows", MAX_FLOWS);
    if let Some(flows) = fields.take("max_flows").and_then(flows) {
        node.max_flows = flows;
    }
    if let Some(announce) = fields.take("announce_vips").and_then(|value| report.choice(&value, &SWITCH, &[])) {
        node.announce_vips = announce;
    }
    node
}

/// Reads `log`: its level.
pub(super) fn log(report: &mut Report, value: Option<&Value<'_>>) -> Option<LevelFilter> {
    let mut fields = Fields::read_optional(report, value?, Room::Log)?;
    report.choice(&fields.take("level")?, &LEVELS, &[])
}

/// Reads `admin`: its socket.
pub(super) fn admin(report: &mut Report, value: Option<&Value<'_>>) -> Option<PathBuf> {
    let mut fields = Fields::read_optional(report, value?, Room::Admin)?;
    let socket = fields.take("socket")?;
    report.text(&socket, "a path", "write it like /run/tidegate/admin.sock", |text| {
        let complaint = |why: String| Err(Complaint::new(why, "write it like /run/tidegate/admin.sock"));
        match text {
            _ if !text.starts_with('/') => complaint(format!("{} is not an absolute path", shown(text))),
            _ if text.contains('\0') || text.ends_with('/') => {
                complaint(format!("{} is not the path of a socket", shown(text)))
            }
            _ if text.len() > SOCKET_PATH => {
                complaint(format!("a path of {} octets (at most {SOCKET_PATH})", text.len()))
            }
            _ => Ok(PathBuf::from(text)),
        }
    })
}

/// A list of NICs, each once.
fn interfaces(report: &mut Report, value: &Value<'_>) -> Vec<String> {
    let Kind::List(_) = value.kind() else {
        report.mismatch(value, "a list of names", "write it like [eth0, eth1]");
        return Vec::new();
    };
    let mut names = Vec::new();
    let mut first = HashMap::new();
    for item in value.items() {
        let name = report.text(&item, "the name of an interface", "write it like [eth0, eth1]", scalar::interface);
        let Some(name) = name else { continue };
        let place = item.place();
        if let Some(line) = first.insert(name.clone(), place.span.line) {
            report.fault(place, format!("{name} is named twice, first in line {line}"), "keep one of them");
            continue;
        }
        names.push(name);
    }
    if names.len() > NICS {
        report.fault(value.place(), format!("{} interfaces (at most {NICS})", names.len()), "attach to fewer");
    }
    names
}
