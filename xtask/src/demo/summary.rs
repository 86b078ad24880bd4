//! What was promised, what was seen, and whether both agree.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
};

use anyhow::{Context as _, Result, bail};

/// The promises so far.
#[derive(Default)]
pub(super) struct Summary(Vec<Promise>);

struct Promise {
    what: &'static str,
    seen: String,
    kept: bool,
}

impl Summary {
    /// Writes a promise down, and says at once how it went.
    pub(super) fn add(&mut self, what: &'static str, kept: bool, seen: String) {
        eprintln!("   {} {seen}", if kept { "ok:" } else { "BROKEN:" });
        self.0.push(Promise { what, seen, kept });
    }

    /// Prints all, and fails if one was not kept.
    pub(super) fn close(&self) -> Result<()> {
        let mut table = String::from("\nSummary\n");
        for Promise { what, seen, kept } in &self.0 {
            // Only the first line: a long report stands above.
            let (mark, seen) = (if *kept { "kept  " } else { "BROKEN" }, seen.lines().next().unwrap_or_default());
            let _ = writeln!(table, "  {mark}  {what}\n            {seen}");
        }
        io::stdout().write_all(table.as_bytes()).context("cannot print the summary")?;
        let broken: Vec<_> = self.0.iter().filter(|promise| !promise.kept).map(|promise| promise.what).collect();
        if !broken.is_empty() {
            bail!("not kept: {}", broken.join("; "));
        }
        Ok(())
    }
}
