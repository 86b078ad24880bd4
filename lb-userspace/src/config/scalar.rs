//! What single words and numbers mean: numbers, names, choices.
//!
//! Pure functions from text to value. They know nothing of the file, so they complain about parts of
//! the text, and the caller says where that is.

use std::ops::RangeInclusive;

use super::{keys::closest, report::Complaint};

/// The characters of a value that a message repeats.
const SHOWN: usize = 40;

/// A text as a message repeats it: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = clean(text).chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    if shown.trim().is_empty() { format!("\"{shown}\"") } else { shown }
}

/// A text without characters that could upset a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(harmless).collect()
}

/// The character, or another one for those that a terminal obeys or that turn the line around (Unicode
/// bidirectional controls).
pub(super) fn harmless(character: char) -> char {
    match character {
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        _ if character.is_control() => char::REPLACEMENT_CHARACTER,
        _ => character,
    }
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn alternatives<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.collect();
    match words.split_last() {
        Some((last, [])) => (*last).to_owned(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// A whole decimal number. `noun` completes "70000 is not …".
pub(super) fn number(text: &str, noun: &str, range: RangeInclusive<u32>) -> Result<u32, Complaint> {
    let (least, most) = (range.start(), range.end());
    let help = || format!("write a whole number from {least} to {most}");
    let beyond = || Complaint::new(format!("{} is not {noun} ({least} to {most})", shown(text)), help());
    let digits = text.replace('_', "");
    let unsigned = digits.strip_prefix(['-', '+']).unwrap_or(&digits);
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        if unsigned.len() > 1 && unsigned.starts_with('0') {
            // 010 is 8 to YAML 1.1 and 10 to YAML 1.2: nobody should have to know.
            return Err(Complaint::new(format!("{} starts with a zero", shown(text)), "write the number without it"));
        }
        return digits.parse().ok().filter(|number| range.contains(number)).ok_or_else(beyond);
    }
    let message = match text.parse::<f64>() {
        Ok(_) => format!("{} is not a whole number", shown(text)),
        Err(_) => format!("{} is not a number", shown(text)),
    };
    Err(Complaint::new(message, help()))
}

/// One of a few words. Words of `later` are promised, and this version does not have them.
pub(super) fn choice<T: Copy>(text: &str, now: &[(&str, T)], later: &[&str], help: &str) -> Result<T, Complaint> {
    if let Some((_, choice)) = now.iter().find(|(name, _)| *name == text) {
        return Ok(*choice);
    }
    if later.contains(&text) {
        return Err(Complaint::new(format!("this version does not have {text} yet"), help));
    }
    let names = || now.iter().map(|(name, _)| *name);
    let help = match closest(text, names().chain(later.iter().copied())) {
        Some(word) if later.contains(&word) => {
            format!("did you mean {word}? This version does not have it yet: {help}")
        }
        Some(word) => format!("did you mean {word}?"),
        None => help.to_owned(),
    };
    let one_of = if now.len() > 1 { "one of " } else { "" };
    Err(Complaint::new(format!("{} is not {one_of}{}", shown(text), alternatives(names())), help))
}

/// A name of a service or backend.
pub(super) fn name(text: &str) -> Result<(), Complaint> {
    const HELP: &str = "letters, digits, `-`, `_` and `.` may stand in a name";
    let most = lb_common::limits::NAME_OCTETS;
    if text.is_empty() {
        return Err(Complaint::new("a name cannot be empty", HELP));
    }
    if let Some((at, bad)) = text.char_indices().find(|(_, c)| !c.is_ascii_alphanumeric() && !"-_.".contains(*c)) {
        let message = format!("{} is not a name: {} cannot stand in one", shown(text), shown(&bad.to_string()));
        return Err(Complaint::new(message, HELP).at(at..at + bad.len_utf8()));
    }
    if text.len() > most {
        return Err(Complaint::new(
            format!("{} is {} characters long (at most {most})", shown(text), text.len()),
            "shorten it",
        ));
    }
    Ok(())
}

/// The name of a NIC, by the rules of the kernel (`dev_valid_name` in net/core/dev.c).
pub(super) fn interface(text: &str) -> Result<String, Complaint> {
    let valid = !text.is_empty()
        && text.len() < 16
        && !matches!(text, "." | "..")
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':'));
    let help = "1 to 15 characters without blanks, `/` and `:`, as `ip link` shows them";
    if valid {
        Ok(text.to_owned())
    } else {
        Err(Complaint::new(format!("{} is not the name of an interface", shown(text)), help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_whole_and_decimal() {
        let weight = |text| number(text, "a weight", 0..=65_535).map_err(|c| c.message);
        assert_eq!(weight("0"), Ok(0));
        assert_eq!(weight("65_535"), Ok(65_535));
        for (text, why) in [
            ("65536", "65536 is not a weight (0 to 65535)"),
            ("-1", "-1 is not a weight (0 to 65535)"),
            ("99999999999999999999", "99999999999999999999 is not a weight (0 to 65535)"),
            ("1.5", "1.5 is not a whole number"),
            ("1e3", "1e3 is not a whole number"),
            ("010", "010 starts with a zero"),
            ("0x10", "0x10 is not a number"),
            ("many", "many is not a number"),
            ("_", "_ is not a number"),
        ] {
            assert_eq!(weight(text), Err(why.into()), "{text}");
        }
    }

    #[test]
    fn what_a_message_repeats_is_short_and_harmless() {
        assert_eq!(shown(&"x".repeat(1000)).chars().count(), SHOWN + 1);
        assert_eq!(shown("a\u{1b}[0m"), "a\u{fffd}[0m");
        assert_eq!(shown(""), "\"\"");
    }

    #[test]
    fn names_of_interfaces_are_the_kernels() {
        for good in ["eth0", "enp3s0f1np1", "eth0.100", "a"] {
            assert!(interface(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "eth0:1", "sixteen-letters-"] {
            assert!(interface(bad).is_err(), "{bad}");
        }
    }
}
