//! `explain`: which backend a client has or would get, and why, and why not another.

use super::table::table;
use crate::observe::documents::Explained;

/// For a person.
pub(super) fn text(document: &Explained) -> String {
    let backend = match (document.backend.as_deref(), document.from.as_str()) {
        (Some(backend), "flow") => format!("is served by {backend}"),
        (Some(backend), _) => format!("would get {backend}"),
        (None, _) => "would get no backend".to_owned(),
    };
    let rows: Vec<Vec<String>> = document
        .candidates
        .iter()
        .map(|candidate| {
            let eligible = if candidate.eligible { "yes" } else { "no" };
            vec![candidate.name.clone(), eligible.to_owned(), candidate.why.clone()]
        })
        .collect();
    format!(
        "service {} ({}): the client {backend}: {}\n\n{}",
        document.service,
        document.algorithm,
        document.why,
        table(&["BACKEND", "ELIGIBLE", "WHY"], &rows)
    )
}
