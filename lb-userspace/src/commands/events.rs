//! `events`: state changes, newest last; with `--follow`, those that come too.

use std::io::Write;

use serde_json::Value;

use super::read;
use crate::{
    cli::Places,
    observe::{
        Request,
        client::{self, Refusal},
        documents::{Happening, Happenings},
    },
};

/// Shows the last ones; with `follow`, writes to `out` as they come, until interrupted or nobody reads.
pub(super) fn events(
    places: &Places,
    follow: bool,
    limit: usize,
    json: bool,
    out: &mut dyn Write,
) -> Result<String, Refusal> {
    let request = Request::Events { limit, follow };
    if !follow {
        let document = places.ask(&request)?;
        if json {
            let lines = document["events"].as_array().into_iter().flatten().map(|event| format!("{event}\n"));
            return Ok(lines.collect());
        }
        let document: Happenings = read(document)?;
        return Ok(document.events.iter().map(line).collect());
    }
    let mut take = |document: Value| {
        let text = if json { format!("{document}\n") } else { line(&read(document)?) };
        Ok(out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok())
    };
    places.reach(|socket| client::follow(socket, &request, &mut take))?;
    Ok(String::new())
}

/// For a person. No column is as wide as its widest cell: the widest may be still to come.
fn line(happening: &Happening) -> String {
    let Happening { time, kind, service, backend, from, to, reason } = happening;
    let subject = match (service, backend) {
        (Some(service), Some(backend)) => format!(" {service} {backend}"),
        (Some(service), None) => format!(" {service}"),
        _ => String::new(),
    };
    let turn = match (from, to) {
        (Some(from), Some(to)) => format!(" {from} -> {to}"),
        (None, Some(to)) => format!(" {to}"),
        (Some(from), None) => format!(" no longer {from}"),
        (None, None) => String::new(),
    };
    let reason = reason.trim_end().replace('\n', "\n    ");
    format!("{time} {kind:9}{subject}{turn}: {reason}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_turned_and_why() {
        let mut happening = Happening {
            time: "2026-01-02T03:04:05.006Z".to_owned(),
            kind: "backend".to_owned(),
            service: Some("web".to_owned()),
            backend: Some("b1".to_owned()),
            from: Some("up".to_owned()),
            to: Some("down".to_owned()),
            reason: "connection refused".to_owned(),
        };
        assert_eq!(line(&happening), "2026-01-02T03:04:05.006Z backend   web b1 up -> down: connection refused\n");
        happening = Happening { from: None, service: None, backend: None, kind: "reload".to_owned(), ..happening };
        happening.reason = "f.yaml:1:2: bad\n  help\n".to_owned();
        assert_eq!(line(&happening), "2026-01-02T03:04:05.006Z reload    down: f.yaml:1:2: bad\n      help\n");
        happening = Happening { from: happening.to, to: None, reason: "over".to_owned(), ..happening };
        assert_eq!(line(&happening), "2026-01-02T03:04:05.006Z reload    no longer down: over\n");
    }
}
