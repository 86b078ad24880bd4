//! `cargo xtask test`: all that CI calls. It ends with the line `N passed, N failed`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Instant,
};

use anyhow::Result;

use crate::{
    cargo::{Filter, Tally},
    check, kernel, network, setup,
};

type Part = (&'static str, fn() -> Result<Tally>);

/// The parts, in order. Where one fails the others still run, so that one run shows all that is wrong.
const PARTS: [Part; 4] = [
    ("setup", || setup::run().map(|()| Tally::default())),
    ("check", || check::run(&Filter::default())),
    ("kernel", || kernel::run(&Filter::default())),
    ("network", || network::run(&Filter::default())),
];

/// Runs every part, counts, and fails if anything did.
pub(crate) fn run() -> ExitCode {
    let (started, mut total, mut summary) = (Instant::now(), Tally::default(), Vec::new());
    for (number, (name, part)) in (1..).zip(PARTS) {
        eprintln!("\n=== {name} ({number} of {})", PARTS.len());
        let began = Instant::now();
        let (mut tally, fault) = match part() {
            Ok(tally) => (tally, None),
            Err(error) => (Tally::default(), Some(error)),
        };
        if let Some(error) = &fault {
            eprintln!("error: {error:#}");
            // A part that could not run at all must not look like nothing.
            tally.failed += 1;
        }
        let Tally { passed, failed } = tally;
        let line = format!("{name}: {passed} passed, {failed} failed, {:.1?}", began.elapsed());
        eprintln!("=== {line}");
        let reason = fault.as_ref().map(|error| format!(" ({error:#})")).unwrap_or_default();
        summary.push(format!("{line}{reason}"));
        total += tally;
        if name == "setup" && fault.is_some() {
            break;
        }
    }
    eprintln!("\n{}\nall in {:.1?}", summary.join("\n"), started.elapsed());
    let Tally { passed, failed } = total;
    let said = writeln!(io::stdout(), "{passed} passed, {failed} failed");
    if failed == 0 && said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
