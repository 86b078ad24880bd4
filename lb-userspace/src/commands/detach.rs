//! `detach`: programs and pins taken away. Doing it twice is no fault.

use super::FAILED;
use crate::{
    cli::Places,
    datapath::kernel::{self, OpenError},
    observe::{ELSEWHERE, NOBODY, NOT_PERMITTED, Request, client::Refusal},
};

/// Asks the running balancer to do it, and does it where none runs.
pub(super) fn detach(places: &Places, json: bool) -> Result<String, Refusal> {
    let request = Request::Detach { pin_dir: places.pin_dir.clone() };
    let was_there = match places.ask(&request) {
        Ok(_) => true,
        // Nobody there, or someone with other pins: whoever works on ours holds their lock.
        Err(refusal) if refusal.code == NOBODY || refusal.code == ELSEWHERE => {
            kernel::detach(&places.pin_dir).map_err(|error| refused(&error))?
        }
        Err(refusal) => return Err(refusal),
    };
    Ok(said(was_there, json))
}

fn said(was_there: bool, json: bool) -> String {
    match (json, was_there) {
        (true, _) => format!("{}\n", serde_json::json!({"detached": was_there})),
        (false, true) => "detached\n".to_owned(),
        (false, false) => "nothing was attached\n".to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_whether_there_was_anything_to_people_and_to_programs() {
        let all = [(true, true), (true, false), (false, true), (false, false)].map(|(was, json)| said(was, json));
        assert_eq!(all, ["{\"detached\":true}\n", "detached\n", "{\"detached\":false}\n", "nothing was attached\n"]);
    }
}
