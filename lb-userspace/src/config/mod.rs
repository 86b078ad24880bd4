//! From the file as typed to the model as meant, or to everything that is wrong with it.
//!
//! A file walks through here in this order: `yaml` makes it a `tree` of values that know where they
//! stand; `fields` takes maps apart by the `keys` that they may have; `node`, `service`, `health`,
//! `policy` and `access` read them with `scalar`, `duration` and `address`; `whole` sees what only all services together
//! show. All of them note what is wrong in the `report` and go on, so that every `fault` is found
//! at once. Nothing here looks at the machine: a file is good or bad wherever it is read.

mod access;
mod address;
mod duration;
#[cfg(test)]
mod example;
mod excerpt;
mod fault;
mod fields;
mod health;
mod keys;
mod node;
mod policy;
mod report;
mod scalar;
mod service;
mod tree;
mod whole;
mod yaml;

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

pub use fault::{Fault, Faults, Warning};

use self::{excerpt::Excerpt, fields::Fields, keys::Room, report::Report, report::Value, service::Settings};
use crate::model::Model;

/// Octets that a file may have. The largest that fits the other limits has about two million.
pub const MAX_FILE: usize = 16 << 20;

const SMALLEST: &str = "the smallest file has `version: 1` and `services`, with `listen` and `backends` in each";

/// Reads the file at `path`, which is one that can be read again; warnings go to the log.
pub fn load(path: &Path) -> Result<Model, Faults> {
    let octets = octets(path, Kind::File).map_err(|fault| of_file(path, fault))?;
    let (model, warnings) = parse_octets(&octets, &path.display().to_string())?;
    for warning in warnings {
        log::warn!("{warning}");
    }
    Ok(model)
}

/// Reads the file at `path`, or whatever a pipe there says.
pub fn read(path: &Path) -> Result<(Model, Vec<Warning>), Faults> {
    parse_octets(&take(path)?, &path.display().to_string())
}

/// The octets of the file at `path`, or of whatever a pipe there says.
pub fn take(path: &Path) -> Result<Vec<u8>, Faults> {
    octets(path, Kind::Any).map_err(|fault| of_file(path, fault))
}

/// What the file at `path` contains, to know it again; nothing where [`load`] cannot read it.
pub fn contents(path: &Path) -> Option<Vec<u8>> {
    octets(path, Kind::File).ok()
}

fn of_file(path: &Path, (message, help): (String, &'static str)) -> Faults {
    Faults::one(Fault::of_file(&path.display().to_string(), message, help))
}

/// What may be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Pipes too: who reads them waits for whoever writes.
    Any,
    /// Regular files only: a controller never waits, and reads more than once.
    File,
}

/// Reads the octets of a file, which need not be text.
pub fn parse_octets(octets: &[u8], file: &str) -> Result<(Model, Vec<Warning>), Faults> {
    if octets.len() > MAX_FILE {
        let (message, help) = too_large();
        return Err(Faults::one(Fault::of_file(file, message, help)));
    }
    match std::str::from_utf8(octets) {
        Ok(text) => parse(text, file),
        Err(error) => Err(Faults::one(not_text(octets, error.valid_up_to(), file))),
    }
}

/// Reads a text; faults name `file`.
pub fn parse(text: &str, file: &str) -> Result<(Model, Vec<Warning>), Faults> {
    // A byte order mark is no part of the first line, neither for YAML nor for its columns.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let at_start = |message: &str| Fault { line: Some(1), column: Some(1), ..Fault::of_file(file, message, SMALLEST) };
    let mut report = Report::default();
    let model = match yaml::read(text) {
        Ok(Some(tree)) => file_keys(&mut report, &Value::root(&tree)),
        Ok(None) if text.trim().is_empty() => return Err(Faults::one(at_start("the file is empty"))),
        Ok(None) => return Err(Faults::one(at_start("the file has no keys"))),
        Err(broken) => {
            let place = report::Place { span: broken.span, mark: broken.span.range(), path: String::new() };
            report.fault(place, broken.complaint.message, broken.complaint.help);
            None
        }
    };
    let clean = report.is_clean();
    let (faults, hidden, warnings) = report.finish(file, text);
    match model {
        Some(model) if clean => Ok((model, warnings)),
        _ => Err(Faults { faults, warnings, hidden }),
    }
}

/// The outermost keys, in the order in which people write them.
fn file_keys(report: &mut Report, root: &Value<'_>) -> Option<Model> {
    let mut fields = Fields::read(report, root, Room::File)?;
    let version = fields.required(report, "version", "write `version: 1` at the top");
    if let Some(version) = version
        && let Some(number) = report.number(&version, "a version", 0..=u32::MAX)
        && number != 1
    {
        report.fault(
            version.place(),
            format!("version {number} of the file is unknown here"),
            "this release reads version 1",
        );
    }
    let node = node::node(report, fields.take("node").as_ref());
    let (log_level, log_connections) = node::log(report, fields.take("log").as_ref());
    let (socket, http) = node::admin(report, fields.take("admin").as_ref());
    let defaults = Settings::defaults(report, fields.take("defaults").as_ref());
    let services = fields.required(report, "services", SMALLEST)?;
    let drafts = service::services(report, &services, &defaults);
    let services = whole::services(report, drafts, &services.key_place());
    Some(Model { node, log_level, log_connections, socket, http, services })
}

/// What the file contains, or why that is not known.
fn octets(path: &Path, kind: Kind) -> Result<Vec<u8>, (String, &'static str)> {
    let unreadable = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => ("there is no such file".to_owned(), "check the path; `--config` names another one"),
        io::ErrorKind::PermissionDenied => {
            ("not readable: permission denied".to_owned(), "make it readable for this user")
        }
        _ => (format!("not readable: {error}"), "check the path and what it leads to"),
    };
    // Without NONBLOCK the opening of a pipe waits already.
    let flags = if kind == Kind::File { libc::O_NONBLOCK } else { 0 };
    let file = File::options().read(true).custom_flags(flags).open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(("this is a directory".to_owned(), "name the file in it"));
    }
    if kind == Kind::File && !metadata.is_file() {
        return Err(("this is no regular file".to_owned(), "it is read again whenever it changes: make it a file"));
    }
    let mut octets = Vec::new();
    // One octet more than allowed: the size that the system reports is none for pipes and /proc.
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut octets).map_err(unreadable)?;
    if octets.len() > MAX_FILE { Err(too_large()) } else { Ok(octets) }
}

fn too_large() -> (String, &'static str) {
    (format!("larger than {} MiB", MAX_FILE >> 20), "no configuration within the other limits is so large")
}

/// The octet at `at` belongs to no UTF-8 character.
fn not_text(octets: &[u8], at: usize, file: &str) -> Fault {
    let before = String::from_utf8_lossy(&octets[..at]);
    let line_start = before.rfind(['\n', '\r']).map_or(0, |at| at + 1);
    let shown = String::from_utf8_lossy(&octets[..octets.len().min(at + 256)]);
    let utf16 = octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]);
    let help = if utf16 { "it looks like UTF-16: save it as UTF-8" } else { "save the file as UTF-8" };
    Fault {
        line: Some(before.matches('\n').count() + 1),
        column: Some(before[line_start..].chars().count() + 1),
        excerpt: Some(Excerpt::new(&shown, at..at + char::REPLACEMENT_CHARACTER.len_utf8())),
        ..Fault::of_file(file, format!("not UTF-8: the octet 0x{:02x} is no part of a character", octets[at]), help)
    }
}
