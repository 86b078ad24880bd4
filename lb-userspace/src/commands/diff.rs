//! `diff FILE`: what a file would change in the running balancer, and for whom. Nothing is changed by it.

use std::{fmt::Write as _, path::Path};

use super::{
    check::{Checked, told},
    read,
    table::counted,
};
use crate::{
    cli::Places,
    config,
    observe::{
        Request,
        client::{self, Refusal},
        documents::{BackendDiff, Change, Diff, KeyDiff, ServiceDiff},
    },
};

/// The faults of the file, as `check` shows them; else what it would change.
pub(super) fn diff(places: &Places, file: &Path, json: bool) -> Result<Checked, Refusal> {
    let octets = config::take(file);
    let name = file.display().to_string();
    let parsed = match &octets {
        Ok(octets) => config::parse_octets(octets, &name),
        Err(faults) => Err(faults.clone()),
    };
    let (Ok(octets), Ok((_, warnings))) = (&octets, &parsed) else { return Ok(told(file, &parsed, json)) };
    let request = Request::Diff { file: name, octets: octets.len() };
    let document = places.reach(|socket| client::send(socket, &request, octets))?;
    if json {
        return Ok(Checked { stdout: format!("{document}\n"), stderr: String::new(), code: 0 });
    }
    let stderr = warnings.iter().map(|warning| format!("{warning}\n")).collect();
    Ok(Checked { stdout: text(&read(document)?), stderr, code: 0 })
}

/// For a person.
fn text(diff: &Diff) -> String {
    if !diff.changed {
        return "no changes\n".to_owned();
    }
    let mut text = String::new();
    keys(&mut text, "", &diff.keys);
    for service in &diff.services {
        of_service(&mut text, service);
    }
    for needed in &diff.needs_restart {
        let _ = writeln!(text, "! {needed}");
    }
    text
}

fn of_service(text: &mut String, service: &ServiceDiff) {
    let ServiceDiff { name, change, moved, slots, draining, drain, flows, .. } = service;
    let _ = writeln!(text, "{} service {name}", mark(*change));
    // Who adds a service knows its keys; where it listens is what it is known by.
    let told = service.keys.iter().filter(|diff| *change == Change::Changed || diff.key == "listen").cloned();
    keys(text, "    ", &told.collect::<Vec<_>>());
    for backend in &service.backends {
        of_backend(text, backend);
    }
    if *moved > 0 {
        let share = f64::from(*moved) * 100.0 / f64::from(*slots);
        let _ = writeln!(
            text,
            "    = {share:.1}% of its clients get another backend for new connections ({moved} of {slots} slots)"
        );
    }
    if *draining > 0 {
        let _ = writeln!(text, "    = {draining} of its {} stay with backends that go, {drain}", live(*flows));
    }
}

fn of_backend(text: &mut String, backend: &BackendDiff) {
    let BackendDiff { name, address, change, flows, .. } = backend;
    let place = if name == address { String::new() } else { format!(" at {address}") };
    let carries = if *flows > 0 { format!(", {}", live(*flows)) } else { String::new() };
    let _ = writeln!(text, "    {} backend {name}{place}{carries}", mark(*change));
    if *change == Change::Changed {
        keys(text, "        ", &backend.keys);
    }
}

/// One key a line.
fn keys(text: &mut String, indent: &str, keys: &[KeyDiff]) {
    for KeyDiff { key, from, to } in keys {
        let _ = match (from, to) {
            (Some(from), Some(to)) => writeln!(text, "{indent}~ {key}: {from} -> {to}"),
            (None, Some(to)) => writeln!(text, "{indent}+ {key}: {to}"),
            (Some(from), None) => writeln!(text, "{indent}- {key}: {from}"),
            (None, None) => Ok(()),
        };
    }
}

fn mark(change: Change) -> char {
    match change {
        Change::Added => '+',
        Change::Removed => '-',
        Change::Changed => '~',
    }
}

fn live(flows: u64) -> String {
    counted(usize::try_from(flows).unwrap_or(usize::MAX), "live flow")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(key: &str, from: Option<&str>, to: Option<&str>) -> KeyDiff {
        KeyDiff { key: key.to_owned(), from: from.map(str::to_owned), to: to.map(str::to_owned) }
    }

    #[test]
    fn a_person_reads_what_changes_and_for_whom() {
        let backend = |name: &str, change, keys, flows| BackendDiff {
            name: name.to_owned(),
            address: "10.0.1.11:80".to_owned(),
            change,
            keys,
            flows,
        };
        let mut diff = Diff {
            changed: true,
            keys: vec![key("node.xdp", Some("auto"), Some("native"))],
            services: vec![ServiceDiff {
                name: "web".to_owned(),
                change: Change::Changed,
                keys: vec![key("health.rise", Some("2"), None), key("slots", None, Some("4093"))],
                backends: vec![
                    backend("10.0.1.11:80", Change::Removed, vec![key("weight", Some("1"), None)], 1),
                    backend("big", Change::Changed, vec![key("weight", Some("1"), Some("2"))], 0),
                ],
                moved: 1023,
                slots: 4093,
                draining: 1,
                drain: "until they end".to_owned(),
                flows: 12,
            }],
            needs_restart: vec!["node.xdp: restart".to_owned()],
        };
        let wanted = "\
~ node.xdp: auto -> native
~ service web
    - health.rise: 2
    + slots: 4093
    - backend 10.0.1.11:80, 1 live flow
    ~ backend big at 10.0.1.11:80
        ~ weight: 1 -> 2
    = 25.0% of its clients get another backend for new connections (1023 of 4093 slots)
    = 1 of its 12 live flows stay with backends that go, until they end
! node.xdp: restart
";
        assert_eq!(text(&diff), wanted);
        diff.changed = false;
        assert_eq!(text(&diff), "no changes\n");
    }
}
