//! `cargo xtask network`: real TCP through the real binary in network namespaces, as root.

use anyhow::Result;

use crate::{
    cargo::{Filter, Tally},
    floor::{self, Floor},
    setup,
};

/// Builds as the user, runs the tests as root: those of the test kit, on which the others stand, included.
pub(crate) fn run(filter: &Filter) -> Result<Tally> {
    setup::run()?;
    floor::test_as_root("network", Floor::Network, filter)
}
