//! `reload`: the file in force now, or why not.

use super::{check::BAD_CONFIG, read};
use crate::{
    cli::Places,
    observe::{FAILED, Request, client, client::Refusal, documents::Reloaded},
};

/// Has the running balancer read its file, and waits until it is in force.
pub(super) fn reload(places: &Places, json: bool) -> Result<String, Refusal> {
    let document = client::ask(&places.socket(), &Request::Reload {})?;
    let reloaded: Reloaded = read(document.clone())?;
    if let Some(fault) = reloaded.fault {
        return Err(Refusal { text: format!("the file changes nothing:\n{fault}"), code: BAD_CONFIG });
    }
    if let Some(text) = reloaded.failed {
        return Err(Refusal { text, code: FAILED });
    }
    if json {
        return Ok(format!("{document}\n"));
    }
    let notes: Vec<String> =
        reloaded.needs_restart.iter().chain(&reloaded.faults).map(|note| format!("{note}\n")).collect();
    Ok(format!("reloaded\n{}", notes.concat()))
}
