//! `flows`: connections, one by one, in the order of their clients.

use super::table::{counted, octets, table};
use crate::observe::documents::FlowLines;

/// For a person.
pub(super) fn text(document: &FlowLines) -> String {
    let rows: Vec<Vec<String>> = document
        .flows
        .iter()
        .map(|flow| {
            vec![
                flow.client.clone(),
                flow.vip.clone(),
                flow.service.clone().unwrap_or_else(|| "-".to_owned()),
                flow.backend.clone(),
                flow.state.clone(),
                format!("{}s", flow.age_s),
                format!("{}s", flow.idle_s),
                flow.packets.to_string(),
                octets(flow.bytes),
            ]
        })
        .collect();
    let mut text = table(&["CLIENT", "VIP", "SERVICE", "BACKEND", "STATE", "AGE", "IDLE", "PACKETS", "BYTES"], &rows);
    if document.truncated {
        text.push_str(&format!("the first {} of more; see --limit\n", counted(rows.len(), "flow")));
    }
    text
}
