//! `cargo xtask check`: everything that needs no root, before each commit.

use anyhow::Result;

use crate::{
    cargo::{self, Filter, Tally},
    floor::{self, Floor},
    setup,
};

/// Format, lints, then the tests of the host.
pub(crate) fn run(filter: &Filter) -> Result<Tally> {
    setup::run()?;
    eprintln!("check: format");
    cargo::run(&["fmt", "--all", "--check"])?;
    eprintln!("check: lints");
    cargo::run(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    eprintln!("check: tests without root");
    let targets = floor::targets(Floor::Host)?;
    let mut arguments = vec!["--workspace", "--lib", "--bins"];
    for target in &targets {
        arguments.extend(["--test", target]);
    }
    let mut tally = cargo::test(&arguments, filter)?;
    tally += cargo::test(&["--workspace", "--doc"], filter)?;
    Ok(tally)
}
