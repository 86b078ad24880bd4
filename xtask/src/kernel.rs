//! `cargo xtask kernel`: the packet cases in this machine's kernel, as root.

use anyhow::Result;

use crate::{
    cargo::{self, Filter, Tally},
    setup,
};

/// The test targets that need root and belong here, in whichever package they are: packet cases, and the
/// maps and links they stand on.
pub(crate) const TARGETS: [&str; 2] = ["kernel", "datapath"];

/// Builds as the user, runs the tests as root.
pub(crate) fn run(filter: &Filter) -> Result<Tally> {
    setup::run()?;
    cargo::test_as_root("kernel", &TARGETS, filter)
}
