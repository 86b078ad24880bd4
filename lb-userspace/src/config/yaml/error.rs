//! What is not YAML, said in words that help.
//!
//! The parser's own sentences speak of its state; a person wants to know which character to change.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use super::{Broken, DEPTH, span};
use crate::config::{report::Complaint, tree::Span};

const QUOTE: &str = "quote the whole value if this character belongs to it";
const UNCLOSED: &str = "look for a `[`, `{` or quote that is not closed, here or in the lines above";
const INDENT: &str = "check the indentation of this line and the one above, and the space after each `:`; quote a value that contains `: `";
const TABS: &str = "indent with spaces";
const ITEMS: &str = "put each `- item` on its own line, or write [item, item]";
const QUOTES: &str = "look for a quote that is not closed, here or in the lines above";
const ANCHOR: &str = "define it before with `&name`, or quote a value that starts with `*`";
const DEEP: &str = "look for a bracket or a line that is indented by mistake";

/// The parser's error as a fault of the file. `bracket` is the innermost one that is open, and its line.
pub(super) fn broken(source: &str, cause: &ScanError, bracket: Option<(char, usize)>) -> Broken {
    let marker = *cause.marker();
    let mut at = span(marker, marker);
    let next = source[at.start..].chars().next().filter(|c| !matches!(c, '\n' | '\r'));
    at.end += next.map_or(0, char::len_utf8);
    // What follows `[address]` is where the parser stops to understand.
    if let Some(inner) = source[..at.start].strip_suffix(']')
        && let Some(length) = inner.rfind(['[', '\n']).map(|start| at.start - start)
        && let Some(column) = at.column.checked_sub(length)
        && let Some(broken) = bracketed_address(source, Span { start: at.start - length, column, ..at })
    {
        return broken;
    }
    let (message, help) = sentence(cause);
    let help = match bracket {
        Some((bracket, line)) if help == UNCLOSED => format!("the `{bracket}` of line {line} is still open"),
        _ if help == INDENT && glued(&source[..at.start]) => {
            format!("a space is missing after the `:` of line {}", at.line - 1)
        }
        _ => help.to_owned(),
    };
    Broken { span: at, complaint: Complaint::new(message, help) }
}

/// Whether the line before the last has a key without a space after its `:`. YAML reads that as text,
/// which goes on in the next line, and stumbles there.
fn glued(before: &str) -> bool {
    let Some((key, value)) = before.lines().nth_back(1).and_then(|line| line.trim().split_once(':')) else {
        return false;
    };
    let word = !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
    word && value.starts_with(|c: char| !c.is_whitespace())
}

/// The fault of an unquoted `[address]:port` at this place, if that is what stands there.
pub(super) fn bracketed_address(source: &str, at: Span) -> Option<Broken> {
    let (address, rest) = source[at.start..].strip_prefix('[')?.split_once(']')?;
    let port = rest.strip_prefix(':')?;
    let valid = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.');
    if !address.contains(':') || !address.chars().all(valid) || !port.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = port.find(|c: char| !c.is_ascii_digit()).unwrap_or(port.len());
    let end = at.start + "[]:".len() + address.len() + digits;
    Some(Broken::new(
        Span { end, ..at },
        "an address in brackets needs quotes: YAML reads `[` as the start of a list",
        "write it like \"[2001:db8::10]:80\"; but this version does not have IPv6 yet",
    ))
}

/// What is wrong, and what to do.
fn sentence(cause: &ScanError) -> (String, &'static str) {
    let words = match cause.kind() {
        ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabNotAllowed
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => ("a tab where only spaces may stand", TABS),
        ErrorKind::MappingValueNotAllowed => ("no `key: value` can stand here", INDENT),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::SimpleKeyExpected => {
            ("a key and a `:` are expected here", INDENT)
        }
        ErrorKind::BlockSequenceEntryNotAllowed => ("a list with `-` cannot start here", ITEMS),
        ErrorKind::UnclosedQuotedScalar | ErrorKind::InvalidQuotedScalarIndent => ("a quote is not closed", QUOTES),
        ErrorKind::InvalidColonPlacement => ("a `:` cannot stand here", UNCLOSED),
        ErrorKind::ExpectedFlowMappingSeparator => ("a `,` or `}` is expected here", UNCLOSED),
        ErrorKind::ExpectedFlowSequenceSeparator => ("a `,` or `]` is expected here", UNCLOSED),
        ErrorKind::InvalidFlowScalarIndent => ("the lines within brackets have to be indented", UNCLOSED),
        ErrorKind::UnexpectedEof
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnclosedFlowCollection { .. } => ("the file ends within brackets", UNCLOSED),
        ErrorKind::UnknownAnchor => return ("no anchor of this name stands above".into(), ANCHOR),
        ErrorKind::RecursionLimitExceeded => return (format!("nested deeper than {DEPTH} levels"), DEEP),
        ErrorKind::UnexpectedCharacter { character } => {
            return (format!("not YAML: a value cannot start with {}", name(*character)), QUOTE);
        }
        other => return (format!("not YAML: {other}"), INDENT),
    };
    (format!("not YAML: {}", words.0), words.1)
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
