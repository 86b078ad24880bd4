//! bpf-linker, built against the LLVM library that rustc itself brings.
//!
//! The linker must have exactly rustc's LLVM, which no distribution has just then; rustc's own
//! `libLLVM.so` serves. It stands in a directory named after both versions, where the build script of
//! `lb-userspace` looks. What is half-done when we are interrupted is done again by the next run.

use std::{
    fs::{self, File},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::setup::{self, TOOLCHAIN};

const VERSION: &str = "0.13.0";

/// Builds it if it is not there.
pub(crate) fn ensure(sysroot: &Path) -> Result<()> {
    let home = home()?;
    if works(&home) {
        return Ok(());
    }
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    let lock = File::create(home.join("lock")).with_context(|| format!("cannot write in {}", home.display()))?;
    // Two commands at once: the second waits, and then finds it done.
    let _alone = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).context("cannot lock")?;
    if works(&home) {
        return Ok(());
    }
    let feature = library(sysroot, &home)?;
    if works(&home) {
        // It was there, and only its library had moved.
        return Ok(());
    }
    build(&home, &feature)?;
    if !works(&home) {
        bail!(
            "bpf-linker was built in {} but does not start; remove that directory and run this again",
            home.display()
        );
    }
    Ok(())
}

/// The directory that the build script looks into.
fn home() -> Result<PathBuf> {
    Ok(setup::cache()?.join(format!("bpf-linker-{VERSION}-rust-{TOOLCHAIN}")))
}

/// Whether the linker is there and starts, so its library is there too.
fn works(home: &Path) -> bool {
    let said = Command::new(home.join("bin/bpf-linker")).arg("--version").output();
    said.is_ok_and(|said| said.status.success() && String::from_utf8_lossy(&said.stdout).contains(VERSION))
}

/// Makes `lib/` point to rustc's LLVM library, and says which feature of bpf-linker fits it.
fn library(sysroot: &Path, home: &Path) -> Result<String> {
    let directory = sysroot.join("lib");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    // Beside it may stand a file of one line for the linker, named `libLLVM-22-….so`.
    let Some((name, version)) = names.into_iter().find_map(|name| {
        let major: String = name.strip_prefix("libLLVM.so.")?.chars().take_while(char::is_ascii_digit).collect();
        (!major.is_empty()).then_some((name, major))
    }) else {
        bail!(
            "{} has no libLLVM.so: this toolchain has LLVM inside rustc, so bpf-linker cannot use it; Tidegate is built \
             on x86-64 and ARM64 Linux with glibc",
            directory.display()
        );
    };
    let lib = home.join("lib");
    fs::create_dir_all(&lib).with_context(|| format!("cannot make {}", lib.display()))?;
    for link in ["libLLVM.so", &name] {
        let link = lib.join(link);
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link).with_context(|| format!("cannot replace {}", link.display()))?;
        }
        symlink(directory.join(&name), &link).with_context(|| format!("cannot make {}", link.display()))?;
    }
    Ok(format!("llvm-{version}"))
}

/// Builds and installs it. The build directory stays when we are interrupted, so the next run goes on.
fn build(home: &Path, feature: &str) -> Result<()> {
    let (began, work) = (Instant::now(), home.join("build"));
    eprintln!("setup: building bpf-linker {VERSION} against rustc's own LLVM; once, a minute or two");
    let mut cargo = Command::new("rustup");
    cargo.args(["run", TOOLCHAIN, "cargo", "install", &format!("bpf-linker@{VERSION}")]);
    cargo.args(["--locked", "--force", "--no-default-features", "--features", feature]).arg("--root").arg(home);
    // Outside the workspace, and without what the outer cargo or the user's flags would change.
    cargo.current_dir(home).env("CARGO_TARGET_DIR", &work).env("LLVM_PREFIX", home);
    for name in
        ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET", "RUSTC_BOOTSTRAP", "RUSTC", "RUSTC_WRAPPER"]
    {
        cargo.env_remove(name);
    }
    if !cargo.status().context("cannot start rustup")?.success() {
        bail!(
            "bpf-linker could not be built; the lines above say why. It needs the network once, for its source: run \
             this again when there is one"
        );
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    eprintln!("setup: bpf-linker is in {} after {:.0?}", home.display(), began.elapsed());
    Ok(())
}
