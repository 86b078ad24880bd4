//! `cargo xtask check`: everything that needs no root, before each commit.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    cargo::{self, Filter, Tally, cargo},
    kernel, network, setup,
};

/// Format, lints, then the tests of the host.
pub(crate) fn run(filter: &Filter) -> Result<Tally> {
    setup::run()?;
    eprintln!("check: format");
    cargo::run(&["fmt", "--all", "--check"])?;
    eprintln!("check: lints");
    cargo::run(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"])?;
    eprintln!("check: tests without root");
    let targets = host_tests()?;
    let mut arguments = vec!["--workspace", "--lib", "--bins"];
    for target in &targets {
        arguments.extend(["--test", target]);
    }
    let mut tally = cargo::test(&arguments, filter)?;
    tally += cargo::test(&["--workspace", "--doc"], filter)?;
    Ok(tally)
}

/// Every test target but those that need root: they would fail here, as they should.
fn host_tests() -> Result<Vec<String>> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output().context("cannot start cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` says")?;
    let targets =
        metadata["packages"].as_array().into_iter().flatten().flat_map(|package| package["targets"].as_array());
    let mut names: Vec<String> = targets
        .flatten()
        .filter(|target| target["kind"][0] == "test")
        .filter_map(|target| target["name"].as_str())
        .filter(|name| ![kernel::TARGET, network::TARGET].contains(name))
        .map(ToOwned::to_owned)
        .collect();
    names.sort();
    names.dedup();
    Ok(names)
}
