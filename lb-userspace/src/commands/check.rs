//! `check FILE`: every fault of a file at once, without touching anything.

use std::path::Path;

use serde_json::json;

use crate::{
    config::{self, Fault, Faults, Warning},
    model::Model,
    observe::BAD_CONFIG,
};

/// What to print and how to exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// For standard output.
    pub stdout: String,
    /// For standard error.
    pub stderr: String,
    /// The exit code.
    pub code: u8,
}

/// Checks the file at `path`. With `json`, standard output is one JSON document.
pub fn check(path: &Path, json: bool) -> Checked {
    told(path, &config::read(path), json)
}

/// What is to be said of a file that was read.
pub(super) fn told(path: &Path, result: &Result<(Model, Vec<Warning>), Faults>, json: bool) -> Checked {
    let code = if result.is_ok() { 0 } else { BAD_CONFIG };
    if json {
        Checked { stdout: document(path, result), stderr: String::new(), code }
    } else {
        text(path, result, code)
    }
}

/// What a person reads.
fn text(path: &Path, result: &Result<(Model, Vec<Warning>), Faults>, code: u8) -> Checked {
    let mut stdout = String::new();
    let mut stderr = String::new();
    let file = path.display();
    match result {
        Ok((model, warnings)) => {
            stderr.extend(warnings.iter().map(|warning| format!("{warning}\n")));
            let services = counted(model.services.len(), "service");
            let backends = counted(model.services.values().map(|service| service.backends.len()).sum(), "backend");
            stdout = format!("{file}: ok: {services}, {backends}\n");
        }
        Err(faults) => {
            stderr.extend(faults.warnings.iter().map(|warning| format!("{warning}\n")));
            stderr.push_str(&format!("{faults}\n{file}: {}", counted(faults.count(), "fault")));
            if !faults.warnings.is_empty() {
                stderr.push_str(&format!(", {}", counted(faults.warnings.len(), "warning")));
            }
            stderr.push('\n');
        }
    }
    Checked { stdout, stderr, code }
}

/// What a program reads.
fn document(path: &Path, result: &Result<(Model, Vec<Warning>), Faults>) -> String {
    let none: &[Fault] = &[];
    let (faults, warnings): (&[Fault], &[Warning]) = match result {
        Ok((_, warnings)) => (none, warnings),
        Err(faults) => (&faults.faults, &faults.warnings),
    };
    let document = json!({
        "file": path.display().to_string(),
        "ok": result.is_ok(),
        "faults": faults,
        "warnings": warnings,
    });
    format!("{document}\n")
}

/// `1 backend`, `2 backends`.
fn counted(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
