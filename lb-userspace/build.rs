//! Builds the packet path for the kernel and puts its object where the binary embeds it.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain, build_ebpf};

/// The toolchain of `rust-toolchain.toml`, which the object is built with too.
const TOOLCHAIN: &str = "1.95.0";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=../lb-common/src");
    println!("cargo:rerun-if-changed=../rust-toolchain.toml");
    println!("cargo:rerun-if-env-changed=PATH");
    let path = env::join_paths(
        linker_directory().into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    // SAFETY: a build script of one thread.
    unsafe {
        env::set_var("RUSTC_BOOTSTRAP", "1");
        env::set_var("PATH", path);
    }
    let root_dir = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../lb-ebpf").display().to_string();
    build_ebpf([Package { name: "lb-ebpf", root_dir: &root_dir, ..Package::default() }], Toolchain::Custom(TOOLCHAIN))
        .context("cannot build the BPF object; `cargo xtask setup` gets what it needs")
}

/// Where `cargo xtask setup` puts bpf-linker, so that plain `cargo build` finds it too.
fn linker_directory() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(cache.join(format!("tidegate/bpf-linker-0.13.0-rust-{TOOLCHAIN}/bin")))
}
