//! `cargo xtask setup`: gets what the build needs, without root and without the distribution's packages.
//!
//! The first run needs the network once; every other only looks, and takes a moment.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::{linker, root};

/// The toolchain of `rust-toolchain.toml`.
pub(crate) const TOOLCHAIN: &str = "1.95.0";

/// Components that the commands use, and a file under the sysroot that shows each is there.
const COMPONENTS: [(&str, &str); 3] = [
    ("rust-src", "lib/rustlib/src/rust/library/core/src/lib.rs"),
    ("rustfmt", "bin/cargo-fmt"),
    ("clippy", "bin/cargo-clippy"),
];

/// Gets what is missing, and says what it could not get and what helps.
pub(crate) fn run() -> Result<()> {
    if root::program("rustup").is_none() {
        bail!("there is no rustup in the PATH: install it (https://rustup.rs), then run this again");
    }
    if root::program("cc").is_none() {
        bail!(
            "there is no C compiler `cc` in the PATH: install gcc or clang from your distribution, then run this again"
        );
    }
    let sysroot = toolchain()?;
    let missing: Vec<_> =
        COMPONENTS.iter().filter(|(_, file)| !sysroot.join(file).exists()).map(|(name, _)| *name).collect();
    if !missing.is_empty() {
        eprintln!("setup: getting {} for Rust {TOOLCHAIN}", missing.join(", "));
        rustup(&[&["component", "add", "--toolchain", TOOLCHAIN], missing.as_slice()].concat())?;
    }
    linker::ensure(&sysroot)
}

/// Where everything is that is got once.
pub(crate) fn cache() -> Result<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))
        .context("neither XDG_CACHE_HOME nor HOME says where to put what the build needs: set one of them")?;
    Ok(cache.join("tidegate"))
}

/// Gets the standard library for another target.
pub(crate) fn target(name: &str) -> Result<()> {
    if !toolchain()?.join("lib/rustlib").join(name).join("lib").is_dir() {
        eprintln!("setup: getting the standard library for {name}");
        rustup(&["target", "add", "--toolchain", TOOLCHAIN, name])?;
    }
    Ok(())
}

/// The pinned toolchain's sysroot; the toolchain is installed if it is not there.
fn toolchain() -> Result<PathBuf> {
    let ask = || -> Result<Option<PathBuf>> {
        let mut rustc = Command::new("rustup");
        // Without this rustup may install it silently, with more than we need.
        rustc.env("RUSTUP_AUTO_INSTALL", "0").args(["run", TOOLCHAIN, "rustc", "--print", "sysroot"]);
        let output = rustc.output().context("cannot start rustup")?;
        let sysroot = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        Ok((output.status.success() && sysroot.is_dir()).then_some(sysroot))
    };
    if let Some(sysroot) = ask()? {
        return Ok(sysroot);
    }
    eprintln!("setup: getting Rust {TOOLCHAIN}");
    rustup(&["toolchain", "install", TOOLCHAIN, "--profile", "minimal", "--no-self-update"])?;
    ask()?.with_context(|| format!("rustup installed {TOOLCHAIN}, but `rustup run {TOOLCHAIN} rustc` does not work"))
}

fn rustup(arguments: &[&str]) -> Result<()> {
    if !Command::new("rustup").args(arguments).status().context("cannot start rustup")?.success() {
        bail!("`rustup {}` failed; the lines above say why. It needs the network once", arguments.join(" "));
    }
    Ok(())
}
