//! `cargo xtask kernels`: the packet cases in the kernels of Debian's releases, each in an emulated machine.
//!
//! What verifiers refuse differs from kernel to kernel, and only loading tells. This is no part of `cargo xtask
//! test`: emulation takes minutes for each. It needs no root, installs nothing and leaves only the cache.

mod debian;
mod guest;
mod said;

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use self::{debian::Suite, guest::Tools, said::Said};
use crate::{
    cargo::{cargo, workspace},
    setup,
};

/// Kernels that users have, and the suites of Debian that keep them.
const KERNELS: [(&str, Suite); 3] =
    [("5.10", Suite("bullseye-security")), ("6.1", Suite("bookworm")), ("6.12", Suite("trixie"))];
/// Where the emulator comes from; before 10.0 it crashed some guests.
const TOOLS: Suite = Suite("trixie");
/// Tests are linked statically, so that they run beside any libc and beside none.
const TARGET: &str = "x86_64-unknown-linux-musl";

/// Which kernels, and how new.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Of 5.10, 6.1 and 6.12; all where none is named.
    kernels: Vec<String>,
    /// Asks Debian for newer ones, where some are in the cache.
    #[arg(long)]
    fresh: bool,
}

/// Boots each kernel with the tests as its only program, and prints a table.
pub(crate) fn run(options: &Options) -> Result<()> {
    let kernels = chosen(&options.kernels)?;
    if !cfg!(target_arch = "x86_64") {
        bail!("these kernels are for x86-64, and so must be the tests that are built here: run this on such a machine");
    }
    setup::run()?;
    let cache = setup::cache()?.join("kernels");
    let _alone = alone(&cache)?;
    let tools = Tools::of(&debian::unpacked(&cache.join("tools"), options.fresh, |room| {
        debian::unpack_all(&TOOLS, &["qemu-system-x86", "busybox-static"], room)
    })?);
    let mut images = Vec::new();
    for (version, suite) in kernels {
        let home = debian::unpacked(&cache.join(version), options.fresh, |room| debian::unpack_kernel(&suite, room))?;
        images.push((version, guest::image(&home)?));
    }
    let tests = build()?;
    let logs = workspace().join("target/kernels");
    fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
    let mut rows = Vec::new();
    for (version, image) in images {
        let began = Instant::now();
        eprintln!("kernels: {version}: the tests run in an emulated machine; some minutes");
        let log = logs.join(format!("{version}.log"));
        let said = guest::boot(&tools, &image, &tests, &log).with_context(|| format!("kernel {version}"))?;
        if !said.is_good() {
            eprintln!("{}kernels: {version}: all that it said is in {}", said.end(), log.display());
        }
        eprintln!("kernels: {version}: {} after {:.0?}", said.verdict(), began.elapsed());
        rows.push((version, said));
    }
    writeln!(io::stdout(), "{}", table(&rows))?;
    match rows.iter().filter(|(_, said)| !said.is_good()).count() {
        0 => Ok(()),
        bad => bail!("{bad} of {} kernels failed; what they said is in {}", rows.len(), logs.display()),
    }
}

/// The kernels of these names.
fn chosen(names: &[String]) -> Result<Vec<(&'static str, Suite)>> {
    if let Some(name) = names.iter().find(|name| KERNELS.iter().all(|(version, _)| version != name)) {
        bail!(
            "{name} is not a kernel that is tried here: name some of {}",
            KERNELS.map(|(version, _)| version).join(", ")
        );
    }
    let all = KERNELS.into_iter();
    Ok(all.filter(|(version, _)| names.is_empty() || names.iter().any(|name| name == version)).collect())
}

/// Two commands at once: the second waits until the first is done.
fn alone(cache: &Path) -> Result<Flock<File>> {
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let lock = File::create(cache.join("lock")).with_context(|| format!("cannot write in {}", cache.display()))?;
    Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, error)| error).context("cannot lock the cache of kernels")
}

/// Builds the kernel tests as one static program.
fn build() -> Result<PathBuf> {
    setup::target(TARGET)?;
    eprintln!("kernels: building the tests");
    let mut command = cargo(&["test", "--no-run", "--quiet", "--target", TARGET, "--message-format", "json"]);
    command.args(["--package", "lb-userspace", "--test", "kernel"]).stderr(Stdio::inherit());
    let output = command.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("the tests could not be built for {TARGET}; the lines above say why");
    }
    program(&String::from_utf8_lossy(&output.stdout)).context("cargo built the tests and does not say where they are")
}

/// Where the tests are, of what cargo says; it builds the balancer itself beside them.
fn program(messages: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|message| serde_json::from_str::<Value>(message).ok());
    let mut tests = messages.filter(|message| message["target"]["name"] == "kernel");
    tests.find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
}

/// What is printed at the end.
fn table(rows: &[(&str, Said)]) -> String {
    let mut lines =
        vec![format!("{:<8} {:<16} {:<10} {:<10} verified instructions", "kernel", "Debian's", "tests", "cases")];
    lines.extend(rows.iter().map(|(version, said)| format!("{version:<8} {said}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{chosen, program};

    #[test]
    fn kernels_are_chosen_by_name() {
        let versions = |names: &[&str]| -> Option<Vec<&str>> {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Some(chosen(&names).ok()?.into_iter().map(|(version, _)| version).collect())
        };
        assert_eq!(versions(&[]), Some(vec!["5.10", "6.1", "6.12"]));
        assert_eq!(versions(&["6.12", "5.10"]), Some(vec!["5.10", "6.12"]));
        assert_eq!(versions(&["6.1", "4.19"]), None);
    }

    #[test]
    fn the_tests_are_found_beside_other_programs() {
        let messages = "{\"target\":{\"name\":\"aya\"},\"executable\":null}\n\
                        {\"target\":{\"name\":\"tidegate\"},\"executable\":\"a/tidegate\"}\n\
                        {\"target\":{\"name\":\"kernel\"},\"executable\":\"a/kernel-1\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(program(messages), Some(PathBuf::from("a/kernel-1")));
        assert_eq!(program(""), None);
    }
}
