//! `cargo xtask network`: real TCP through the real binary in network namespaces, as root.

use anyhow::Result;

use crate::{
    cargo::{self, Filter, Tally},
    setup,
};

/// The test targets that need root and belong here, in whichever package they are: the balancer between
/// clients and backends, and what it reads from netlink.
pub(crate) const TARGETS: [&str; 2] = ["network", "netlink"];

/// Builds as the user, runs the tests as root: those of the test kit, on which the others stand, included.
pub(crate) fn run(filter: &Filter) -> Result<Tally> {
    setup::run()?;
    cargo::test_as_root("network", &TARGETS, filter)
}
