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
    faults.extend(status.faults.iter().map(String::as_str));
    list(&mut text, &counted(faults.len(), "fault"), faults);
    // No fault: all goes on as it did, and nothing but a restart changes that.
    let waiting: Vec<&str> = status.config.needs_restart.iter().map(String::as_str).collect();
    list(&mut text, "in the file, and not in force", waiting);
    for warning in &status.warnings {
        let _ = writeln!(text, "\nwarning: {warning}");
    }
    text
}

fn list(text: &mut String, head: &str, lines: Vec<&str>) {
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{head}:");
    }
    for line in lines {
        let _ = writeln!(text, "- {}", line.trim_end().replace('\n', "\n  "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_counted_without_what_waits_for_a_restart() {
        let status = serde_json::from_value(serde_json::json!({
            "version": "1", "ready": false, "pid": 1, "started_at": "now", "interfaces": [], "announced": [],
            "flows": {"live": 0, "half_open": 0, "max": 1024}, "packets": {}, "services": 1, "http": null,
            "backends": {"up": 0, "down": 0, "starting": 0, "drain": 0},
            "config": {
                "file": "f.yaml", "loaded_at": null, "fault": "f.yaml:1:1: bad\n  help: mend it\n",
                "needs_restart": ["node.xdp: restart"],
            },
            "faults": ["ip_forward is 0"], "warnings": [],
        }));
        let said = text(&status.unwrap());
        let end = "
2 faults:
- f.yaml:1:1: bad
    help: mend it
- ip_forward is 0

in the file, and not in force:
- node.xdp: restart
";
        assert!(said.ends_with(end), "{said}");
    }
}
