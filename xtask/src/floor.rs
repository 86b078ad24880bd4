//! On which floor a test runs: on the host, in the kernel, or in network namespaces.
//!
//! A test file that needs root says `Needs root.` in its `//!` head. Without root such a test fails, it
//! never skips, so `check` must leave it out; who forgets the words sees it fail there.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    cargo::{self, Filter, Tally, cargo},
    root,
};

/// Where tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    /// Anywhere.
    Host,
    /// As root, against this machine's kernel: `cargo xtask kernel`.
    Kernel,
    /// As root, over wires between namespaces: `cargo xtask network`.
    Network,
}

/// The names of the test targets of all packages that run on this floor.
pub(crate) fn targets(floor: Floor) -> Result<Vec<String>> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output().context("cannot start cargo")?;
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cannot read what `cargo metadata` says")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let targets = packages.filter_map(|package| package["targets"].as_array()).flatten();
    let mut floors = BTreeMap::new();
    for target in targets.filter(|target| target["kind"][0] == "test") {
        let (name, path) = (&target["name"], &target["src_path"]);
        let (name, path) = name.as_str().zip(path.as_str()).context("`cargo metadata` names a test without a path")?;
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        floors.insert(name.to_owned(), of(name, &text));
    }
    Ok(floors.into_iter().filter(|(_, its)| *its == floor).map(|(name, _)| name).collect())
}

/// Builds the tests of a floor as the user and runs them as root, for `cargo xtask NAME`.
pub(crate) fn test_as_root(name: &str, floor: Floor, filter: &Filter) -> Result<Tally> {
    let targets = targets(floor)?;
    if targets.is_empty() {
        bail!("no package has a test for `cargo xtask {name}`");
    }
    let runner = root::ascent(name)?.runner();
    // The whole workspace, as in `check`: with other features everything would be built again.
    let mut arguments = vec!["--workspace"];
    arguments.extend(runner.iter().map(String::as_str));
    for target in &targets {
        arguments.extend(["--test", target]);
    }
    cargo::test(&arguments, filter)
}

fn of(name: &str, text: &str) -> Floor {
    let mut head = text.lines().take_while(|line| line.starts_with("//!"));
    match name {
        "netlink" => Floor::Network,
        _ if name.starts_with("network") => Floor::Network,
        "kernel" => Floor::Kernel,
        _ if head.any(|line| line.contains("Needs root.")) => Floor::Kernel,
        _ => Floor::Host,
    }
}

#[cfg(test)]
mod tests {
    use super::{Floor, of};

    #[test]
    fn the_head_says_the_floor() {
        assert_eq!(of("maps", "//! Maps.\n//! Needs root.\n"), Floor::Kernel);
        assert_eq!(of("scripts", "//! Scripts.\n\n/// Needs root.\n"), Floor::Host);
        assert_eq!(of("network", "//! Wires. Needs root.\n"), Floor::Network);
        assert_eq!(of("network_ground", "//! Wires. Needs root.\n"), Floor::Network);
    }
}
