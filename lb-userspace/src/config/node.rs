//! The keys of the gateway itself: `node`, `log` and `admin`.

use std::{collections::HashMap, net::SocketAddr, num::NonZeroU32, path::PathBuf};

use lb_common::limits::{DEFAULT_MAX_FLOWS, MAX_FLOWS, NICS};
use log::LevelFilter;

use super::{
    fields::Fields,
    keys::Room,
    report::{Complaint, Report, Value},
    scalar::{self, shown},
    tree::Kind,
};
use crate::model::{Http, LogConnections, Node, XdpMode};

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

/// Reads `log`: its level, and which connections it names.
pub(super) fn log(report: &mut Report, value: Option<&Value<'_>>) -> (Option<LevelFilter>, LogConnections) {
    let fields = value.and_then(|value| Fields::read_optional(report, value, Room::Log));
    let Some(mut fields) = fields else { return (None, LogConnections::Off) };
    let level = fields.take("level").and_then(|value| report.choice(&value, &LEVELS, &[]));
    let help = "write off, errors, all, or a share like 1/100";
    let read = |value| report.text(&value, "a word", help, |text| connections(text, help));
    (level, fields.take("connections").and_then(read).unwrap_or_default())
}

/// `off`, `errors`, `all` or `1/N`.
fn connections(text: &str, help: &str) -> Result<LogConnections, Complaint> {
    const WORDS: [(&str, LogConnections); 3] =
        [("off", LogConnections::Off), ("errors", LogConnections::Errors), ("all", LogConnections::All)];
    let Some((one, many)) = text.split_once('/') else { return scalar::choice(text, &WORDS, &[], help) };
    if one != "1" {
        return Err(Complaint::new(format!("{} is not one in so many", shown(text)), help));
    }
    let many = scalar::number(many, "a share of connections", 1..=1_000_000)
        .map_err(|complaint| complaint.at(2..text.len()))?;
    Ok(NonZeroU32::new(many).map_or(LogConnections::All, LogConnections::OneIn))
}

/// Reads `admin`: its socket, and where HTTP is spoken.
pub(super) fn admin(report: &mut Report, value: Option<&Value<'_>>) -> (Option<PathBuf>, Option<Http>) {
    let fields = value.and_then(|value| Fields::read_optional(report, value, Room::Admin));
    let Some(mut fields) = fields else { return (None, None) };
    let path = "write it like /run/tidegate/admin.sock";
    let socket = fields.take("socket").and_then(|value| report.text(&value, "a path", path, socket));
    let address = "write it like 127.0.0.1:9191, or `none`";
    let http = |value| report.text(&value, "an address and port", address, |text| spoken(text, address));
    (socket, fields.take("http").and_then(http))
}

fn socket(text: &str) -> Result<PathBuf, Complaint> {
    let complaint = |why: String| Err(Complaint::new(why, "write it like /run/tidegate/admin.sock"));
    match text {
        _ if !text.starts_with('/') => complaint(format!("{} is not an absolute path", shown(text))),
        _ if text.contains('\0') || text.ends_with('/') => {
            complaint(format!("{} is not the path of a socket", shown(text)))
        }
        _ if text.len() > SOCKET_PATH => complaint(format!("a path of {} octets (at most {SOCKET_PATH})", text.len())),
        _ => Ok(PathBuf::from(text)),
    }
}

/// An address of the gateway, of either family, and a port; or `none`.
fn spoken(text: &str, help: &str) -> Result<Http, Complaint> {
    if text == "none" {
        return Ok(Http::Off);
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(Http::At(address)),
        _ => Err(Complaint::new(format!("{} is not an address and port", shown(text)), help)),
    }
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
