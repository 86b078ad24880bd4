//! Running cargo in the workspace, and counting what its tests say.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    ops::AddAssign,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// Which tests to run, and how.
#[derive(clap::Args, Default)]
pub(crate) struct Filter {
    /// Goes to the test binaries: a part of a test's name, `--nocapture`, …
    #[arg(last = true)]
    pub(crate) arguments: Vec<String>,
}

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

/// The workspace's directory.
pub(crate) fn workspace() -> PathBuf {
    // Known at compile time: xtask is built where it is used.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// The cargo that started us, in the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).args(arguments);
    command
}

/// Runs cargo, its output unchanged.
pub(crate) fn run(arguments: &[&str]) -> Result<()> {
    let status = cargo(arguments).status().context("cannot start cargo")?;
    if !status.success() {
        bail!("`cargo {}` failed; the lines above say why", arguments.join(" "));
    }
    Ok(())
}

/// Runs `cargo test`, shows its output and counts its results.
pub(crate) fn test(arguments: &[&str], filter: &Filter) -> Result<Tally> {
    let mut command = cargo(&["test", "--no-fail-fast"]);
    command.args(arguments).arg("--").args(&filter.arguments).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let mut tally = Tally::default();
    for line in BufReader::new(child.stdout.take().context("cargo has no output")?).lines() {
        let line = line.context("cannot read what the tests say")?;
        tally += Tally::from_line(&line);
        writeln!(io::stdout(), "{line}").context("cannot show what the tests say")?;
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // They did not build, or a test binary died: nobody said `failed`.
        bail!("`cargo test {}` ended with {status}; the lines above say why", arguments.join(" "));
    }
    Ok(tally)
}

impl Tally {
    /// What `test result: ok. 9 passed; 0 failed; …` says; zeros for every other line.
    pub(crate) fn from_line(line: &str) -> Self {
        let count = |word: &str| {
            let results = line.strip_prefix("test result: ")?;
            let before = results.split(word).next().filter(|before| before.len() < results.len())?;
            before.rsplit([' ', ';']).next()?.parse().ok()
        };
        Self { passed: count(" passed").unwrap_or(0), failed: count(" failed").unwrap_or(0) }
    }

    /// An error if a test failed.
    pub(crate) fn into_result(self) -> Result<()> {
        match self.failed {
            0 => Ok(()),
            1 => bail!("one test failed"),
            failed => bail!("{failed} tests failed"),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn results_are_read_from_their_lines() {
        let line = "test result: FAILED. 12 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s";
        assert_eq!(Tally::from_line(line), Tally { passed: 12, failed: 3 });
        assert_eq!(Tally::from_line("test result_is_read ... ok"), Tally::default());
        assert_eq!(Tally::from_line("5 passed; 5 failed"), Tally::default());
    }
}
