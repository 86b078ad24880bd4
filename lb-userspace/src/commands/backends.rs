//! `backends`: every backend, how it is, since when and why, and what it carries.

use super::table::{octets, table};
use crate::observe::documents::BackendsByService;

/// For a person.
pub(super) fn text(document: &BackendsByService) -> String {
    let mut rows = Vec::new();
    for service in &document.services {
        for backend in &service.backends {
            rows.push(vec![
                service.name.clone(),
                backend.name.clone(),
                backend.address.clone(),
                backend.state.clone(),
                backend.weight.to_string(),
                backend.flows.to_string(),
                backend.packets.to_string(),
                octets(backend.bytes),
                backend.average_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms")),
                backend.since.clone(),
                backend.reason.clone(),
            ]);
        }
    }
    let head =
        ["SERVICE", "BACKEND", "ADDRESS", "STATE", "WEIGHT", "FLOWS", "PACKETS", "BYTES", "ANSWERS", "SINCE", "REASON"];
    table(&head, &rows)
}
