//! How the controller shows itself: the admin API on a unix socket, HTTP, and the documents that both speak in.
//!
//! A request is one line of JSON, and so is its answer; a connection carries as many as it likes:
//!
//! ```text
//! > {"ask":"backends","service":"web"}
//! < {"ok":{"services":[…]}}
//! > {"ask":"backends","service":"wep"}
//! < {"error":"there is no service wep; there is: web","code":1}
//! ```

use std::{net::Ipv4Addr, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::ends::{Called, Caller};

pub mod client;
mod desk;
pub mod documents;
mod enclosure;
pub mod ends;
mod followers;
pub mod http;
pub mod metrics;
mod pages;
pub mod socket;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The whole.
    Status {},
    /// All services.
    Services {},
    /// The backends of one service or of all.
    Backends {
        /// The service; all where there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// Connections, one by one.
    Flows {
        /// Of this service.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Of this client.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        client: Option<Ipv4Addr>,
        /// Those that have ended or were opened directly to a backend, too.
        #[serde(default)]
        all: bool,
        /// So many at most.
        limit: usize,
    },
    /// Which backend a client has or would get.
    Explain {
        /// The client.
        client: Caller,
        /// What it calls.
        vip: Called,
    },
    /// The last state changes.
    Events {
        /// At most so many.
        #[serde(default = "every")]
        limit: usize,
        /// And those that come, one a line, until either side goes.
        #[serde(default)]
        follow: bool,
    },
    /// What a file would change. Its octets follow the line.
    Diff {
        /// Its name, for faults.
        file: String,
        /// How many octets it has.
        octets: usize,
    },
    /// Read the file now; answered when it is in force.
    Reload {},
    /// Take the packet path away and exit.
    Detach {
        /// The pins that are meant: a controller of others refuses.
        pin_dir: PathBuf,
    },
}

fn every() -> usize {
    usize::MAX
}

/// One line of answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Response {
    /// What was asked for.
    Ok {
        /// The document.
        ok: Value,
    },
    /// Why there is nothing.
    Error {
        /// A sentence for the person who asked.
        error: String,
        /// The exit code of the command that asked.
        code: u8,
    },
}

/// Exit code for a bad, missing or unreadable configuration (`EX_CONFIG` of sysexits(3)).
pub const BAD_CONFIG: u8 = 78;
/// Exit code of a command that failed.
pub const FAILED: u8 = 1;
/// Exit code of a command that has nobody to talk to (`EX_UNAVAILABLE` of sysexits(3)).
pub const NOBODY: u8 = 69;
/// Exit code of a command that is not permitted (`EX_NOPERM`).
pub const NOT_PERMITTED: u8 = 77;
/// Code of an answer from a controller that works on other pins.
pub const ELSEWHERE: u8 = 100;
