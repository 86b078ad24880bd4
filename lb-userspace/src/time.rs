//! Moments as arguments, and how times are written: nothing but [`control`](crate::control) and its tasks reads a clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The units and their milliseconds, from small to large.
pub const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// One moment, for counting and for showing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// What durations are counted from; never goes back.
    pub at: Instant,
    /// What people are shown.
    pub wall: SystemTime,
}

impl Now {
    /// This moment.
    pub fn read() -> Self {
        Self { at: Instant::now(), wall: SystemTime::now() }
    }

    /// A moment later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self { at: self.at + time, wall: self.wall + time }
    }

    /// An earlier moment, of which only the time of day is known; now, where that is later.
    #[must_use]
    pub fn before(self, wall: SystemTime) -> Self {
        let passed = self.wall.duration_since(wall).unwrap_or_default();
        self.at.checked_sub(passed).map_or(self, |at| Self { at, wall: self.wall - passed })
    }
}

/// RFC 3339 in UTC, to the millisecond.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days as i64);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// Unix time of what [`rfc3339`] wrote; zero for what it cannot have written.
pub fn seconds(text: &str) -> f64 {
    let number = |from: usize, to: usize| text.get(from..to).and_then(|part| part.parse::<i64>().ok()).unwrap_or(0);
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    if !text.is_ascii() || text.len() != 24 || month == 0 {
        return 0.0;
    }
    // As in `date`: a year begins in March.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5 + day - 1 - 719_468;
    let seconds = days * 86_400 + number(11, 13) * 3600 + number(14, 16) * 60 + number(17, 19);
    seconds as f64 + number(20, 23) as f64 / 1000.0
}

/// A duration as the file would write it.
pub fn spelt(duration: Duration) -> String {
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

/// The civil date of a day since 1970-01-01: eras of 400 years that begin on 1 March, so that leap
/// days come last (Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (year + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_earlier_moment_is_never_later() {
        let now = Now::read();
        let second = Duration::from_secs(1);
        assert_eq!(now.after(second).before(now.wall), now);
        assert_eq!(now.before(now.wall + second), now);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let shown = |seconds: u64, millis: u64| {
            rfc3339(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millis))
        };
        assert_eq!(shown(0, 0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(951_782_400, 7), "2000-02-29T00:00:00.007Z");
        assert_eq!(shown(1_709_251_199, 999), "2024-02-29T23:59:59.999Z");
        assert_eq!(shown(4_107_542_399, 0), "2100-02-28T23:59:59.000Z");
        assert_eq!(shown(4_107_542_400, 0), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn what_was_written_is_read_again() {
        for seconds_of in [0, 951_782_400, 1_709_251_199, 1_709_251_200, 4_107_542_399, 4_107_542_400] {
            let text = rfc3339(UNIX_EPOCH + Duration::from_millis(seconds_of * 1000 + 250));
            assert_eq!(seconds(&text), seconds_of as f64 + 0.25, "{text}");
        }
        assert_eq!(["", "2024-02-29", "2024-00-29T00:00:00.000Z", "äöü"].map(seconds), [0.0; 4]);
    }
}
