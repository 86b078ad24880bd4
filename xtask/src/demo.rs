//! `cargo xtask demo`.
use anyhow::{Result, bail};

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Options {}

pub(crate) fn run(_: &Options) -> Result<()> {
    bail!("not yet")
}
