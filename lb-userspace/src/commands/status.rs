//! `status`: the whole balancer at a glance, and what is wrong with it.

use std::fmt::Write as _;

use lb_common::Reason;

use super::table::counted;
use crate::observe::documents::Status;

/// For a person.
pub(super) fn text(status: &Status) -> String {
    let nics: Vec<String> = status.interfaces.iter().map(|nic| format!("{} ({})", nic.name, nic.mode)).collect();
    let (backends, flows) = (&status.backends, &status.flows);
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11} {value}");
    };
    let is_ready = if status.ready { "ready" } else { "not ready" };
    line("tidegate", format!("{} {is_ready}, process {} since {}", status.version, status.pid, status.started_at));
    let loaded = status.config.loaded_at.as_ref().map_or(String::new(), |at| format!(", read at {at}"));
    line("file", format!("{}{loaded}", status.config.file));
    line("interfaces", nics.join(", "));
    if !status.announced.is_empty() {
        let vips: Vec<String> =
            status.announced.iter().map(|vip| format!("{} on {}", vip.address, vip.interface)).collect();
        line("announced", vips.join(", "));
    }
    line("http", status.http.clone().unwrap_or_else(|| "not served".to_owned()));
    line("services", status.services.to_string());
    let mut states = vec![format!("{} up", backends.up), format!("{} down", backends.down)];
    states.extend((backends.starting > 0).then(|| format!("{} starting", backends.starting)));
    states.extend((backends.drain > 0).then(|| format!("{} draining", backends.drain)));
    line("backends", states.join(", "));
    line("flows", format!("{} of {}, {} half open", flows.live, flows.max, flows.half_open));
    // In the order of the README's table; what never happened is not worth a line.
    let seen = Reason::ALL.iter().filter_map(|reason| Some((reason.label(), *status.packets.get(reason.label())?)));
    let seen: Vec<String> =
        seen.filter(|(_, count)| *count > 0).map(|(label, count)| format!("{count} {label}")).collect();
    line("packets", if seen.is_empty() { "none yet".to_owned() } else { seen.join(", ") });
    let mut faults: Vec<&str> = status.config.fault.iter().map(String::as_str).collect();
    faults.extend(status.faults.iter().chain(&status.config.needs_restart).map(String::as_str));
    if !faults.is_empty() {
        let _ = writeln!(text, "\n{}:", counted(faults.len(), "fault"));
        for fault in faults {
            let _ = writeln!(text, "- {}", fault.trim_end().replace('\n', "\n  "));
        }
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    text
}
