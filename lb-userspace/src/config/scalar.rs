//! What single words and numbers mean: durations, numbers, names, choices.
//!
//! Pure functions from text to value. They know nothing of the file, so they complain about parts of
//! the text, and the caller says where that is.

use std::{ops::RangeInclusive, time::Duration};

use super::{keys::closest, report::Complaint};

/// The characters of a value that a message repeats.
const SHOWN: usize = 40;
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A text as a message repeats it: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = clean(text).chars().take(SHOWN).collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    if shown.trim().is_empty() { format!("\"{shown}\"") } else { shown }
}

/// A text without control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
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
    let help = format!("write a whole number from {least} to {most}");
    let beyond = || Complaint::new(format!("{} is not {noun} ({least} to {most})", shown(text)), "");
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
    Err(Complaint::new(message, help))
}

/// A duration as `2s`, `500ms` or `2h10m`, within bounds.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Complaint> {
    let duration = any_duration(text)?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (spelt(*range.start()), spelt(*range.end()));
    Err(Complaint::new(format!("{} is out of bounds ({least} to {most})", shown(text)), ""))
}

/// A duration of any length: numbers and units, from the largest unit to the smallest.
fn any_duration(text: &str) -> Result<Duration, Complaint> {
    const HELP: &str = "write a number and its unit (ms, s, m, h, d), like 500ms, 2s or 2h10m";
    let complaint = |why: &str| Complaint::new(format!("{} is not a duration{why}", shown(text)), HELP);
    let mut millis = 0u64;
    let mut last_unit = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let at = text.len() - rest.len();
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number = rest[..digits].parse::<u64>();
        rest = &rest[digits..];
        let letters = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        let (unit, after) = rest.split_at(letters);
        rest = after;
        let number = match number {
            Ok(number) => number,
            Err(_) if digits > 0 => return Err(complaint(": it is too long").at(at..at + digits)),
            Err(_) => return Err(complaint("")),
        };
        if unit.is_empty() {
            let why = if rest.starts_with('.') { ": only whole numbers" } else { ": its unit is missing" };
            return Err(if text.len() == digits { complaint(why) } else { complaint(why).at(at..at + digits) });
        }
        let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(
                complaint(&format!(": {} is not a unit", shown(unit))).at(at + digits..at + digits + unit.len())
            );
        };
        if *factor >= last_unit {
            return Err(complaint(": larger units come first, each once"));
        }
        last_unit = *factor;
        millis = number
            .checked_mul(*factor)
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| complaint(": it is too long"))?;
    }
    if last_unit == u64::MAX { Err(complaint("")) } else { Ok(Duration::from_millis(millis)) }
}

/// A duration as the file would write it.
pub(super) fn spelt(duration: Duration) -> String {
    let mut millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, factor) in UNITS.iter().rev() {
        if millis >= *factor {
            text.push_str(&format!("{}{unit}", millis / factor));
            millis %= factor;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(text: &str, now: &[(&str, T)], later: &[&str]) -> Result<T, Complaint> {
    if let Some((_, choice)) = now.iter().find(|(name, _)| *name == text) {
        return Ok(*choice);
    }
    let names = alternatives(now.iter().map(|(name, _)| *name));
    let help = format!("write {names}");
    if later.contains(&text) {
        return Err(Complaint::new(format!("this version does not have {} yet", shown(text)), help));
    }
    let likely = closest(text, now.iter().map(|(name, _)| *name).chain(later.iter().copied()));
    let help = match likely {
        Some(word) if later.contains(&word) => {
            format!("did you mean {word}? this version does not have it yet: {help}")
        }
        Some(word) => format!("did you mean {word}?"),
        None => help,
    };
    Err(Complaint::new(format!("{} is not {}{names}", shown(text), if now.len() > 1 { "one of " } else { "" }), help))
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
        return Err(Complaint::new(format!("{} is {} characters long (at most {most})", shown(text), text.len()), ""));
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
    fn durations_have_units() {
        let all = Duration::ZERO..=Duration::MAX;
        let millis = |text| duration(text, all.clone()).map(|d| d.as_millis()).map_err(|c| c.message);
        assert_eq!(millis("500ms"), Ok(500));
        assert_eq!(millis("60s"), Ok(60_000));
        assert_eq!(millis("2h10m"), Ok(7_800_000));
        assert_eq!(millis("1d2h3m4s5ms"), Ok(93_784_005));
        assert_eq!(millis("0s"), Ok(0));
        for (text, why) in [
            ("60", "60 is not a duration: its unit is missing"),
            ("2h10", "2h10 is not a duration: its unit is missing"),
            ("", "\"\" is not a duration"),
            ("s", "s is not a duration"),
            ("-5s", "-5s is not a duration"),
            ("1.5s", "1.5s is not a duration: only whole numbers"),
            ("5 s", "5 s is not a duration: its unit is missing"),
            ("5min", "5min is not a duration: min is not a unit"),
            ("5m2h", "5m2h is not a duration: larger units come first, each once"),
            ("5s5s", "5s5s is not a duration: larger units come first, each once"),
            ("99999999999999999999s", "99999999999999999999s is not a duration: it is too long"),
            ("9999999999999999999d", "9999999999999999999d is not a duration: it is too long"),
            ("5µs", "5µs is not a duration: its unit is missing"),
        ] {
            assert_eq!(millis(text), Err(why.into()), "{text}");
        }
    }

    #[test]
    fn durations_are_spelt_as_they_are_read() {
        for text in ["10ms", "1h", "2h10m", "1d2h3m4s5ms", "0s"] {
            assert_eq!(duration(text, Duration::ZERO..=Duration::MAX).map(spelt), Ok(text.to_owned()));
        }
    }

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
