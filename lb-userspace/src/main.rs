//! The binary `tidegate`.

use std::process::ExitCode;

use clap::Parser as _;
use lb_userspace::{cli::Cli, commands};

fn main() -> ExitCode {
    commands::execute(Cli::parse())
}
