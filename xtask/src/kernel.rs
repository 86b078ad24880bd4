//! `cargo xtask kernel`: the packet cases in this machine's kernel, as root.

use anyhow::Result;

use crate::{
    cargo::{Filter, Tally},
    floor::{self, Floor},
    setup,
};

/// Builds as the user, runs the tests as root.
pub(crate) fn run(filter: &Filter) -> Result<Tally> {
    setup::run()?;
    floor::test_as_root("kernel", Floor::Kernel, filter)
}
