//! `cargo xtask bench`: net nanoseconds per packet beside the floor.

use anyhow::{Result, bail};

/// What to measure and how to say it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Prints one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures the rows of the design's table that exist.
pub(crate) fn run(options: &Options) -> Result<()> {
    bail!("there is no bench yet (json: {})", options.json)
}
