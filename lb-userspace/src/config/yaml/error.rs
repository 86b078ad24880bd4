//! What is not YAML, said in words that help.
//!
//! The parser's own sentences speak of its state; a person wants to know which character to change.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::{Broken, DEPTH, span};
use crate::config::report::Complaint;

const QUOTE: &str = "quote the whole value if this character belongs to it";
const UNCLOSED: &str = "look for a `[`, `{` or quote that is not closed, here or in the lines above";
const INDENT: &str = "check the indentation of this line and the one above, and the space after each `:`; quote a value that contains `: `";
const TABS: &str = "indent with spaces";

/// The parser's error as a fault of the file.
pub(super) fn broken(source: &str, cause: &ScanError) -> Broken {
    let marker = *cause.marker();
    let mut at = span(marker, marker);
    at.end = source[at.start..]
        .chars()
        .next()
        .filter(|c| !matches!(c, '\n' | '\r'))
        .map_or(at.end, |c| at.start + c.len_utf8());
    if let Some(length) = bracketed_before(&source[..at.start], &source[at.start..]) {
        at.start -= length;
        at.column -= length;
        return Broken {
            span: at,
            complaint: Complaint::new(
                "an address in brackets needs quotes: YAML reads `[` as the start of a list",
                "write \"[2001:db8::10]:80\" in quotes; but this version does not have IPv6 yet",
            ),
        };
    }
    let (message, help) = sentence(cause);
    Broken { span: at, complaint: Complaint::new(message, help) }
}

/// How many octets before the error an unquoted `[address]` takes that a `:port` follows.
fn bracketed_before(before: &str, after: &str) -> Option<usize> {
    let inner = before.strip_suffix(']')?;
    let start = inner.rfind(['[', '\n'])?;
    let address = inner[start..].strip_prefix('[')?;
    let port = after.strip_prefix(':')?.starts_with(|c: char| c.is_ascii_digit());
    let hexadecimal = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
    (port && address.contains(':') && address.chars().all(hexadecimal)).then_some(before.len() - start)
}

/// What is wrong, and what to do.
fn sentence(cause: &ScanError) -> (String, &'static str) {
    match cause.kind() {
        ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => ("not YAML: a tab where only spaces may stand".into(), TABS),
        ErrorKind::UnknownAnchor => (
            "no anchor of this name stands above".into(),
            "define it before with `&name`, or quote a value that starts with `*`",
        ),
        ErrorKind::RecursionLimitExceeded => {
            (format!("nested deeper than {DEPTH} levels"), "look for a bracket or a line that is indented by mistake")
        }
        ErrorKind::UnexpectedCharacter { character } => {
            (format!("not YAML: a value cannot start with {}", name(*character)), QUOTE)
        }
        ErrorKind::MappingValueNotAllowed => ("not YAML: no `key: value` can stand here".into(), INDENT),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::SimpleKeyExpected => {
            ("not YAML: a key and a `:` are expected here".into(), INDENT)
        }
        ErrorKind::BlockSequenceEntryNotAllowed => (
            "not YAML: a list with `-` cannot start here".into(),
            "put each `- item` on its own line, or write [item, item]",
        ),
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => {
            ("not YAML: a quote is not closed".into(), UNCLOSED)
        }
        ErrorKind::UnclosedFlowCollection { open } => (format!("not YAML: `{open}` is not closed"), UNCLOSED),
        ErrorKind::InvalidColonPlacement
        | ErrorKind::InvalidFlowScalarIndent
        | ErrorKind::ExpectedFlowMappingSeparator
        | ErrorKind::ExpectedFlowSequenceSeparator
        | ErrorKind::UnexpectedEof
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence => (format!("not YAML: {}", cause.kind()), UNCLOSED),
        other => (format!("not YAML: {other}"), INDENT),
    }
}

/// A character as a person names it.
fn name(character: char) -> String {
    if character.is_control() {
        format!("the control character U+{:04X}", character as u32)
    } else {
        format!("`{character}`")
    }
}

#[cfg(test)]
mod tests {
    use super::super::read;

    #[track_caller]
    fn at(source: &str) -> (usize, usize, String) {
        let broken = read(source).expect_err("a fault");
        (broken.span.line, broken.span.column, broken.complaint.message)
    }

    #[test]
    fn an_unquoted_address_in_brackets_is_explained() {
        let message = "an address in brackets needs quotes: YAML reads `[` as the start of a list";
        assert_eq!(at("a:\n  listen: [2001:db8::10]:80\n"), (2, 11, message.into()));
        assert_eq!(at("a:\n  - [2001:db8::10]:80\n"), (2, 5, message.into()));
    }

    #[test]
    fn common_slips_have_words_of_their_own() {
        assert_eq!(at("a:\n\tb: 1\n"), (2, 2, "not YAML: a tab where only spaces may stand".into()));
        assert_eq!(at("a: @x\n"), (1, 4, "not YAML: a value cannot start with `@`".into()));
        assert_eq!(at("a: x\0y\n"), (1, 5, "not YAML: a value cannot start with the control character U+0000".into()));
        assert_eq!(at("a: 1\n b: 2\n"), (2, 3, "not YAML: no `key: value` can stand here".into()));
        assert_eq!(at("a: \"b\nc: 2\n"), (2, 1, "not YAML: a quote is not closed".into()));
        assert_eq!(at("a: *b\n"), (1, 4, "no anchor of this name stands above".into()));
    }

    #[test]
    fn an_error_at_the_end_of_the_text_has_a_place() {
        assert_eq!(at("a: [1, 2").0, 1);
        assert_eq!(at("a: {b: [é").0, 1);
    }
}
