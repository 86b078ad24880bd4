//! Becoming root where that is how the machine works: builds run as the user, only the result as root.

use std::{
    env,
    io::{self, IsTerminal as _},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Result, bail};
use nix::unistd::geteuid;

/// What stands before a program that needs root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ascent {
    /// We are root.
    Already,
    /// `sudo`, at this path.
    Sudo(PathBuf),
}

/// How to become root for `cargo xtask NAME`; an error that names the remedy where there is no way.
/// Asks for the password now, so that it is not asked for in the middle of something.
pub(crate) fn ascent(name: &str) -> Result<Ascent> {
    if geteuid().is_root() {
        return Ok(Ascent::Already);
    }
    let Some(sudo) = program("sudo") else {
        bail!(
            "`cargo xtask {name}` needs root and there is no sudo here: become root (`su`), with rustup and cargo in the \
             PATH, and run `cargo xtask {name}` there"
        );
    };
    let quiet = Command::new(&sudo).args(["-n", "true"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !quiet.is_ok_and(|status| status.success()) {
        if !io::stdin().is_terminal() {
            bail!(
                "`cargo xtask {name}` needs root and sudo cannot ask for a password here: run `sudo -v && cargo xtask \
                 {name}` in a terminal"
            );
        }
        eprintln!("`cargo xtask {name}` needs root for network namespaces and XDP; everything is built without it.");
        if !Command::new(&sudo).arg("-v").status()?.success() {
            bail!("sudo did not make us root");
        }
    }
    Ok(Ascent::Sudo(sudo))
}

impl Ascent {
    /// Arguments for cargo that make it run test binaries as root.
    pub(crate) fn runner(&self) -> Vec<String> {
        match self {
            Self::Already => Vec::new(),
            Self::Sudo(sudo) => {
                vec!["--config".to_owned(), format!("target.'cfg(all())'.runner = ['{}']", sudo.display())]
            }
        }
    }
}

/// Where a program is in the PATH.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}
