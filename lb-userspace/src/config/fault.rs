//! What is wrong with a file, for the person who can fix it: where, the line, and what to do.

use std::fmt;

use serde::Serialize;

use super::excerpt::Excerpt;

/// One thing that is wrong, or that is allowed and looks like a mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file, as it was named to us.
    #[serde(skip)]
    pub file: String,
    /// The line, from 1; none where the fault is the file itself.
    pub line: Option<usize>,
    /// The column of the value or key in characters, from 1.
    pub column: Option<usize>,
    /// The keys that lead to it, as in `services.web.backends[0].weight`; empty for the whole file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do; empty where the message says it.
    pub help: String,
    /// It is a warning: the file is valid with it.
    #[serde(skip)]
    pub warning: bool,
    /// The line and the part of it that is wrong.
    #[serde(skip)]
    pub(super) excerpt: Option<Excerpt>,
}

/// A fault that leaves the file valid.
pub type Warning = Fault;

/// All that is wrong with a file, in the order of its lines; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    /// The faults; those past [`Faults::MOST`] are only counted.
    pub faults: Vec<Fault>,
    /// The warnings beside them.
    pub warnings: Vec<Warning>,
    /// How many more faults there are.
    pub hidden: usize,
}

impl Fault {
    /// A fault of the file as a whole.
    pub(super) fn of_file(file: &str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            column: None,
            key: String::new(),
            message: message.into(),
            help: help.into(),
            warning: false,
            excerpt: None,
        }
    }

    /// Its first line: the place and the sentence.
    pub fn headline(&self) -> String {
        let mut line = self.file.clone();
        for number in [self.line, self.column].into_iter().flatten() {
            line.push_str(&format!(":{number}"));
        }
        line.push_str(if self.warning { ": warning: " } else { ": " });
        if !self.key.is_empty() {
            line.push_str(&format!("{}: ", self.key));
        }
        line + &self.message
    }
}

impl Faults {
    /// Faults that are kept of one file.
    pub const MOST: usize = 1000;

    /// Faults with the one that kept the file from being read.
    pub(super) fn one(fault: Fault) -> Self {
        Self { faults: vec![fault], warnings: Vec::new(), hidden: 0 }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.faults.len() + self.hidden
    }

    /// One line for a log or a status: the first fault, and how many there are beside it.
    pub fn summary(&self) -> String {
        let first = self.faults.first().map(Fault::headline).unwrap_or_default();
        match self.count() {
            0 | 1 => first,
            count => format!("{first} (and {} more)", count - 1),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.headline())?;
        if let (Some(excerpt), Some(line)) = (&self.excerpt, self.line) {
            write!(f, "\n{line:>5} | {}\n      | {}", excerpt.line, excerpt.mark)?;
        }
        if !self.help.is_empty() {
            write!(f, "\n   help: {}", self.help)?;
        }
        Ok(())
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, fault) in self.faults.iter().enumerate() {
            let end = if number == 0 { "" } else { "\n" };
            write!(f, "{end}{fault}")?;
        }
        if self.hidden > 0 {
            write!(f, "\n{} more faults are not shown", self.hidden)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
