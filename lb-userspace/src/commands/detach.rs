//! `detach`: programs and pins taken away. Doing it twice is no fault.

use super::FAILED;
use crate::{
    cli::Places,
    datapath::kernel::{self, OpenError},
    observe::{ELSEWHERE, NOBODY, NOT_PERMITTED, Request, client, client::Refusal},
};

/// Asks the running balancer to do it, and does it where none runs.
pub(super) fn detach(places: &Places) -> Result<String, Refusal> {
    let request = Request::Detach { pin_dir: places.pin_dir.clone() };
    match client::ask(&places.socket(), &request) {
        Ok(_) => Ok("detached\n".to_owned()),
        // Nobody there, or someone with other pins: whoever works on ours holds their lock.
        Err(refusal) if refusal.code == NOBODY || refusal.code == ELSEWHERE => {
            let was_there = kernel::detach(&places.pin_dir).map_err(|error| refused(&error))?;
            Ok(if was_there { "detached\n" } else { "nothing was attached\n" }.to_owned())
        }
        Err(refusal) => Err(refusal),
    }
}

/// Why the packet path cannot be opened or taken away, with the exit code that says so.
pub(super) fn refused(error: &OpenError) -> Refusal {
    let code = match error {
        OpenError::NotPermitted(_) => NOT_PERMITTED,
        OpenError::Occupied { .. } | OpenError::Other(_) => FAILED,
    };
    Refusal { text: error.to_string(), code }
}
