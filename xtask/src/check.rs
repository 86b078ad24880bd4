//! `cargo xtask check`: everything that needs no root, before each commit.

use anyhow::Result;

use crate::{
    cargo::{self, Filter, Tally},
    kernel, network, setup,
};

/// Format, lints, then the tests of the host.
pub(crate) fn run(filter: &Filter) -> Result<Tally> {
    setup::run()?;
    eprintln!("check: format");
    cargo::run(&["fmt", "--all", "--check"])?;
    eprintln!("check: lints");
    cargo::run(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    eprintln!("check: tests without root");
    // Those that need root would fail here, as they should.
    let mut targets = cargo::test_targets()?;
    targets.retain(|name| !kernel::TARGETS.iter().chain(&network::TARGETS).any(|target| target == name));
    let mut arguments = vec!["--workspace", "--lib", "--bins"];
    for target in &targets {
        arguments.extend(["--test", target]);
    }
    let mut tally = cargo::test(&arguments, filter)?;
    tally += cargo::test(&["--workspace", "--doc"], filter)?;
    Ok(tally)
}
