//! `services`: every service, where it listens and what it carries.

use super::table::{octets, table};
use crate::observe::documents::Services;

/// For a person.
pub(super) fn text(document: &Services) -> String {
    let rows: Vec<Vec<String>> = document
        .services
        .iter()
        .map(|service| {
            let known = service.backends.up + service.backends.down + service.backends.starting;
            vec![
                service.name.clone(),
                if service.listen.is_empty() { "(removed)".to_owned() } else { service.listen.join(",") },
                service.mode.clone(),
                service.algorithm.clone(),
                format!("{}/{known}", service.backends.up),
                service.flows.to_string(),
                service.packets.to_string(),
                octets(service.bytes),
            ]
        })
        .collect();
    table(&["SERVICE", "LISTEN", "MODE", "ALGORITHM", "UP", "FLOWS", "PACKETS", "BYTES"], &rows)
}
