//! What an operator types, one file a command.
//!
//! A command says what to print and how to exit. Its code is 0 when all is well; 1 when it failed; 2 for a
//! wrong command line (clap's own); 69 when there is no balancer to talk to; 77 when it is not permitted;
//! 78 when the configuration is bad, missing or unreadable, or names no interface.

pub mod backends;
pub mod check;
pub mod detach;
pub mod reload;
pub mod run;
pub mod services;
pub mod status;
mod table;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    cli::{Cli, Command, Places},
    config,
    observe::{FAILED, Request, client, client::Refusal},
};

/// Where the file is when no flag says so.
pub const CONFIG: &str = "/etc/tidegate/tidegate.yaml";
/// Where the socket is when neither a flag nor the file says so.
pub const SOCKET: &str = "/run/tidegate/admin.sock";

/// Does what the command line says.
pub fn execute(cli: Cli) -> ExitCode {
    let Cli { places, command } = cli;
    let result = match command {
        Command::Run(flags) => run::run(&places, &flags),
        Command::Check { file, json } => {
            let checked = check::check(&file, json);
            write(&mut io::stderr(), &checked.stderr);
            write(&mut io::stdout(), &checked.stdout);
            return ExitCode::from(checked.code);
        }
        Command::Reload { json } => reload::reload(&places, json),
        Command::Status { json } => show(&places, &Request::Status {}, json, status::text),
        Command::Services { json } => show(&places, &Request::Services {}, json, services::text),
        Command::Backends { service, json } => show(&places, &Request::Backends { service }, json, backends::text),
        Command::Detach => detach::detach(&places),
    };
    match result {
        Ok(text) => {
            write(&mut io::stdout(), &text);
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            write(&mut io::stderr(), &format!("tidegate: {}\n", refusal.text.trim_end()));
            ExitCode::from(refusal.code)
        }
    }
}

/// Asks one question, and shows the answer to a person or a program.
fn show<T: DeserializeOwned>(
    places: &Places,
    request: &Request,
    json: bool,
    text: fn(&T) -> String,
) -> Result<String, Refusal> {
    let document = client::ask(&places.socket(), request)?;
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

    /// The socket by which a running balancer is found: of the flag, of the file, else the default.
    pub fn socket(&self) -> PathBuf {
        let by_file = || config::read(self.config()).ok().and_then(|(model, _)| model.socket);
        self.socket.clone().or_else(by_file).unwrap_or_else(|| SOCKET.into())
    }
}
