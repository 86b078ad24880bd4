//! `cargo xtask kernel`: the packet cases in this machine's kernel, as root.

use anyhow::Result;

use crate::{
    cargo::{self, Filter, Tally},
    root, setup,
};

/// The test targets with this name need root, in whichever package they are.
pub(crate) const TARGET: &str = "kernel";

/// Builds as the user, runs the tests as root.
pub(crate) fn run(filter: &Filter) -> Result<Tally> {
    setup::run()?;
    let runner = root::ascent("kernel")?.runner();
    let mut arguments: Vec<&str> = runner.iter().map(String::as_str).collect();
    // The whole workspace, as in `check`: with other features everything would be built again.
    arguments.extend(["--workspace", "--test", TARGET]);
    cargo::test(&arguments, filter)
}
