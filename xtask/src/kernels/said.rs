//! What a machine said while the tests ran in it.

use std::{collections::VecDeque, fmt};

use anstream::adapter::strip_str;

use crate::cargo::Tally;

/// Stands before the kernel's version.
pub(super) const RELEASE: &str = "tidegate-release ";
/// Stands before the tests' exit code. Without it the kernel, or the machine, did not get so far.
pub(super) const ENDED: &str = "tidegate-ended ";

/// Lines that are kept, to be shown where something failed.
const KEPT: usize = 40;

/// What was understood.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// As Debian counts.
    release: String,
    /// All tests.
    tests: Tally,
    /// How many packet cases were played.
    cases: u64,
    /// How many of them failed.
    failed: u64,
    /// Kernels before 5.16 do not tell.
    verified: Option<u64>,
    /// What the tests ended with.
    code: Option<u64>,
    last: VecDeque<String>,
}

impl Said {
    /// One more line, as it came: firmware resets the terminal, and would reset ours.
    pub(super) fn hear(&mut self, line: &str) {
        let line = &strip_str(line).to_string();
        // A test without a line break of its own stands before what it prints.
        let text = line.rsplit(" ... ").next().unwrap_or(line);
        let number = |word: &str| text.split_once(word)?.0.rsplit(' ').next()?.parse().ok();
        if let Some((_, version)) = line.split_once(RELEASE) {
            self.release = debians(version).to_owned();
        } else if let Some(code) = line.strip_prefix(ENDED) {
            self.code = code.parse().ok();
        } else if let Some(cases) = number(" cases in the kernel") {
            self.cases = cases;
        } else if text.ends_with(" cases failed:") {
            self.failed = text.split(' ').next().and_then(|failed| failed.parse().ok()).unwrap_or(self.cases);
        } else if let Some(verified) = number(" verified instructions of ") {
            self.verified = Some(verified);
        }
        self.tests += Tally::from_line(line);
        if self.last.len() == KEPT {
            self.last.pop_front();
        }
        self.last.push_back(line.to_owned());
    }

    /// Whether every test ran and passed, the cases among them.
    pub(super) fn is_good(&self) -> bool {
        self.code == Some(0) && self.tests.failed == 0 && self.tests.passed > 0 && self.cases > 0
    }

    /// One word, or a few.
    pub(super) fn verdict(&self) -> &'static str {
        match self.code {
            _ if self.is_good() => "passed",
            Some(_) => "FAILED",
            None => "FAILED before the tests ended",
        }
    }

    /// The last lines.
    pub(super) fn end(&self) -> String {
        self.last.iter().map(|line| format!("    {line}\n")).collect()
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { passed, failed } = self.tests;
        let of = |passed: u64, all: u64| format!("{passed}/{all}");
        let release = if self.release.is_empty() { "did not boot" } else { &self.release };
        let verified = self.verified.map_or("not told".to_owned(), |verified| verified.to_string());
        let (tests, cases) = (of(passed, passed + failed), of(self.cases.saturating_sub(self.failed), self.cases));
        write!(f, "{release:<16} {tests:<10} {cases:<10} {verified}")
    }
}

/// `6.1.176-1` of `#1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-06-19)`.
fn debians(version: &str) -> &str {
    let after = version.split_once("Debian ").map_or(version, |(_, after)| after);
    after.split(' ').next().unwrap_or(after)
}

#[cfg(test)]
mod tests {
    use super::Said;

    fn heard(text: &str) -> Said {
        let mut said = Said::default();
        text.lines().for_each(|line| said.hear(line));
        said
    }

    #[test]
    fn a_good_run_is_understood() {
        let said = heard(
            "\u{1b}[?7l\u{1b}[2Jtidegate-release #1 SMP PREEMPT_DYNAMIC Debian 6.1.176-1 (2026-06-19)\n\
             test every_case_ends_in_the_kernel_as_on_the_host ... 153 cases in the kernel\nok\n\
             test the_program_stays_in_the_verifiers_budget ... 98527 verified instructions of 128000\nok\n\
             test result: ok. 4 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 96.21s\n\
             tidegate-ended 0",
        );
        assert!(said.is_good());
        assert_eq!(said.to_string(), "6.1.176-1        4/4        153/153    98527");
    }

    #[test]
    fn failures_are_counted() {
        let said = heard(
            "tidegate-release Debian 5.10.262-1\ntest every_case ... 153 cases in the kernel\n2 of 153 cases failed:\n\
             test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.21s\n\
             tidegate-ended 101",
        );
        assert!(!said.is_good());
        assert_eq!(said.verdict(), "FAILED");
        assert_eq!(said.to_string(), "5.10.262-1       3/4        151/153    not told");
    }

    #[test]
    fn what_does_not_end_has_failed() {
        let said =
            heard("tidegate-release Debian 6.12.107-1\ntest every_case ... 153 cases in the kernel\nKernel panic");
        assert_eq!((said.is_good(), said.verdict()), (false, "FAILED before the tests ended"));
        assert!(said.end().ends_with("    Kernel panic\n"));
        assert_eq!(heard("\u{1b}c\u{1b}[?7l\u{1b}[2Jbooting").end(), "    booting\n", "the terminal is left alone");
        assert_eq!(heard("SeaBIOS").to_string(), "did not boot     0/0        0/0        not told");
        assert!(!heard("tidegate-ended 0").is_good(), "no test ran");
    }
}
