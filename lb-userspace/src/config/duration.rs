//! Durations as an operator writes them: `500ms`, `2s`, `2h10m`. A number without a unit is no duration.

use std::{ops::RangeInclusive, time::Duration};

use super::{report::Complaint, scalar::shown};
use crate::time::{UNITS, spelt};

/// A duration within bounds.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, Complaint> {
    let duration = unbounded(text)?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let (least, most) = (spelt(*range.start()), spelt(*range.end()));
    Err(Complaint::new(
        format!("{} is out of bounds ({least} to {most})", shown(text)),
        format!("write a time from {least} to {most}"),
    ))
}

/// A duration of any length: numbers with units, from the largest unit to the smallest.
fn unbounded(text: &str) -> Result<Duration, Complaint> {
    let mut millis = 0u64;
    let mut last = u64::MAX;
    let mut at = 0;
    while at == 0 || at < text.len() {
        let (number, factor, end) = part(text, at)?;
        if factor >= last {
            return Err(complaint(text, ": larger units come first, each once"));
        }
        millis = number
            .checked_mul(factor)
            .and_then(|part| millis.checked_add(part))
            .ok_or_else(|| complaint(text, ": it is too long"))?;
        (last, at) = (factor, end);
    }
    Ok(Duration::from_millis(millis))
}

/// The number at `at`, the milliseconds of its unit, and where both end.
fn part(text: &str, at: usize) -> Result<(u64, u64, usize), Complaint> {
    let until = |from: usize, end: fn(char) -> bool| text[from..].find(end).map_or(text.len(), |length| from + length);
    let digits = until(at, |c| !c.is_ascii_digit());
    let end = until(digits, |c| !c.is_ascii_alphabetic());
    let unit = &text[digits..end];
    if digits == at {
        return Err(complaint(text, ""));
    }
    if unit.is_empty() {
        let decimal = text[end..].starts_with('.');
        let why = if decimal { ": only whole numbers" } else { ": its unit is missing" };
        return Err(complaint(text, why).at(at..digits));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(complaint(text, &format!(": {} is not a unit", shown(unit))).at(digits..end));
    };
    let number = text[at..digits].parse().map_err(|_| complaint(text, ": it is too long").at(at..digits))?;
    Ok((number, *factor, end))
}

fn complaint(text: &str, why: &str) -> Complaint {
    let help = "write a number and its unit (ms, s, m, h, d), like 500ms, 2s or 2h10m";
    Complaint::new(format!("{} is not a duration{why}", shown(text)), help)
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
}
