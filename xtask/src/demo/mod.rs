//! `cargo xtask demo`: the real balancer between a client and its backends, and whether it keeps its promises.
//!
//! Everything happens in network namespaces without names, so Ctrl-C or a failure leaves nothing behind.

mod announced;
mod config;
mod story;
mod summary;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    cargo::cargo,
    root::{self, Ascent},
    setup,
};

/// How to run it.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Runs this binary instead of building the release one. The demo calls itself so, as root.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
}

/// Builds as the user, then plays the story as root.
pub(crate) fn run(options: &Options) -> Result<()> {
    let program = match &options.program {
        Some(program) => program.canonicalize().with_context(|| format!("there is no {}", program.display()))?,
        None => {
            setup::run()?;
            eprintln!("demo: building the release binary");
            build()?
        }
    };
    match root::ascent("demo")? {
        Ascent::Already => story::play(&program),
        Ascent::Sudo(sudo) => again_as_root(&sudo, &program),
    }
}

/// The release binary, as cargo names it: its target directory may be anywhere.
fn build() -> Result<PathBuf> {
    let arguments = ["build", "--release", "--package", "lb-userspace", "--bin", "tidegate"];
    let mut build = cargo(&arguments);
    build.args(["--message-format", "json-render-diagnostics"]).stderr(std::process::Stdio::inherit());
    let output = build.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the release binary could not be built; the lines above say why");
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let executables = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    executables
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .find(|path| path.file_name().is_some_and(|name| name == "tidegate"))
        .context("cargo built no binary named tidegate")
}

fn again_as_root(sudo: &Path, program: &Path) -> Result<()> {
    let ours = std::env::current_exe().context("cannot find this program again")?;
    let status = Command::new(sudo).arg(ours).arg("demo").arg("--program").arg(program).status()?;
    if !status.success() {
        bail!("the demo as root ended with {status}");
    }
    Ok(())
}
