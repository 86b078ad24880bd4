//! `cargo xtask bench`: net nanoseconds per packet beside the floor.

use anyhow::Result;

use crate::{cargo, root, setup};

/// What to measure and how to say it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Prints one JSON document instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Measures the rows of the design's table that exist.
pub(crate) fn run(options: &Options) -> Result<()> {
    setup::run()?;
    let runner = root::ascent("bench")?.runner();
    let mut arguments = vec!["bench", "--quiet", "--package", "lb-userspace", "--bench", "packets"];
    arguments.extend(runner.iter().map(String::as_str));
    if options.json {
        arguments.extend(["--", "--json"]);
    }
    cargo::run(&arguments)
}
