//! What an operator types, one file a command.
//!
//! A command says what to print and how to exit. Its code is 0 when all is well; 1 when it failed; 2 for a
//! wrong command line (clap's own); 69 when there is no balancer to talk to; 77 when it is not permitted;
//! 78 when the configuration is bad, missing or unreadable, or names no interface.

pub mod backends;
pub mod check;
pub mod detach;
pub mod diff;
pub mod events;
pub mod explain;
pub mod flows;
pub mod reload;
pub mod run;
pub mod services;
pub mod status;
mod table;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    cli::{Cli, Command, Places},
    config,
    observe::{FAILED, NOBODY, Request, client, client::Refusal},
};

/// Where the file is when no flag says so.
pub const CONFIG: &str = "/etc/tidegate/tidegate.yaml";
/// Where the socket is when neither a flag nor the file says so.
pub const SOCKET: &str = "/run/tidegate/admin.sock";

/// Does what the command line says.
pub fn execute(cli: Cli) -> ExitCode {
    let Cli { places, command } = cli;
    let result = match command {
        Command::Run(flags) => run::run(&places, &flags).map(Said::from),
        Command::Check { file, json } => {
            return check::check(&file, json).tell();
        }
        Command::Diff { file, json } => match diff::diff(&places, &file, json) {
            Ok(checked) => return checked.tell(),
            Err(refusal) => Err(refusal),
        },
        Command::Reload { json } => reload::reload(&places, json),
        Command::Status { json } => show(&places, &Request::Status {}, json, status::text).map(Said::from),
        Command::Services { json } => show(&places, &Request::Services {}, json, services::text).map(Said::from),
        Command::Backends { service, json } => {
            show(&places, &Request::Backends { service }, json, backends::text).map(Said::from)
        }
        Command::Flows { service, client, limit, all, json } => {
            let limit = limit as usize;
            show(&places, &Request::Flows { service, client, all, limit }, json, flows::text).map(Said::from)
        }
        Command::Explain { client, vip, json } => {
            show(&places, &Request::Explain { client, vip }, json, explain::text).map(Said::from)
        }
        Command::Events { follow, limit, json } => {
            events::events(&places, follow, limit, json, &mut io::stdout()).map(Said::from)
        }
        Command::Detach { json } => detach::detach(&places, json).map(Said::from),
    };
    match result {
        Ok(Said { text, code }) => print(&text, code),
        Err(refusal) => {
            write(&mut io::stderr(), &format!("tidegate: {}\n", refusal.text.trim_end()));
            ExitCode::from(refusal.code)
        }
    }
}

impl check::Checked {
    fn tell(&self) -> ExitCode {
        write(&mut io::stderr(), &self.stderr);
        print(&self.stdout, self.code)
    }
}

/// Prints an answer, and ends with this code. Whoever reads us may go away; but a file that lacks half of the answer is
/// no success.
fn print(text: &str, code: u8) -> ExitCode {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            write(&mut io::stderr(), &format!("tidegate: cannot write the answer: {error}\n"));
            ExitCode::from(FAILED)
        }
        _ => ExitCode::from(code),
    }
}

/// What goes to standard output, and the exit code.
#[derive(Debug)]
struct Said {
    text: String,
    code: u8,
}

impl From<String> for Said {
    fn from(text: String) -> Self {
        Self { text, code: 0 }
    }
}

/// Asks one question, and shows the answer to a person or a program.
fn show<T: DeserializeOwned>(
    places: &Places,
    request: &Request,
    json: bool,
    text: fn(&T) -> String,
) -> Result<String, Refusal> {
    let document = places.ask(request)?;
    if json { Ok(format!("{document}\n")) } else { Ok(text(&read(document)?)) }
}

fn read<T: DeserializeOwned>(document: Value) -> Result<T, Refusal> {
    serde_json::from_value(document).map_err(|error| Refusal {
        text: format!("the running balancer is of another version, use --json: {error}"),
        code: FAILED,
    })
}

/// Whoever reads us may go away, and that is no failure.
fn write(out: &mut dyn Write, text: &str) {
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

impl Places {
    /// The file.
    pub fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(CONFIG))
    }

    /// Asks the running balancer.
    fn ask(&self, request: &Request) -> Result<Value, Refusal> {
        self.reach(|socket| client::ask(socket, request))
    }

    /// Finds the running balancer by the socket of the flag, of the file, else the default.
    fn reach<T>(&self, call: impl FnOnce(&Path) -> Result<T, Refusal>) -> Result<T, Refusal> {
        if let Some(socket) = &self.socket {
            return call(socket);
        }
        let file = self.config();
        match config::read(file) {
            Ok((model, _)) => call(model.socket.as_deref().unwrap_or(Path::new(SOCKET))),
            Err(_) => call(Path::new(SOCKET)).map_err(|refusal| match refusal.code {
                // The file that an operator is about to mend is the one that would say where to ask.
                NOBODY if file.exists() => Refusal {
                    text: format!(
                        "{}; {} has faults, so its admin.socket is not known: if it has one, say it by --socket",
                        refusal.text,
                        file.display()
                    ),
                    ..refusal
                },
                _ => refusal,
            }),
        }
    }
}
