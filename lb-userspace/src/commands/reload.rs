//! `reload`: the file in force now, or why not.

use super::{Said, read};
use crate::{
    cli::Places,
    observe::{BAD_CONFIG, FAILED, Request, client::Refusal, documents::Reloaded},
};

/// Has the running balancer read its file, and waits until it is in force.
pub(super) fn reload(places: &Places, json: bool) -> Result<Said, Refusal> {
    let document = places.ask(&Request::Reload {})?;
    let reloaded: Reloaded = read(document.clone())?;
    if json {
        // The document says it all, also where the code is not 0.
        let code = match &reloaded {
            Reloaded { fault: Some(_), .. } => BAD_CONFIG,
            Reloaded { failed: Some(_), .. } => FAILED,
            _ => 0,
        };
        return Ok(Said { text: format!("{document}\n"), code });
    }
    if let Some(fault) = reloaded.fault {
        return Err(Refusal { text: format!("the file changes nothing:\n{fault}"), code: BAD_CONFIG });
    }
    if let Some(text) = reloaded.failed {
        return Err(Refusal { text, code: FAILED });
    }
    let notes: Vec<String> =
        reloaded.needs_restart.iter().chain(&reloaded.faults).map(|note| format!("{note}\n")).collect();
    Ok(format!("reloaded\n{}", notes.concat()).into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Write as _},
        os::unix::net::UnixListener,
        thread,
    };

    use clap::Parser as _;
    use serde_json::json;

    use super::*;
    use crate::cli::Cli;

    /// What `reload` says to a balancer's answer.
    fn answered(answer: &serde_json::Value, json: bool) -> Result<Said, Refusal> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let line = format!("{}\n", json!({"ok": answer}));
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
        });
        let cli = Cli::try_parse_from(["tidegate", "--socket", path.to_str().unwrap(), "reload"]).unwrap();
        let said = reload(&cli.places, json);
        server.join().unwrap();
        said
    }

    #[test]
    fn a_program_gets_its_document_whatever_the_code() {
        let answer = |fault, failed| json!({"fault": fault, "failed": failed, "needs_restart": [], "faults": []});
        for (fault, failed, code) in [(None, None, 0), (Some("f:1:1: bad"), None, 78), (None, Some("no room"), 1)] {
            let document = answer(fault, failed);
            let said = answered(&document, true).unwrap();
            assert_eq!(
                (said.code, serde_json::from_str::<serde_json::Value>(&said.text).unwrap()),
                (code, document.clone())
            );
            assert_eq!(answered(&document, false).map_or_else(|refusal| refusal.code, |said| said.code), code);
        }
    }
}
